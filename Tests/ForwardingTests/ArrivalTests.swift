import Commands
import Forwarding
import Simulation
import Testing
import Transport
import Wire

/// Datagrams that lay in the socket before they were read: how long is no news for the peer's network, and what is too old is nobody's.
@Suite struct ArrivalTests {
    typealias Calls = ForwardingTests

    private static var withTransportFeedback: PublishedTrack {
        var published = Calls.published
        published.parameters.feedback.insert(.transportWideCongestionControl)
        published.parameters.headerExtensions = [HeaderExtensionMapping(id: 3, meaning: .transportSequenceNumber)]
        return published
    }

    /// Datagrams that a client would send now, and that lie in the socket from now on.
    private static func datagrams(
        _ range: Range<UInt64>,
        by client: SimulatedClient,
        ssrc: UInt32 = Calls.sourceSSRC,
        payloadType: UInt8 = 96,
        isKeyframe: (UInt64) -> Bool = { _ in false }
    ) -> [[UInt8]] {
        _ = client.takeOutbox()
        for sequence in range {
            client.send(
                sequence: sequence,
                timestamp: UInt32(truncatingIfNeeded: sequence * 90),
                ssrc: ssrc,
                payloadType: payloadType,
                elements: [0x31, UInt8(sequence >> 8 & 255), UInt8(sequence & 255)],
                payload: Calls.payload(UInt32(sequence), isKeyframe: isKeyframe(sequence))
            )
        }
        return client.takeOutbox()
    }

    /// A worker that looks at its socket every 40 ms: the publisher's congestion control must not take that for a queue in the network.
    @Test func feedbackTellsWhenPacketsArrivedAndNotWhenTheyWereRead() throws {
        let simulation = try Simulation(seed: 41)
        let publisher = try simulation.connect(1, published: [Self.withTransportFeedback])
        for turn in UInt64(0)..<25 {
            simulation.run(for: .milliseconds(40))
            let first = turn * 40 + 1
            for (place, datagram) in Self.datagrams(first..<(first + 40), by: publisher).enumerated() {
                simulation.inject(datagram, from: publisher.address, afterWaiting: .milliseconds(39 - place))
            }
        }
        simulation.run(for: .milliseconds(200))
        var arrivals: [Int64] = []
        var jitter: [UInt32] = []
        for compound in publisher.control {
            var reader = RTCPReader()
            while let packet = try reader.next(in: compound.span.bytes) {
                switch packet {
                case .transportFeedback(_, _, let offset, let length):
                    var feedback = TransportFeedbackReader(offset: offset, length: length, in: compound.span.bytes)
                    while let item = feedback?.next(in: compound.span.bytes) {
                        if case .received(let ticks) = item { arrivals.append(ticks) }
                    }
                case .receiverReport(_, let reports):
                    for index in 0..<reports.count {
                        jitter.append(reports.block(at: index, in: compound.span.bytes).jitter)
                    }
                default: break
                }
            }
        }
        #expect(arrivals.count == 1000)
        // A tick is 250 µs.
        #expect(zip(arrivals.dropFirst(), arrivals).allSatisfy { $0 - $1 == 4 })
        #expect(!jitter.isEmpty && jitter.allSatisfy { $0 == 0 })
    }

    /// DLSR counts from the report's arrival, so that the publisher's round trip is the network's.
    @Test func aSenderReportCountsFromItsArrival() throws {
        let simulation = try Simulation(seed: 42)
        let publisher = try simulation.connect(1, published: [Calls.published])
        Calls.send(1..<10, by: publisher, in: simulation) { $0 == 1 }
        _ = publisher.takeOutbox()
        var report: [UInt8] = []
        RTCPWriter.senderReport(
            RTCPPacket.SenderReport(
                ssrc: Calls.sourceSSRC,
                ntp: 0x1234_5678_9ABC_DEF0,
                rtpTimestamp: 810,
                packetCount: 9,
                octetCount: 90
            ),
            to: &report
        )
        publisher.send(control: report)
        let datagram = publisher.takeOutbox()[0]
        simulation.inject(datagram, from: publisher.address, afterWaiting: .milliseconds(700))
        let readAt = simulation.now
        simulation.run(for: .milliseconds(1100))
        let delays = publisher.controlPackets { packet, bytes -> UInt32? in
            guard case .receiverReport(_, let reports) = packet, reports.count == 1 else { return nil }
            let block = reports.block(at: 0, in: bytes)
            return block.lastSenderReport == 0x5678_9ABC ? block.delaySinceLastSenderReport : nil
        }
        let first = try #require(delays.first)
        #expect(first >= 700 * 65_536 / 1000 && simulation.now - readAt < .seconds(2))
    }

