import Commands
import Forwarding
import Simulation
import Testing
import Transport
import Wire

/// Scalable encodings: viewers are sent the layers that their networks carry and their decoders can tell apart.
@Suite struct LayerTests {
    private static let track = TrackID(rawValue: 1)
    private static let sourceSSRC: UInt32 = 0x1111_1111
    private static let viewerSSRC: UInt32 = 0x2222_2222
    private static let interval = 3_000
    private static let contentsMark: [UInt8] = [0xAA, 0xBB, 0xCC, 0xDD]
    /// The temporal layers of four pictures in a row: L1T3's pattern, and L1T2's.
    private static let patterns: [[UInt8]] = [[0, 0, 0, 0], [0, 1, 0, 1], [0, 2, 1, 2]]

    /// Publishes 30 pictures a second of some layers; two packets for each layer's frame.
    private final class Camera {
        let client: SimulatedClient
        private let simulation: Simulation
        private let codec: Codec
        private let spatial: UInt8
        private let pattern: [UInt8]
        private(set) var pictures = 0
        private var sequence: UInt64 = 30_000
        private var levelZero: UInt8 = 250
        private var frame: UInt16 = 65_000
        private var requests = 0
        /// Packets, by their place in the picture, that don't reach the server at once.
        var holdsBack: (_ picture: Int, _ spatial: UInt8, _ part: Int) -> Bool = { _, _, _ in false }
        private var heldBack: [() -> Void] = []
        /// Whether it marks where a decoder may go up to a temporal layer.
        var marksSwitchPoints = true

        init(_ client: SimulatedClient, in simulation: Simulation, codec: Codec, spatial: UInt8, temporal: Int) {
            self.client = client
            self.simulation = simulation
            self.codec = codec
            self.spatial = spatial
            pattern = patterns[temporal - 1]
        }

        func run(for duration: Duration) {
            var rest = duration
            while rest > .zero {
                send()
                simulation.run(for: .milliseconds(33))
                rest -= .milliseconds(33)
            }
        }

        func sendHeldBack() {
            for send in heldBack { send() }
            heldBack = []
        }

        private func send() {
            let asked = client.controlPackets { packet, _ in
                if case .pictureLossIndication(_, sourceSSRC) = packet { true } else { nil }
            }.count
            let isKeyframe = pictures == 0 || asked > requests
            requests = asked
            if isKeyframe { start = pictures }
            let temporal = pattern[(pictures - start) % 4]
            if temporal == 0 { levelZero &+= 1 }
            for layer in 0..<spatial {
                frame &+= 1
                for part in 0..<2 { send(layer, temporal, part: part, isKeyframe: isKeyframe) }
            }
            pictures += 1
        }

        private var start = 0

        private func send(_ layer: UInt8, _ temporal: UInt8, part: Int, isKeyframe: Bool) {
            let head = head(layer, temporal, part: part, isKeyframe: isKeyframe)
            let number = sequence
            sequence += 1
            let isLast = layer == spatial - 1 && part == 1
            let timestamp = UInt32(pictures * interval)
            let elements = descriptor(layer, part: part, isKeyframe: isKeyframe && layer == 0 && part == 0)
            // What it is, behind all descriptors.
            let body = head + contentsMark + [layer, temporal] + [UInt8](repeating: 7, count: 200)
            let packet = { [client] in
                client.send(
                    sequence: number,
                    timestamp: timestamp,
                    ssrc: sourceSSRC,
                    marker: isLast,
                    elements: elements,
                    payload: body
                )
            }
            if holdsBack(pictures, layer, part) { heldBack.append(packet) } else { packet() }
        }

        private func head(_ layer: UInt8, _ temporal: UInt8, part: Int, isKeyframe: Bool) -> [UInt8] {
            let number = [0x80 | UInt8(pictures >> 8 & 0x7F), UInt8(pictures & 255)]
            switch codec {
            case .vp9:
                // I, P, L, B and E; T, U, S and D.
                let first: UInt8 = 0xA0 | (isKeyframe ? 0 : 0x40) | (part == 0 ? 0x08 : 0x04)
                return [first] + number + [
                    temporal << 5 | (marksSwitchPoints ? 0x10 : 0) | layer << 1 | (layer > 0 ? 1 : 0), levelZero,
                ]
            case .av1:
                // Z and Y, W, N; the sequence header of a keyframe, or a frame with its layer.
                if part == 1 { return [0x90] }
                let isFirst = isKeyframe && layer == 0
                return isFirst ? [0x58, 0x0A] : [0x50, 0x34, temporal << 5 | layer << 3]
            default:
                // S; X with I, L and T; all switch.
                let key: UInt8 = isKeyframe && part == 0 ? 0 : 1
                return [part == 0 ? 0x90 : 0x80, 0xE0] + number + [levelZero, temporal << 6 | 0x20, key]
            }
        }

