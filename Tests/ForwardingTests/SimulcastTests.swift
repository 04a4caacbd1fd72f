import Commands
import Forwarding
import Simulation
import Testing
import Transport
import Wire

/// A camera that is sent as three encodings, of which each viewer gets one.
@Suite struct SimulcastTests {
    private static let tracks = [11, 12, 13].map { TrackID(rawValue: $0) }
    private static let ssrcs: [UInt32] = [0x1000, 0x2000, 0x3000]
    private static let viewerSSRC: UInt32 = 0x2222_2222

    /// A publisher with three encodings, that answers keyframe requests as an encoder does.
    private final class Camera {
        let client: SimulatedClient
        let simulation: Simulation
        /// The encodings that are sent.
        var active: Set<Int> = [0, 1, 2]
        /// Frames so far.
        private(set) var frames: UInt64 = 0
        private var answered = [0, 0, 0]
        private var sequences: [UInt64] = [1_000, 20_000, 40_000]
        /// Whether packets say their encoding by RID.
        var saysRID: Bool
        /// Of each encoding every so many frames are sent.
        var divisors: [UInt64] = [1, 1, 1]

        init(_ client: SimulatedClient, in simulation: Simulation, saysRID: Bool = false) {
            self.client = client
            self.simulation = simulation
            self.saysRID = saysRID
        }

        func requests(_ encoding: Int) -> Int {
            client.controlPackets { packet, _ in
                if case .pictureLossIndication(_, ssrcs[encoding]) = packet { true } else { nil }
            }.count
        }

        /// 50 frames a second.
        func run(for duration: Duration, each: () -> Void = {}) {
            let end = simulation.now + duration
            while simulation.now < end {
                for encoding in active.sorted() where frames % divisors[encoding] == 0 { sendFrame(encoding) }
                frames += 1
                simulation.run(for: .milliseconds(20))
                each()
            }
        }

        private func sendFrame(_ encoding: Int) {
            let asked = requests(encoding)
            let isKeyframe = frames == 0 || asked > answered[encoding]
            answered[encoding] = asked
            let picture = UInt16(100 + 1_000 * encoding) + UInt16(frames)
            // X and S; I and L; the picture's number in 15 bits; TL0PICIDX; P.
            var payload: [UInt8] = [0x90, 0xC0, 0x80 | UInt8(picture >> 8), UInt8(truncatingIfNeeded: picture)]
            payload += [UInt8(truncatingIfNeeded: picture), isKeyframe ? 0 : 1, UInt8(encoding)]
            payload += [UInt8](repeating: 7, count: 100 * (encoding + 1))
            let mid: [UInt8] = [0x10, UInt8(ascii: "0")]
            let rid: [UInt8] = [0x20, "lmh".utf8.map { $0 }[encoding]]
            client.send(
                sequence: sequences[encoding],
                timestamp: UInt32(frames) &* 1_800 &+ ssrcs[encoding],
                ssrc: ssrcs[encoding],
                marker: true,
                elements: saysRID ? mid + rid : [],
                payload: payload
            )
            sequences[encoding] += 1
        }
    }

    private static func published(saysRID: Bool = false) -> [PublishedTrack] {
        tracks.indices.map { place in
            PublishedTrack(
                track: tracks[place],
                parameters: MediaParameters(
                    mid: "0",
                    codec: .vp8,
                    payloadType: 96,
                    retransmissionPayloadType: 97,
                    headerExtensions: saysRID
                        ? [
                            HeaderExtensionMapping(id: 1, meaning: .mid),
                            HeaderExtensionMapping(id: 2, meaning: .rtpStreamID),
                        ] : [],
                    feedback: [.nack, .pictureLossIndication],
                    allowsReducedSizeRTCP: true
                ),
                announcedSources: saysRID ? [] : [AnnouncedSource(ssrc: ssrcs[place])],
                rid: saysRID ? ["l", "m", "h"][place] : nil
            )
        }
    }

    private static let subscribed = SubscribedTrack(
        track: tracks[0],
        higherEncodings: Array(tracks[1...]),
        home: WorkerIndex(rawValue: 0),
        parameters: MediaParameters(
            mid: "v",
            codec: .vp8,
            payloadType: 120,
            retransmissionPayloadType: 121,
            feedback: [.nack, .pictureLossIndication],
            allowsReducedSizeRTCP: true
        ),
        ssrc: viewerSSRC,
        retransmissionSSRC: viewerSSRC + 1,
        cname: "cname"
    )