    /// The process was stopped for three seconds: what lay in the socket is old, and the picture must not run behind from then on.
    @Test(arguments: [1, 2])
    func afterAStopViewersGoOnWithAKeyframeAndNothingOld(workers: Int) throws {
        let simulation = try Simulation(seed: 43, workers: workers)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, worker: workers - 1, subscribed: [Calls.subscribed()])
        simulation.run(for: .milliseconds(100))
        Calls.send(1..<100, by: publisher, in: simulation) { $0 == 1 }
        let seen = viewer.received.count
        #expect(seen == 99)
        let asked = Self.keyframeRequests(to: publisher)
        // Three seconds of it waited, the youngest not at all.
        for (place, datagram) in Self.datagrams(100..<3100, by: publisher).enumerated() {
            simulation.inject(datagram, from: publisher.address, afterWaiting: .milliseconds(2999 - place))
        }
        simulation.run(for: .milliseconds(50))
        #expect(viewer.received.count == seen, "all of it needs what was let go")
        #expect(Self.keyframeRequests(to: publisher) == asked + 1)
        #expect(simulation.snapshot().counters.drops[DropReason.rtpTooLate.rawValue] == 3000)
        Calls.send(3100..<3200, by: publisher, in: simulation) { $0 == 3110 }
        #expect(viewer.payloads().dropFirst(seen).map { Calls.number($0) } == Array(3110..<3200))
        let numbers = viewer.headers().map(\.sequenceNumber)
        #expect(zip(numbers.dropFirst(), numbers).allSatisfy { $0 == $1 &+ 1 }, "without a gap that would be asked for")
        let timestamps = viewer.headers().map(\.timestamp)
        #expect(timestamps[seen] &- timestamps[seen - 1] == (3110 - 99) * 90, "audio and video stay together")
    }

    private static let audio = MediaParameters(
        mid: "a",
        codec: .opus,
        payloadType: 111,
        retransmissionPayloadType: 112,
        feedback: [.nack],
        allowsReducedSizeRTCP: true
    )

    /// Somebody who speaks, and somebody who listens.
    private static func audioCall(_ seed: UInt64) throws -> (Simulation, SimulatedClient, SimulatedClient) {
        let simulation = try Simulation(seed: seed)
        let source = AnnouncedSource(ssrc: 5, retransmissionSSRC: 6)
        let publisher = try simulation.connect(
            1,
            published: [PublishedTrack(track: Calls.track, parameters: audio, announcedSources: [source])]
        )
        let viewer = try simulation.connect(
            2,
            subscribed: [
                SubscribedTrack(
                    track: Calls.track,
                    home: WorkerIndex(rawValue: 0),
                    parameters: audio,
                    ssrc: Calls.viewerSSRC,
                    retransmissionSSRC: nil,
                    cname: "cname"
                )
            ]
        )
        return (simulation, publisher, viewer)
    }

    @Test func audioGoesOnWithTheFirstPacketThatIsNotOld() throws {
        let (simulation, publisher, viewer) = try Self.audioCall(44)
        for (place, datagram) in Self.datagrams(1..<3001, by: publisher, ssrc: 5, payloadType: 111).enumerated() {
            simulation.inject(datagram, from: publisher.address, afterWaiting: .milliseconds(2999 - place))
        }
        simulation.run(for: .milliseconds(5))
        #expect(viewer.payloads().map { Calls.number($0) } == Array(2000..<3001))
    }

    /// Numbers go on behind what was let go, whatever comes first that is not old: it must be what comes next, and not a late packet.
    @Test(arguments: ["late", "late, of what was let go", "again"])
    func whatIsLateDoesNotEndAnInterruption(kind: String) throws {
        let (simulation, publisher, viewer) = try Self.audioCall(45)
        func inject(_ range: Range<UInt64>, afterWaiting wait: Duration) {
            for datagram in Self.datagrams(range, by: publisher, ssrc: 5, payloadType: 111) {
                simulation.inject(datagram, from: publisher.address, afterWaiting: wait)
            }
        }
        // 499 and 590 are missing.
        inject(400..<499, afterWaiting: .zero)
        inject(500..<501, afterWaiting: .zero)
        simulation.run(for: .milliseconds(200))
        inject(501..<590, afterWaiting: .seconds(2))
        inject(591..<601, afterWaiting: .seconds(2))
        switch kind {
        case "late": inject(499..<500, afterWaiting: .zero)
        case "late, of what was let go": inject(590..<591, afterWaiting: .zero)
        default:
            _ = publisher.takeOutbox()
            publisher.send(
                sequence: 1,
                timestamp: 590 * 90,
                ssrc: 6,
                payloadType: 112,
                payload: [UInt8(590 >> 8), UInt8(590 & 255)] + Calls.payload(590, isKeyframe: false)
            )
            for datagram in publisher.takeOutbox() { simulation.inject(datagram, from: publisher.address) }
        }
        inject(601..<650, afterWaiting: .zero)
        simulation.run(for: .milliseconds(5))
        #expect(viewer.payloads().map { Calls.number($0) } == Array(400..<499) + [500] + Array(601..<650))
        let numbers = viewer.headers().map(\.sequenceNumber)
        #expect(numbers.dropFirst(99).elementsEqual((0..<50).map { numbers[98] &+ 2 &+ $0 }))
    }

    /// Whether somebody could have sent what is missing is told by when the packets came, not by when they were read.
    @Test func aGapThatIsReadInOneTurnIsNoneOfAnotherSequence() throws {
        let (simulation, publisher, viewer) = try Self.audioCall(46)
        let datagrams = Self.datagrams(1..<702, by: publisher, ssrc: 5, payloadType: 111)
        simulation.inject(datagrams[0], from: publisher.address, afterWaiting: .milliseconds(700))
        simulation.inject(datagrams[700], from: publisher.address)
        simulation.run(for: .milliseconds(5))
        #expect(viewer.payloads().map { Calls.number($0) } == [1, 701])
    }

    private static func keyframeRequests(to publisher: SimulatedClient) -> Int {
        publisher.controlPackets { packet, _ in
            if case .pictureLossIndication(_, Calls.sourceSSRC) = packet { true } else { nil }
        }.count
    }
}