        /// A dependency descriptor of `L2T1`, for AV1.
        private func descriptor(_ layer: UInt8, part: Int, isKeyframe: Bool) -> [UInt8] {
            guard codec == .av1 else { return [] }
            let flags: UInt8 = part == 0 ? 0x80 : 0x40
            var value = [flags | layer, UInt8(frame >> 8), UInt8(frame & 255)]
            // Templates of two spatial layers, two decode targets; switch and switch, not present and switch.
            if isKeyframe { value += [0x80, 0x01, 0xBA, 0x20] }
            return [0x30 | UInt8(value.count - 1)] + value
        }
    }

    private struct Packet {
        let header: RTPHeader
        let bytes: [UInt8]

        /// Behind the descriptors; nil where there is only padding.
        var contents: ArraySlice<UInt8>? {
            let payload = bytes[header.payloadOffset...]
            guard let place = payload.indices.first(where: { payload[$0...].starts(with: contentsMark) }) else {
                return nil
            }
            return bytes[(place + contentsMark.count)...].prefix(2)
        }
        var spatial: UInt8? { contents?.first }
        var temporal: UInt8? { contents?.dropFirst().first }
    }

    private struct Call {
        let simulation: Simulation
        let camera: Camera
        let viewer: SimulatedClient

        /// What came, in the order of the numbers that the viewer sees.
        var packets: [Packet] {
            var unwrapper = SequenceNumberUnwrapper()
            return zip(viewer.headers(), viewer.received)
                .filter { $0.0.ssrc == viewerSSRC }
                .map { (unwrapper.unwrap($0.0.sequenceNumber), Packet(header: $0.0, bytes: $0.1)) }
                .sorted { $0.0 < $1.0 }
                .map(\.1)
        }

        func report(fractionLost: UInt8) {
            viewer.report(on: viewerSSRC, fractionLost: fractionLost)
        }

        func pause(_ isPaused: Bool) {
            simulation.apply(
                .pauseSubscription(PeerID(rawValue: 2), ssrc: viewerSSRC, isPaused: isPaused),
                worker: viewer.worker
            )
        }

        /// Asks for some of the last packets again.
        func ask(forLast count: UInt16, seed: UInt64) {
            guard let last = viewer.headers().last?.sequenceNumber else { return }
            let lost = (0...count).filter { seed >> UInt64($0 % 64) & 1 == 1 }.map { last &- count &+ $0 }
            var nack: [UInt8] = []
            RTCPWriter.nack(sender: 9, media: viewerSSRC, lost: lost[...], to: &nack)
            viewer.send(control: nack)
        }

        /// Reports for some seconds.
        func run(for seconds: Int, fractionLost: UInt8) {
            for _ in 0..<seconds {
                report(fractionLost: fractionLost)
                camera.run(for: .seconds(1))
            }
        }

        /// Which layers came in the last half second.
        var recentLayers: (spatial: UInt8?, temporal: UInt8?) {
            let recent = packets.suffix(2 * 15)
            return (recent.compactMap(\.spatial).max(), recent.compactMap(\.temporal).max())
        }
    }

    private static func call(
        _ codec: Codec,
        spatial: UInt8 = 1,
        temporal: Int = 1,
        knowsDescriptor: Bool = true,
        withRTX: Bool = true,
        workers: Int = 1
    ) throws -> Call {
        let simulation = try Simulation(seed: 1, workers: workers)
        var parameters = MediaParameters(
            mid: "0",
            codec: codec,
            payloadType: 96,
            retransmissionPayloadType: 97,
            headerExtensions: codec == .av1 ? [HeaderExtensionMapping(id: 3, meaning: .dependencyDescriptor)] : [],
            feedback: [.nack, .pictureLossIndication],
            allowsReducedSizeRTCP: true
        )
        let published = PublishedTrack(
            track: track,
            parameters: parameters,
            announcedSources: [AnnouncedSource(ssrc: sourceSSRC, retransmissionSSRC: sourceSSRC + 1)]
        )
        if !knowsDescriptor { parameters.headerExtensions = [] }
        if !withRTX { parameters.retransmissionPayloadType = nil }
        let subscribed = SubscribedTrack(
            track: track,
            home: WorkerIndex(rawValue: 0),
            parameters: parameters,
            ssrc: viewerSSRC,
            retransmissionSSRC: withRTX ? viewerSSRC + 1 : nil,
            cname: "cname"
        )
        let publisher = try simulation.connect(1, published: [published])
        let camera = Camera(publisher, in: simulation, codec: codec, spatial: spatial, temporal: temporal)
        camera.run(for: .milliseconds(200))
        let viewer = try simulation.connect(2, worker: workers - 1, subscribed: [subscribed])
        camera.run(for: .seconds(2))
        return Call(simulation: simulation, camera: camera, viewer: viewer)
    }

