import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// What happens by time alone.
@Suite struct DeadlineTests {
    typealias Calls = ForwardingTests

    /// Whatever peers and Control do, what was due has been done: no deadline lies in the past, or the worker would wake for it each
    /// millisecond.
    @Test(arguments: UInt64(1)...12) func nothingStaysDue(seed: UInt64) throws {
        var random = Simulation.Random(state: seed)
        let simulation = try Simulation(seed: seed, workers: 2)
        var published = Calls.published
        published.parameters.headerExtensions = [HeaderExtensionMapping(id: 3, meaning: .transportSequenceNumber)]
        published.parameters.feedback.insert(.transportWideCongestionControl)
        var audio = published
        audio.track = TrackID(rawValue: 2)
        audio.parameters.mid = "1"
        audio.parameters.codec = .opus
        audio.parameters.payloadType = 111
        audio.announcedSources = [AnnouncedSource(ssrc: 0x5555)]
        let publisher = try simulation.connect(1, published: [published])
        let viewers = try (0..<2).map {
            try simulation.connect(UInt64($0) + 2, worker: $0, subscribed: [Calls.subscribed(UInt32($0))])
        }
        var sequence: UInt64 = 1
        var transport: UInt16 = 0
        for _ in 0..<400 {
            switch random.next() % 12 {
            case 0: simulation.apply(.setPublished(PeerID(rawValue: 1), []) { _ in })
            case 1: simulation.apply(.setPublished(PeerID(rawValue: 1), [published]) { _ in })
            case 2: simulation.apply(.setPublished(PeerID(rawValue: 1), [published, audio]) { _ in })
            case 3:
                simulation.apply(
                    .changeSubscriptions(
                        PeerID(rawValue: 2),
                        ending: [Calls.viewerSSRC],
                        beginning: random.next() % 2 == 0 ? [Calls.subscribed()] : []
                    ) { _ in }
                )
            case 4:
                simulation.apply(
                    .pauseSubscription(
                        PeerID(rawValue: 3),
                        ssrc: Calls.viewerSSRC + 16,
                        isPaused: random.next() % 2 == 0
                    ),
                    worker: 1
                )
            case 5: simulation.loss = random.next() % 2 == 0 ? 0.5 : 0
            case 6:
                simulation.loss = random.next() % 4 == 0 ? 1 : 0
                simulation.run(for: .seconds(Int(random.next() % 9)))
                simulation.loss = 0
            case 7: for viewer in viewers { viewer.send(control: Self.request(Calls.viewerSSRC)) }
            case 8: viewers[1].send(control: Self.request(Calls.viewerSSRC + 16))
            default:
                for _ in 0..<(random.next() % 30) {
                    sequence += random.next() % 8 == 0 ? 3 : 1
                    transport &+= 1
                    publisher.send(
                        sequence: sequence,
                        timestamp: UInt32(truncatingIfNeeded: sequence * 90),
                        ssrc: Calls.sourceSSRC,
                        elements: [0x31, UInt8(transport >> 8), UInt8(transport & 255)],
                        payload: Calls.payload(UInt32(sequence), isKeyframe: random.next() % 50 == 0)
                    )
                }
            }
            simulation.run(for: .milliseconds(Int(random.next() % 80))) {
                for engine in simulation.engines {
                    engine.advance(to: simulation.now)
                    for peer in engine.peers.values {
                        let due = PeerDuty.all.indices.filter {
                            peer.deadline(of: PeerDuty.all[$0], limits: engine.limits) <= simulation.now
                        }
                        #expect(due.isEmpty, "\(due.map { PeerDuty.all[$0] })")
                    }
                    #expect(engine.nextDeadline.map { $0 > simulation.now } ?? true)
                }
            }
        }
        #expect(simulation.engines.allSatisfy { $0.overdueCount == 0 })
    }

    private static func request(_ ssrc: UInt32) -> [UInt8] {
        var request: [UInt8] = []
        RTCPWriter.pictureLossIndication(sender: 9, media: ssrc, to: &request)
        return request
    }

    /// Nothing else wakes the viewer's worker.
    @Test func aRequestOffTheHomeWorkerIsSentWhenItsTimeComes() throws {
        let simulation = try Simulation(seed: 1, workers: 2)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, worker: 1, subscribed: [Calls.subscribed()])
        Calls.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        simulation.run(for: .seconds(2))
        func requests() -> Int {
            publisher.controlPackets { packet, _ in if case .pictureLossIndication = packet { true } else { nil } }
                .count
        }
        viewer.send(control: Self.request(Calls.viewerSSRC))
        simulation.run(for: .milliseconds(20))
        let before = requests()
        Calls.send(20..<22, by: publisher, in: simulation) { $0 == 20 }
        viewer.send(control: Self.request(Calls.viewerSSRC))
        simulation.run(for: .milliseconds(20))
        #expect(requests() == before, "half a second has not passed")
        let due = try #require(simulation.engines[1].nextDeadline)
        #expect(due <= simulation.now + .milliseconds(500))
        simulation.run(for: .milliseconds(500))
        #expect(requests() > before)
        Calls.send(22..<24, by: publisher, in: simulation) { $0 == 22 }
        let answered = requests()
        simulation.run(for: .seconds(3))
        #expect(requests() == answered, "it has come")
    }

    @Test func reportsTellOfAllSources() throws {
        let simulation = try Simulation(seed: 1)
        let published = (0..<70).map { number in
            var track = Calls.published
            track.track = TrackID(rawValue: 100 + UInt64(number))
            track.parameters.mid = "\(number)"
            track.parameters.feedback = [.receiverEstimatedMaximumBitrate]
            track.announcedSources = [AnnouncedSource(ssrc: 0x8000 + UInt32(number))]
            return track
        }
        var limits = Limits()
        limits.sourcesPerPeer = 200
        let publisher = try simulation.connect(1, published: published)
        for number in UInt32(0)..<70 {
            publisher.send(
                sequence: 1,
                timestamp: 1,
                ssrc: 0x8000 + number,
                payload: Calls.payload(1, isKeyframe: true)
            )
        }
        simulation.run(for: .seconds(2))
        let reported = publisher.controlPackets { packet, bytes -> [UInt32]? in
            guard case .receiverReport(_, let reports) = packet else { return nil }
            return (0..<reports.count).map { reports.block(at: $0, in: bytes).ssrc }
        }
        #expect(Set(reported.joined()) == Set(0x8000..<(0x8000 + 70)))
        let ceilings = publisher.controlPackets { packet, _ -> UInt64? in
            guard case .receiverEstimatedMaximumBitrate(_, let bitrate, _) = packet else { return nil }
            return bitrate
        }
        #expect(!ceilings.isEmpty)
        #expect(publisher.control.allSatisfy { $0.count < 1200 })
    }
}
