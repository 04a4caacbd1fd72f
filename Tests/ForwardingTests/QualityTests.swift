import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// How well tracks get through, as those who watch them are told.
@Suite struct QualityTests {
    typealias Calls = ForwardingTests

    private final class Box: @unchecked Sendable {
        // Written and read by the test's thread only.
        var value = QualityChanges()
    }

    private static func take(_ simulation: Simulation, worker: Int = 0) -> QualityChanges {
        let box = Box()
        simulation.apply(.takeQualityChanges { box.value = $0 }, worker: worker)
        return box.value
    }

    /// Sends packets for one interval, of which those in `skipping` don't come, and returns what has changed then.
    private static func interval(
        _ first: UInt64,
        by client: SimulatedClient,
        in simulation: Simulation,
        skipping: Set<UInt64> = []
    ) -> [QualityLevel] {
        Calls.send(first..<(first + 2000), by: client, in: simulation, skipping: skipping)
        return take(simulation).incoming.map(\.level)
    }

    /// A viewer reports a loss, and the interval ends.
    private static func report(
        _ fractionsLost: [UInt8],
        of ssrc: UInt32 = Calls.viewerSSRC,
        by viewer: SimulatedClient,
        in simulation: Simulation
    ) -> QualityChanges {
        for fractionLost in fractionsLost {
            viewer.report(on: ssrc, fractionLost: fractionLost)
            simulation.run(for: .seconds(1))
        }
        return take(simulation)
    }

    @Test func aPublishersLossIsToldAtOnceAndItsEndOnceItHasLasted() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        #expect(Self.interval(1, by: publisher, in: simulation).isEmpty, "all begin as good")
        simulation.loss = 0.3
        #expect(Self.interval(2001, by: publisher, in: simulation) == [.poor])
        #expect(Self.interval(4001, by: publisher, in: simulation).isEmpty, "what hasn't changed isn't told again")
        simulation.loss = 0
        #expect(Self.interval(6001, by: publisher, in: simulation).isEmpty)
        #expect(Self.interval(8001, by: publisher, in: simulation) == [.good])
        #expect(Self.interval(10_001, by: publisher, in: simulation).isEmpty)
    }

    @Test func aLossAtAThresholdDoesNotComeAndGo() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let limits = Limits()
        var told: [QualityLevel] = []
        for number in UInt64(0)..<12 {
            let first = 1 + number * 2000
            let lost = Int(2000 * limits.qualityFairLoss) + (number % 2 == 0 ? -10 : 10)
            // The first of an interval has to come, or the one before would not know of the loss at its end.
            let skipping = Set((1...lost).map { first + UInt64($0) * 20 })
            told += Self.interval(first, by: publisher, in: simulation, skipping: skipping)
        }
        #expect(told == [.fair])
    }

    @Test func aPublisherWhoIsMutedIsGoodAndOneWhoIsCutOffIsPoor() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        simulation.loss = 0.3
        #expect(Self.interval(1, by: publisher, in: simulation) == [.poor])
        // Connectivity checks come, and no media.
        simulation.loss = 0
        var told: [QualityLevel] = []
        for _ in 0..<6 {
            simulation.run(for: .seconds(2))
            told += Self.take(simulation).incoming.map(\.level)
        }
        #expect(told == [.good])
        simulation.loss = 1
        told = []
        for _ in 0..<6 {
            simulation.run(for: .seconds(2))
            told += Self.take(simulation).incoming.map(\.level)
        }
        #expect(told == [.poor])
        simulation.apply(.removePeer(PeerID(rawValue: 1)))
        #expect(Self.take(simulation).incoming.map(\.level) == [.good], "whoever comes next begins anew")
        #expect(Self.take(simulation).isEmpty)
    }

    @Test func aViewersReportsTellHowHeReceives() throws {
        let simulation = try Simulation(seed: 1)
        _ = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        let other = try simulation.connect(3, subscribed: [Calls.subscribed(1)])
        #expect(Self.report([0, 0], by: viewer, in: simulation).isEmpty)
        // 64/256 and nothing: an eighth.
        let changes = Self.report([0, 64], by: viewer, in: simulation)
        #expect(
            changes.outgoing
                == [.init(peer: PeerID(rawValue: 2), track: Calls.track, ssrc: Calls.viewerSSRC, level: .poor)]
        )
        #expect(changes.incoming.isEmpty)
        #expect(Self.report([0, 0], by: viewer, in: simulation).isEmpty)
        #expect(Self.report([0], by: viewer, in: simulation).outgoing.map(\.level) == [.good])
        #expect(Self.report([0, 0], of: Calls.viewerSSRC + 16, by: other, in: simulation).isEmpty)
        // Audio is reported on every 5 s: one report after two intervals without one is as good as three.
        #expect(Self.report([64], by: viewer, in: simulation).outgoing.map(\.level) == [.poor])
        for _ in 0..<2 {
            simulation.run(for: .seconds(2))
            #expect(Self.take(simulation).isEmpty, "without a report nothing is known")
        }
        #expect(Self.report([0], by: viewer, in: simulation).outgoing.map(\.level) == [.good])
        #expect(Self.report([255], of: 7, by: viewer, in: simulation).isEmpty, "of a source that is not ours")
    }

    @Test func aSubscriptionThatHasEndedIsNotTold() throws {
        let simulation = try Simulation(seed: 1)
        _ = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        for ending in ["subscription", "track", "peer"] {
            var packet: [UInt8] = []
            let block = RTCPPacket.ReportBlock(
                ssrc: Calls.viewerSSRC,
                fractionLost: 200,
                packetsLost: 0,
                highestSequence: 1,
                jitter: 0,
                lastSenderReport: 0,
                delaySinceLastSenderReport: 0
            )
            RTCPWriter.receiverReport(sender: 1, blocks: [block], to: &packet)
            viewer.send(control: packet)
            simulation.run(for: .milliseconds(10))
            #expect(simulation.engines[0].lossySubscriptions.count == 1)
            switch ending {
            case "subscription":
                simulation.apply(
                    .changeSubscriptions(
                        PeerID(rawValue: 2),
                        ending: [Calls.viewerSSRC],
                        beginning: [Calls.subscribed()]
                    ) { _ in }
                )
            case "track":
                simulation.apply(.removeTrack(Calls.track))
                simulation.apply(
                    .changeSubscriptions(PeerID(rawValue: 2), ending: [], beginning: [Calls.subscribed()]) { _ in }
                )
            default: simulation.apply(.removePeer(PeerID(rawValue: 2)))
            }
            #expect(Self.take(simulation).outgoing.isEmpty, "\(ending)")
        }
    }
}