    /// No number is left out, and each picture ends with a marker.
    private static func expectContinuity(_ packets: [Packet]) {
        for (last, next) in zip(packets, packets.dropFirst()) {
            #expect(next.header.sequenceNumber == last.header.sequenceNumber &+ 1)
            let later = Int32(bitPattern: next.header.timestamp &- last.header.timestamp)
            #expect(later >= 0 && later < 90_000)
            #expect(last.header.marker == (later > 0), "a marker ends each picture and nothing else")
        }
    }

    @Test(arguments: [1, 2]) func lossTakesLayersAndItsEndBringsThemBack(workers: Int) throws {
        let call = try Self.call(.vp9, spatial: 3, temporal: 3, workers: workers)
        #expect(call.recentLayers == (2, 2))
        call.run(for: 2, fractionLost: 40)
        #expect(call.recentLayers == (2, 1), "half of the frames go first")
        call.run(for: 4, fractionLost: 100)
        #expect(call.recentLayers == (0, 2))
        call.run(for: 2, fractionLost: 40)
        #expect(call.recentLayers == (0, 1))
        var seconds = 0
        while call.recentLayers != (2, 2), seconds < 90 {
            call.run(for: 1, fractionLost: 0)
            seconds += 1
        }
        #expect((10...40).contains(seconds), "it was back after \(seconds) s")
        Self.expectContinuity(call.packets)
    }

    /// Then they come back with a keyframe.
    @Test func temporalLayersComeBackWithoutSwitchPointsToo() throws {
        let call = try Self.call(.vp9, temporal: 3)
        call.camera.marksSwitchPoints = false
        call.run(for: 2, fractionLost: 40)
        #expect(call.recentLayers.temporal == 1)
        call.run(for: 12, fractionLost: 0)
        #expect(call.recentLayers.temporal == 2)
        Self.expectContinuity(call.packets)
    }

