import Commands
import Forwarding
import Simulation
import Testing
import Transport
import Wire

@Suite struct ForwardingTests {
    static let track = TrackID(rawValue: 1)
    static let sourceSSRC: UInt32 = 0x1111_1111
    static let viewerSSRC: UInt32 = 0x2222_2222
    static let viewerRTX: UInt32 = 0x3333_3333

    static let published = PublishedTrack(
        track: track,
        parameters: MediaParameters(
            mid: "0",
            codec: .vp8,
            payloadType: 96,
            retransmissionPayloadType: 97,
            feedback: [.nack, .pictureLossIndication],
            allowsReducedSizeRTCP: true
        ),
        announcedSources: [AnnouncedSource(ssrc: sourceSSRC, retransmissionSSRC: sourceSSRC + 1)]
    )

    static func subscribed(_ number: UInt32 = 0, home: Int = 0, withRTX: Bool = true) -> SubscribedTrack {
        SubscribedTrack(
            track: track,
            home: WorkerIndex(rawValue: home),
            parameters: MediaParameters(
                mid: "v",
                codec: .vp8,
                payloadType: 120,
                retransmissionPayloadType: withRTX ? 121 : nil,
                headerExtensions: [HeaderExtensionMapping(id: 5, meaning: .mid)],
                feedback: [.nack, .pictureLossIndication],
                allowsReducedSizeRTCP: true
            ),
            ssrc: viewerSSRC + number * 16,
            retransmissionSSRC: withRTX ? viewerRTX + number * 16 : nil,
            cname: "cname"
        )
    }

    /// A VP8 payload that begins a frame and carries a number.
    static func payload(_ number: UInt32, isKeyframe: Bool) -> [UInt8] {
        [0x10, isKeyframe ? 0x00 : 0x01] + withUnsafeBytes(of: number.bigEndian) { Array($0) }
    }

    static func number(_ payload: [UInt8]) -> UInt32 { payload[2..<6].reduce(0) { $0 << 8 | UInt32($1) } }

    /// The packets that a NACK for the publisher's source names; nil for any other packet.
    static func lost(_ packet: RTCPPacket, in bytes: RawSpan) -> [UInt16]? {
        guard case .nack(_, sourceSSRC, let list) = packet else { return nil }
        var lost: [UInt16] = []
        for index in 0..<list.count {
            let (first, mask) = list.item(at: index, in: bytes)
            lost.append(first)
            for bit in UInt16(0)..<16 where mask & 1 << bit != 0 { lost.append(first &+ bit &+ 1) }
        }
        return lost
    }

    /// Sends packets `range`, one a millisecond; those for which `isKeyframe` begin one.
    static func send(
        _ range: Range<UInt64>,
        by client: SimulatedClient,
        in simulation: Simulation,
        ssrc: UInt32 = sourceSSRC,
        isKeyframe: (UInt64) -> Bool = { _ in false },
        skipping: Set<UInt64> = []
    ) {
        for sequence in range {
            if !skipping.contains(sequence) {
                client.send(
                    sequence: sequence,
                    timestamp: UInt32(truncatingIfNeeded: sequence * 90),
                    ssrc: ssrc,
                    payload: payload(UInt32(sequence), isKeyframe: isKeyframe(sequence))
                )
            }
            simulation.run(for: .milliseconds(1))
        }
    }