    private struct Call {
        let simulation: Simulation
        let camera: Camera
        let viewer: SimulatedClient

        /// Which encoding each packet that the viewer got is of.
        var encodings: [Int] { viewer.payloads().map { Int($0[6]) } }

        func limit(to encoding: Int) {
            simulation.apply(
                .limitSubscription(PeerID(rawValue: 2), ssrc: viewerSSRC, highestEncoding: encoding),
                worker: viewer.worker
            )
        }

        /// The viewer reports losses, and a round trip when it is told what the last sender report said.
        func report(fractionLost: UInt8, lastSenderReport: UInt32 = 0) {
            viewer.report(on: viewerSSRC, fractionLost: fractionLost, lastSenderReport: lastSenderReport)
        }
    }

    private static func call(workers: Int = 1, saysRID: Bool = false) throws -> Call {
        let simulation = try Simulation(seed: 1, workers: workers)
        let publisher = try simulation.connect(1, published: published(saysRID: saysRID))
        let camera = Camera(publisher, in: simulation, saysRID: saysRID)
        camera.run(for: .milliseconds(200))
        let viewer = try simulation.connect(2, worker: workers - 1, subscribed: [subscribed])
        return Call(simulation: simulation, camera: camera, viewer: viewer)
    }

    /// What a decoder relies on: no number is left out or comes twice, and time goes on.
    ///
    /// - Parameter longest: How many timestamp units a packet may be later than the one before.
    private static func expectContinuity(_ viewer: SimulatedClient, longest: Int32 = 90_000) {
        let headers = viewer.headers()
        let payloads = viewer.payloads()
        for (index, (last, next)) in zip(headers, headers.dropFirst()).enumerated() {
            #expect(next.sequenceNumber == last.sequenceNumber &+ 1)
            let later = Int32(bitPattern: next.timestamp &- last.timestamp)
            #expect(later > 0 && later < longest, "packet \(index + 1) is \(later) units later")
            let numbers = [payloads[index], payloads[index + 1]].map { UInt16($0[2]) << 8 | UInt16($0[3]) }
            #expect(numbers[1] & 0x7FFF == (numbers[0] &+ 1) & 0x7FFF)
            #expect(payloads[index + 1][4] == payloads[index][4] &+ 1)
            // Another encoding begins with a keyframe.
            if payloads[index + 1][6] != payloads[index][6] { #expect(payloads[index + 1][5] == 0) }
        }
    }

    @Test(arguments: [(1, false), (1, true), (2, false)])
    func aViewerGetsTheBestEncodingAsOneSource(workers: Int, saysRID: Bool) throws {
        let call = try Self.call(workers: workers, saysRID: saysRID)
        call.camera.run(for: .seconds(2))
        #expect(call.encodings.last == 2)
        #expect(call.encodings.filter { $0 == 2 }.count > 60)
        #expect(Set(call.viewer.headers().map(\.ssrc)) == [Self.viewerSSRC])
        Self.expectContinuity(call.viewer)
    }

    @Test(arguments: [1, 2])
    func aViewerGetsNoBetterEncodingThanHeWants(workers: Int) throws {
        let call = try Self.call(workers: workers)
        call.camera.run(for: .seconds(1))
        let before = call.camera.requests(2)
        for limit in [0, 2, 1] {
            call.limit(to: limit)
            call.camera.run(for: .seconds(1))
            #expect(call.encodings.last == limit)
        }
        Self.expectContinuity(call.viewer)
        #expect(call.camera.requests(2) - before == 1, "only the change to it asks for a keyframe of the best encoding")
    }

    @Test func anEncodingThatStopsIsReplacedAndTakenUpAgain() throws {
        let call = try Self.call()
        call.camera.run(for: .seconds(1))
        call.camera.active = [0, 1]
        call.camera.run(for: .seconds(2))
        #expect(call.encodings.last == 1)
        call.camera.active = [0, 1, 2]
        call.camera.run(for: .seconds(2))
        #expect(call.encodings.last == 2)
        // While nothing is sent at all nothing changes.
        let requests = [0, 1, 2].map(call.camera.requests)
        call.simulation.run(for: .seconds(3))
        #expect([0, 1, 2].map(call.camera.requests) == requests)
    }

    @Test func whoGetsOnlyAboveHisLimitGetsTheLowestThereIs() throws {
        let call = try Self.call()
        call.camera.active = [1, 2]
        call.limit(to: 0)
        call.camera.run(for: .seconds(3))
        #expect(call.encodings.last == 1)
    }

    @Test func lossLowersTheEncodingAndItsEndRaisesItAgain() throws {
        let call = try Self.call()
        call.camera.run(for: .seconds(1))
        #expect(call.encodings.last == 2)
        for _ in 0..<2 {
            call.report(fractionLost: 40)
            call.camera.run(for: .seconds(1))
        }
        #expect(call.encodings.last == 1)
        for _ in 0..<2 {
            call.report(fractionLost: 200)
            call.camera.run(for: .seconds(1))
        }
        #expect(call.encodings.last == 0)
        var seconds = 0
        while call.encodings.last != 2, seconds < 60 {
            call.report(fractionLost: 0)
            call.camera.run(for: .seconds(1))
            seconds += 1
        }
        #expect((8...16).contains(seconds), "it was back after \(seconds) s")
        Self.expectContinuity(call.viewer)
    }

    @Test func whatWasTooMuchIsTriedLessAndLessOften() throws {
        let call = try Self.call()
        call.camera.run(for: .seconds(1))
        var changes = 0
        var last = 2
        // A network that carries the lowest encoding and nothing above.
        for _ in 0..<300 {
            call.report(fractionLost: last == 0 ? 0 : 60)
            call.camera.run(for: .seconds(1))
            guard let now = call.encodings.last else { continue }
            if now != last { changes += 1 }
            last = now
        }
        #expect((4...16).contains(changes), "\(changes) changes in five minutes")
        #expect(call.encodings.filter { $0 == 0 }.count > 200 * 50)
    }

    @Test func retransmissionsAreOfTheEncodingThatIsForwarded() throws {
        let call = try Self.call()
        call.camera.run(for: .seconds(1))
        call.limit(to: 0)
        call.camera.run(for: .seconds(1))
        let header = try #require(call.viewer.headers().last)
        var nack: [UInt8] = []
        RTCPWriter.nack(sender: 9, media: Self.viewerSSRC, lost: [header.sequenceNumber][...], to: &nack)
        call.viewer.send(control: nack)
        let count = call.viewer.received.count
        call.simulation.run(for: .milliseconds(5))
        let packet = try #require(call.viewer.received.dropFirst(count).first)
        #expect(packet[1] & 0x7F == 121)
        // The same as before, behind its sequence number: with the picture's number that the viewer knows.
        #expect(Array(packet[14...]) == call.viewer.payloads()[count - 1])
    }

    @Test func viewersWhoChangePlacesInOneTurnDo() throws {
        let call = try Self.call()
        var other = Self.subscribed
        other.ssrc = 0x4444_4444
        other.retransmissionSSRC = 0x4444_4445
        let second = try call.simulation.connect(3, subscribed: [other])
        call.limit(to: 0)
        call.camera.run(for: .seconds(2))
        #expect(call.encodings.last == 0 && second.payloads().last?[6] == 2)
        for _ in 0..<3 {
            // All encodings begin a keyframe in one turn, while the one wants what the other has.
            let isLow = call.encodings.last == 0
            call.limit(to: isLow ? 2 : 0)
            call.simulation.apply(
                .limitSubscription(PeerID(rawValue: 3), ssrc: other.ssrc, highestEncoding: isLow ? 0 : 2)
            )
            call.camera.run(for: .seconds(1))
            #expect(call.encodings.last == (isLow ? 2 : 0))
            #expect(second.payloads().last.map { Int($0[6]) } == (isLow ? 0 : 2))
        }
        Self.expectContinuity(call.viewer)
        Self.expectContinuity(second)
    }

    @Test func anotherTrackOnTheSameLineGetsItsPackets() throws {
        let call = try Self.call(saysRID: true)
        call.camera.run(for: .seconds(1))
        // Whoever has had a report says no RID any more.
        call.camera.saysRID = false
        let tracks = [21, 22, 23].map { TrackID(rawValue: $0) }
        var published = Self.published(saysRID: true)
        for place in published.indices { published[place].track = tracks[place] }
        call.simulation.apply(.setPublished(PeerID(rawValue: 1), published) { #expect($0) })
        call.camera.run(for: .seconds(1))
        let home = call.simulation.snapshot().peers.first { $0.peer == PeerID(rawValue: 1) }
        #expect(home?.tracks.map(\.track) == tracks)
        #expect(home?.tracks.allSatisfy { $0.packetsReceived > 40 } == true)
    }

    /// RIDs that nobody negotiated, that are no text, or that are missing.
    @Test(arguments: [[], [0x20, 0x78], [0x20, 0xFF], [0x2F] + [UInt8](repeating: 0x68, count: 16), [0x20, 0x00]])
    func packetsThatSayNoKnownEncodingAreCountedAndDropped(element: [UInt8]) throws {
        let call = try Self.call(saysRID: true)
        call.camera.run(for: .seconds(1))
        let before = call.simulation.snapshot().counters
        let received = call.viewer.received.count
        for number in UInt64(0)..<100 {
            call.camera.client.send(
                sequence: 500 + number,
                timestamp: 0,
                ssrc: 0x9000 + UInt32(number),
                elements: [0x10, UInt8(ascii: "0")] + element,
                payload: [0x90, 0xC0, 0x80, 1, 1, 0, 0]
            )
            call.simulation.run(for: .milliseconds(1))
        }
        let unknown = DropReason.rtpUnknownSource.rawValue
        let after = call.simulation.snapshot().counters
        #expect(after.drops[unknown] - before.drops[unknown] == 100)
        #expect(call.viewer.received.count == received)
        call.camera.run(for: .seconds(1))
        #expect(call.encodings.last == 2)
        Self.expectContinuity(call.viewer)
    }

    @Test func aPauseIsNoBreakWhateverWasForwardedBefore() throws {
        let call = try Self.call()
        call.camera.run(for: .seconds(1))
        let pause = {
            call.simulation.apply(.pauseSubscription(PeerID(rawValue: 2), ssrc: Self.viewerSSRC, isPaused: $0))
        }
        pause(true)
        let requests = [0, 1, 2].map(call.camera.requests)
        call.limit(to: 0)
        // Longer than the history has packets.
        call.camera.run(for: .seconds(25))
        #expect([0, 1, 2].map(call.camera.requests) == requests, "nobody waits for a keyframe")
        let count = call.viewer.received.count
        pause(false)
        call.camera.run(for: .seconds(1))
        #expect(call.encodings.count > count && call.encodings[count] == 0)
        Self.expectContinuity(call.viewer, longest: 26 * 90_000)
    }

    @Test func aSlowPictureHasNotStopped() throws {
        let call = try Self.call()
        call.camera.run(for: .seconds(1))
        let changes = call.camera.requests(2)
        // One frame a second of the best encoding.
        call.camera.divisors[2] = 50
        call.camera.run(for: .seconds(20))
        let late = call.encodings.suffix(8)
        #expect(late.allSatisfy { $0 == 2 }, "\(late)")
        #expect(call.camera.requests(2) - changes <= 2)
    }

    @Test func whatEndsIsForgotten() throws {
        let call = try Self.call(workers: 2)
        call.camera.run(for: .seconds(1))
        call.limit(to: 0)
        for worker in 0..<2 {
            for track in Self.tracks { call.simulation.apply(.removeTrack(track), worker: worker) }
        }
        call.camera.run(for: .seconds(1))
        #expect(call.simulation.snapshot(worker: 1).subscriptionCount == 0)
        let count = call.viewer.received.count
        call.camera.run(for: .seconds(1))
        #expect(call.viewer.received.count == count)
        call.viewer.hangUp()
        call.simulation.run(for: .seconds(1))
        #expect(call.simulation.snapshot(worker: 1).peerCount == 0)
    }

    @Test func aViewerWhoLeavesIsNoCandidateAnyMore() throws {
        let call = try Self.call(workers: 2)
        call.camera.run(for: .seconds(1))
        call.viewer.hangUp()
        call.camera.run(for: .seconds(1))
        let home = call.simulation.snapshot(worker: 0).peers.flatMap(\.tracks)
        #expect(home.map(\.rid) == [nil, nil, nil] && home.allSatisfy { $0.packetsReceived > 0 })
        let requests = [0, 1, 2].map(call.camera.requests)
        call.camera.run(for: .seconds(2))
        #expect([0, 1, 2].map(call.camera.requests) == requests)
    }
}