    /// GCM loses its secret when one number is sealed with two contents. Whatever a publisher sends, in whatever order, and whatever
    /// its viewer asks for: without RTX what is sent again is the same to the bit.
    @Test(arguments: 1...30) func noNumberIsSealedWithTwoContents(seed: UInt64) throws {
        var random = Simulation.Random(state: seed)
        let codec = [Codec.vp8, .vp9, .av1, .h264][Int(seed % 4)]
        let call = try Self.call(codec, spatial: codec == .vp9 ? 3 : 1, temporal: 3, withRTX: false)
        call.simulation.keepsSent = true
        var sequence: UInt64 = 40_000
        for _ in 0..<1500 {
            switch random.next() % 40 {
            case 0: call.report(fractionLost: UInt8(random.next() % 3 * 60))
            case 1: call.simulation.run(for: .milliseconds(1100))
            case 2: call.pause(random.next() % 4 == 0)
            case 3, 4, 5: call.ask(forLast: UInt16(random.next() % 200), seed: random.next())
            case 6: call.simulation.isBlocked.toggle()
            default: break
            }
            sequence += random.next() % 8 == 0 ? random.next() % 12 : 1
            let late = random.next() % 6 == 0 ? random.next() % 20 : 0
            var payload = (0..<(8 + Int(random.next() % 24))).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            // Some begin keyframes, or nothing would be forwarded.
            if random.next() % 8 == 0 {
                payload.replaceSubrange(
                    0..<2,
                    with: [[0x10, 0], [0x08, 0], [0x18, 0x0A], [0x65, 0]][Int(seed % 4)]
                )
            }
            call.camera.client.send(
                sequence: sequence - late,
                timestamp: UInt32(truncatingIfNeeded: (sequence - late) / 3 * 3_000),
                ssrc: Self.sourceSSRC,
                marker: random.next() % 3 == 0,
                payload: payload
            )
            if random.next() % 2 == 0 { call.simulation.run(for: .milliseconds(1)) }
        }
        var sealed: [UInt16: [UInt8]] = [:]
        for datagram in call.simulation.sent where datagram.destination == call.viewer.address {
            guard datagram.bytes[0] >> 6 == 2, !RTCP.isRTCP(secondByte: datagram.bytes[1]) else { continue }
            let number = UInt16(datagram.bytes[2]) << 8 | UInt16(datagram.bytes[3])
            if let before = sealed.updateValue(datagram.bytes, forKey: number) { #expect(before == datagram.bytes) }
        }
        #expect(sealed.count > 100, "\(codec): \(sealed.count)")
    }

    @Test func picturesThatAreLeftOutHaveNoNumber() throws {
        let call = try Self.call(.vp8, temporal: 3)
        call.run(for: 6, fractionLost: 40)
        #expect(call.recentLayers == (0, 0))
        call.run(for: 30, fractionLost: 0)
        #expect(call.recentLayers == (0, 2))
        let packets = call.packets
        Self.expectContinuity(packets)
        // VP8's picture IDs have no gap, and its index counts the frames of the lowest layer.
        for (last, next) in zip(packets, packets.dropFirst()) {
            let numbers = [last, next].map { packet in
                let payload = packet.bytes[packet.header.payloadOffset...].prefix(5).map(UInt16.init)
                return (picture: (payload[2] & 0x7F) << 8 | payload[3], index: payload[4])
            }
            let isNew = next.header.timestamp != last.header.timestamp
            #expect(numbers[1].picture == (numbers[0].picture + (isNew ? 1 : 0)) & 0x7FFF)
            let isLowest = isNew && next.temporal == 0
            #expect(numbers[1].index == (numbers[0].index + (isLowest ? 1 : 0)) & 0xFF)
        }
    }

    @Test(arguments: [1, 2]) func aViewerThatKnowsNoLayersGetsTheLowestOne(workers: Int) throws {
        let call = try Self.call(.av1, spatial: 2, knowsDescriptor: false, workers: workers)
        let packets = call.packets
        #expect(packets.count > 100)
        #expect(packets.allSatisfy { $0.spatial == 0 })
        Self.expectContinuity(packets)
        let all = try Self.call(.av1, spatial: 2, knowsDescriptor: true, workers: workers)
        #expect(Set(all.packets.compactMap(\.spatial)) == [0, 1])
        Self.expectContinuity(all.packets)
        // It has nothing to gain.
        call.run(for: 20, fractionLost: 0)
        #expect(call.packets.allSatisfy { $0.spatial == 0 })
    }

    /// What comes late has its place: it is sent when it is of a layer that the viewer gets, and only fills the place when not.
    @Test func whatComesLateFillsItsPlace() throws {
        let call = try Self.call(.vp9, spatial: 3)
        call.run(for: 4, fractionLost: 100)
        #expect(call.recentLayers.spatial == 0)
        let picture = call.camera.pictures + 3
        call.camera.holdsBack = { $0 == picture && ($1 == 0 && $2 == 0 || $1 == 1 && $2 == 1) }
        call.camera.run(for: .milliseconds(200))
        #expect(
            zip(call.packets, call.packets.dropFirst()).contains {
                $1.header.sequenceNumber != $0.header.sequenceNumber &+ 1
            }
        )
        call.camera.sendHeldBack()
        call.camera.run(for: .milliseconds(200))
        let packets = call.packets
        for (last, next) in zip(packets, packets.dropFirst()) {
            #expect(next.header.sequenceNumber == last.header.sequenceNumber &+ 1)
        }
        #expect(packets.suffix(40).count { $0.contents == nil } == 1)
        #expect(packets.suffix(40).allSatisfy { ($0.spatial ?? 0) == 0 })
    }

    @Test func whatIsAskedForAgainIsFoundAcrossWhatWasLeftOut() throws {
        let call = try Self.call(.vp9, spatial: 2, temporal: 3)
        call.run(for: 2, fractionLost: 40)
        #expect(call.recentLayers.temporal == 1)
        let wanted = call.packets.suffix(20)
        var nack: [UInt8] = []
        let numbers = wanted.map(\.header.sequenceNumber)
        RTCPWriter.nack(sender: 9, media: Self.viewerSSRC, lost: numbers[...], to: &nack)
        call.viewer.send(control: nack)
        call.simulation.run(for: .milliseconds(5))
        let again = zip(call.viewer.headers(), call.viewer.received)
            .filter { $0.0.ssrc == Self.viewerSSRC + 1 }
            .map { header, bytes in Array(bytes[header.payloadOffset...]) }
        #expect(again.count == 20)
        for (packet, repeated) in zip(wanted, again) {
            #expect(UInt16(repeated[0]) << 8 | UInt16(repeated[1]) == packet.header.sequenceNumber)
            #expect(Array(repeated[2...]) == Array(packet.bytes[packet.header.payloadOffset...]))
        }
    }
}