    @Test func aViewerGetsOneContinuousSourceFromAKeyframeOn() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        #expect(publisher.isConnected && viewer.isConnected)
        // Across a wrap of the publisher's sequence numbers.
        Self.send(65_500..<65_600, by: publisher, in: simulation) { $0 == 65_510 }
        let headers = viewer.headers()
        #expect(viewer.payloads().map(Self.number) == Array(65_510..<65_600))
        #expect(Set(headers.map(\.ssrc)) == [Self.viewerSSRC])
        #expect(Set(headers.map(\.payloadType)) == [120])
        let first = try #require(headers.first)
        for (index, header) in headers.enumerated() {
            #expect(header.sequenceNumber == first.sequenceNumber &+ UInt16(index))
            #expect(header.timestamp == first.timestamp &+ UInt32(index) * 90)
        }
    }

    @Test func everyPacketSaysItsMIDUntilTheViewerReports() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(1..<5, by: publisher, in: simulation) { $0 == 1 }
        #expect(viewer.headers().allSatisfy { $0.extensionProfile == 0xBEDE })
        var report: [UInt8] = []
        let block = RTCPPacket.ReportBlock(
            ssrc: Self.viewerSSRC,
            fractionLost: 64,
            packetsLost: 0,
            highestSequence: 0,
            jitter: 0,
            lastSenderReport: 0,
            delaySinceLastSenderReport: 0
        )
        RTCPWriter.receiverReport(sender: 9, blocks: [block], to: &report)
        viewer.send(control: report)
        simulation.run(for: .milliseconds(2))
        Self.send(5..<8, by: publisher, in: simulation)
        #expect(viewer.headers().suffix(3).allSatisfy { $0.extensionProfile == 0 })
        let subscription = simulation.snapshot().peers.flatMap(\.subscriptions).first
        #expect(subscription?.fractionLost == 0.25)
    }

    @Test func manyViewersAskForOneKeyframe() throws {
        let simulation = try Simulation(seed: 2)
        let publisher = try simulation.connect(1, published: [Self.published])
        Self.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        for number in UInt32(0)..<20 {
            _ = try simulation.connect(UInt64(number) + 2, subscribed: [Self.subscribed(number)])
        }
        func requests() -> Int {
            publisher.controlPackets { packet, _ in
                if case .pictureLossIndication(_, Self.sourceSSRC) = packet { true } else { nil }
            }.count
        }
        // Twenty viewers came in six seconds, each waiting: never more than one request in half a second.
        let first = requests()
        #expect(first >= 1 && first <= 13)
        simulation.run(for: .milliseconds(501))
        Self.send(20..<40, by: publisher, in: simulation) { $0 == 20 }
        let afterKeyframe = requests()
        simulation.run(for: .seconds(2))
        #expect(requests() == afterKeyframe, "whoever waited has it")
        var request: [UInt8] = []
        RTCPWriter.pictureLossIndication(sender: 9, media: Self.viewerSSRC, to: &request)
        let viewer = try simulation.connect(99, subscribed: [Self.subscribed(50)])
        for _ in 0..<100 {
            var own: [UInt8] = []
            RTCPWriter.pictureLossIndication(sender: 9, media: Self.viewerSSRC + 50 * 16, to: &own)
            viewer.send(control: own)
            simulation.run(for: .milliseconds(10))
        }
        #expect(requests() - afterKeyframe <= 4, "a hundred requests in a second and a third")
        #expect(simulation.snapshot().counters.keyframeRequestsReceived == 100)
    }

    @Test func aNackIsAnsweredOverRTX() throws {
        let simulation = try Simulation(seed: 3)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(1..<50, by: publisher, in: simulation) { $0 == 1 }
        let lost = viewer.headers()[20].sequenceNumber
        var nack: [UInt8] = []
        RTCPWriter.nack(sender: 9, media: Self.viewerSSRC, lost: [lost, lost &+ 3], to: &nack)
        viewer.send(control: nack)
        simulation.run(for: .milliseconds(5))
        let again = viewer.received.suffix(2)
        let headers = viewer.headers().suffix(2)
        #expect(headers.map(\.ssrc) == [Self.viewerRTX, Self.viewerRTX])
        #expect(headers.map(\.payloadType) == [121, 121])
        let originals = zip(again, headers).map { packet, header in
            UInt16(packet[header.payloadOffset]) << 8 | UInt16(packet[header.payloadOffset + 1])
        }
        #expect(originals == [lost, lost &+ 3])
        let numbers = zip(again, headers).map { Self.number(Array($0[($1.payloadOffset + 2)...])) }
        #expect(numbers == [21, 24])
    }

    /// With one SRTP index, the same nonce must never seal two texts.
    @Test func withoutRTXAPacketIsRepeatedToTheBit() throws {
        let simulation = try Simulation(seed: 4)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed(withRTX: false)])
        simulation.keepsSent = true
        Self.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        let header = viewer.headers()[5]
        var nack: [UInt8] = []
        RTCPWriter.nack(sender: 9, media: Self.viewerSSRC, lost: [header.sequenceNumber], to: &nack)
        viewer.send(control: nack)
        simulation.run(for: .milliseconds(5))
        let same = simulation.sent.map(\.bytes).filter { bytes in
            guard bytes[0] >> 6 == 2, let sent = try? RTPHeader(parsing: bytes.span.bytes) else { return false }
            return sent.ssrc == Self.viewerSSRC && sent.sequenceNumber == header.sequenceNumber
        }
        #expect(same.count == 2)
        #expect(same.first == same.last)
    }

    @Test func aViewerCannotMakeUsSendMoreThanTwice() throws {
        let simulation = try Simulation(seed: 5)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(1..<100, by: publisher, in: simulation) { $0 == 1 }
        let all = viewer.headers().map(\.sequenceNumber)
        for _ in 0..<50 {
            var nack: [UInt8] = []
            RTCPWriter.nack(sender: 9, media: Self.viewerSSRC, lost: all[...], to: &nack)
            viewer.send(control: nack)
            simulation.run(for: .milliseconds(1))
        }
        #expect(simulation.snapshot().counters.packetsRetransmitted <= 256 + 100)
    }

    @Test func weAskForWhatIsMissingAndTakeItBack() throws {
        let simulation = try Simulation(seed: 6)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(1..<40, by: publisher, in: simulation, isKeyframe: { $0 == 1 }, skipping: [10, 11, 30])
        simulation.run(for: .milliseconds(30))
        let asked = publisher.controlPackets { packet, bytes in Self.lost(packet, in: bytes) }
        #expect(Set(asked.joined()) == [10, 11, 30])
        // RTX (RFC 4588 §4): the original sequence number before the payload.
        for (index, sequence) in [UInt16(10), 11, 30].enumerated() {
            publisher.send(
                sequence: UInt64(index) + 1,
                timestamp: UInt32(sequence) * 90,
                ssrc: Self.sourceSSRC + 1,
                payloadType: 97,
                payload: [0, UInt8(sequence)] + Self.payload(UInt32(sequence), isKeyframe: false)
            )
        }
        simulation.run(for: .milliseconds(5))
        #expect(Set(viewer.payloads().map(Self.number)) == Set(1..<40))
        #expect(simulation.snapshot().counters.packetsRecovered == 3)
        let bySequence = zip(viewer.headers(), viewer.payloads()).sorted { $0.0.sequenceNumber < $1.0.sequenceNumber }
        #expect(bySequence.map { Self.number($0.1) } == Array(1..<40), "each in its own place")
    }

    @Test func aPublisherThatComesBackContinuesTheViewersSource() throws {
        let simulation = try Simulation(seed: 7)
        var publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        simulation.apply(.removePeer(PeerID(rawValue: 1)))
        simulation.run(for: .milliseconds(500))
        var again = Self.published
        again.announcedSources = [AnnouncedSource(ssrc: 0x7777_7777)]
        publisher = try simulation.connect(3, published: [again])
        Self.send(40_000..<40_020, by: publisher, in: simulation, ssrc: 0x7777_7777) { $0 == 40_002 }
        let headers = viewer.headers()
        #expect(viewer.payloads().map(Self.number) == Array(1..<20) + Array(40_002..<40_020))
        #expect(Set(headers.map(\.ssrc)) == [Self.viewerSSRC])
        for (earlier, later) in zip(headers, headers.dropFirst()) {
            #expect(later.sequenceNumber == earlier.sequenceNumber &+ 1)
            #expect(later.timestamp &- earlier.timestamp < 90_000 * 2, "time goes forward, by no more than has passed")
        }
    }

    /// A publisher that comes back before its old session has ended, with its old SSRC and sequence numbers from anywhere.
    @Test(arguments: [UInt64(20_000), 40_500, 60_000])
    func aTakeoverStartsANewEncodingWhateverItsSSRC(first: UInt64) throws {
        let simulation = try Simulation(seed: 7)
        let old = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(40_000..<40_020, by: old, in: simulation) { $0 == 40_000 }
        let new = try simulation.connect(3, published: [Self.published])
        // The old one is not heard any more, and asks for nothing in the new one's name.
        Self.send(40_020..<40_030, by: old, in: simulation)
        Self.send(
            first..<(first + 40),
            by: new,
            in: simulation,
            isKeyframe: { $0 == first + 2 },
            skipping: [first + 20]
        )
        let expected =
            Array(40_000..<40_020) + Array(first + 2..<first + 40).filter { $0 != first + 20 }.map { UInt32($0) }
        #expect(viewer.payloads().map(Self.number) == expected)
        simulation.run(for: .milliseconds(100))
        #expect(old.controlPackets(Self.lost).isEmpty)
        #expect(new.controlPackets(Self.lost).flatMap { $0 }.contains(UInt16(first + 20)))
    }

    @Test func mediaReachesViewersOnOtherWorkers() throws {
        let simulation = try Simulation(seed: 8, workers: 3)
        let publisher = try simulation.connect(1, published: [Self.published])
        let near = try simulation.connect(2, subscribed: [Self.subscribed(0)])
        let far = try simulation.connect(3, worker: 1, subscribed: [Self.subscribed(1)])
        let farther = try simulation.connect(4, worker: 2, subscribed: [Self.subscribed(2)])
        Self.send(1..<60, by: publisher, in: simulation) { $0 == 5 }
        for viewer in [near, far, farther] { #expect(viewer.payloads().map(Self.number) == Array(5..<60)) }
        // The last viewer of a worker goes: the relay ends. Another comes: it begins again, with a keyframe asked for.
        simulation.apply(.removePeer(PeerID(rawValue: 3)), worker: 1)
        simulation.run(for: .milliseconds(600))
        let late = try simulation.connect(5, worker: 1, subscribed: [Self.subscribed(3)])
        Self.send(60..<80, by: publisher, in: simulation) { $0 == 70 }
        #expect(late.payloads().map(Self.number) == Array(70..<80))
        let requests = publisher.controlPackets { packet, _ in
            if case .pictureLossIndication = packet { true } else { nil }
        }
        #expect(!requests.isEmpty)
    }

    @Test func senderReportsAreRewritten() throws {
        let simulation = try Simulation(seed: 9)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(1..<10, by: publisher, in: simulation) { $0 == 1 }
        var report: [UInt8] = []
        let clock = RTCPPacket.SenderReport(
            ssrc: Self.sourceSSRC,
            ntp: 1000 << 32,
            rtpTimestamp: 900,
            packetCount: 9,
            octetCount: 54
        )
        RTCPWriter.senderReport(clock, to: &report)
        publisher.send(control: report)
        simulation.run(for: .seconds(2))
        let reports = viewer.controlPackets { packet, _ -> RTCPPacket.SenderReport? in
            if case .senderReport(let report) = packet { report } else { nil }
        }
        let last = try #require(reports.last)
        #expect(last.ssrc == Self.viewerSSRC && last.packetCount == 9 && last.octetCount == 54)
        // The publisher's 900 is the viewer's timestamp of packet 10, whatever our offset is: the same point in time.
        let offset = try #require(viewer.headers().first).timestamp &- 90
        let seconds = Double(last.ntp &- clock.ntp) / 0x1p32
        let expected = 900 + seconds * 90_000
        #expect(abs(Double(last.rtpTimestamp &- offset) - expected) < 2)
    }

    @Test func lossBothWaysLosesNothingForGood() throws {
        let simulation = try Simulation(seed: 10)
        let publisher = try simulation.connect(1, published: [Self.published])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed()])
        Self.send(1..<2, by: publisher, in: simulation) { $0 == 1 }
        print("seed 10")
        simulation.loss = 0.05
        var answered = 0
        var rtxSequence: UInt64 = 1
        for sequence in UInt64(2)..<600 {
            Self.send(sequence..<(sequence + 1), by: publisher, in: simulation)
            // The publisher answers each NACK over RTX.
            while answered < publisher.control.count {
                let compound = publisher.control[answered]
                answered += 1
                var reader = RTCPReader()
                while let packet = try? reader.next(in: compound.span.bytes) {
                    for lost in Self.lost(packet, in: compound.span.bytes) ?? [] {
                        publisher.send(
                            sequence: rtxSequence,
                            timestamp: UInt32(lost) * 90,
                            ssrc: Self.sourceSSRC + 1,
                            payloadType: 97,
                            payload: [UInt8(lost >> 8), UInt8(lost & 255)]
                                + Self.payload(UInt32(lost), isKeyframe: false)
                        )
                        rtxSequence += 1
                    }
                }
            }
        }
        simulation.loss = 0
        Self.send(600..<700, by: publisher, in: simulation)
        let track = try #require(simulation.snapshot().peers.flatMap(\.tracks).first)
        #expect(track.packetsLost > 10 && track.packetsRecovered >= UInt64(track.packetsLost) - 2)
        #expect(viewer.received.count > 600)
    }

    @Test func aPeerThatHangsUpIsGone() throws {
        let simulation = try Simulation(seed: 11)
        let publisher = try simulation.connect(1, published: [Self.published])
        publisher.hangUp()
        simulation.run(for: .milliseconds(20))
        #expect(simulation.snapshot().peerCount == 0)
        guard case .peerClosed(PeerID(rawValue: 1), .closedByPeer)? = simulation.events.last else {
            Issue.record("\(simulation.events)")
            return
        }
    }

    @Test func consentThatIsNotRenewedEndsAPeer() throws {
        var limits = Limits()
        limits.consent = .seconds(5)
        limits.iceConnect = .seconds(3)
        let simulation = try Simulation(seed: 12, limits: limits)
        _ = try simulation.connect(1, published: [Self.published])
        simulation.loss = 1
        simulation.run(for: .seconds(6))
        guard case .peerClosed(PeerID(rawValue: 1), .consentExpired)? = simulation.events.last else {
            Issue.record("\(simulation.events)")
            return
        }
        _ = try simulation.connect(2)
        simulation.run(for: .seconds(4))
        guard case .peerClosed(PeerID(rawValue: 2), .iceTimeout)? = simulation.events.last else {
            Issue.record("\(simulation.events)")
            return
        }
    }

    @Test func strangersAreCountedAndNotAnswered() throws {
        let simulation = try Simulation(seed: 13)
        _ = try simulation.connect(1, published: [Self.published])
        simulation.keepsSent = true
        let stranger = SocketAddress(ip: .loopbackV4, port: 9)
        var random = Simulation.Random(state: 14)
        for _ in 0..<5000 {
            let bytes = (0..<Int.random(in: 0...200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            simulation.inject(bytes, from: stranger)
        }
        #expect(simulation.sent.allSatisfy { $0.destination != stranger })
        #expect(simulation.snapshot().counters.drops.reduce(0, +) == 5000)
    }
}
