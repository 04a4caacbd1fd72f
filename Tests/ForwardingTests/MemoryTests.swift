import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// What publishers' packets take of a worker's memory.
@Suite struct MemoryTests {
    typealias Calls = ForwardingTests

    private static func published(_ number: UInt64) -> PublishedTrack {
        var track = Calls.published
        track.track = TrackID(rawValue: number)
        track.parameters.mid = "\(number)"
        track.announcedSources = [AnnouncedSource(ssrc: UInt32(number))]
        return track
    }

    private static func subscribed(_ number: UInt64, home: Int = 0) -> SubscribedTrack {
        var subscribed = Calls.subscribed(UInt32(number), home: home)
        subscribed.track = TrackID(rawValue: number)
        return subscribed
    }

    /// Sends packets of 1,200 bytes, so many of each track in each millisecond.
    private static func play(
        _ tracks: [UInt64],
        by client: SimulatedClient,
        in simulation: Simulation,
        from first: UInt64,
        milliseconds: Int,
        each: Int = 1
    ) -> UInt64 {
        var sequence = first
        for _ in 0..<milliseconds {
            for _ in 0..<each {
                for track in tracks {
                    client.send(
                        sequence: sequence,
                        timestamp: UInt32(truncatingIfNeeded: sequence * 90),
                        ssrc: UInt32(track),
                        payload: Calls.payload(UInt32(sequence), isKeyframe: sequence % 500 == 1)
                            + [UInt8](repeating: 9, count: 1180)
                    )
                }
                sequence += 1
            }
            simulation.run(for: .milliseconds(1))
        }
        return sequence
    }

    @Test func whatNobodyWatchesIsNotKept() throws {
        let simulation = try Simulation(seed: 1, workers: 2)
        let publisher = try simulation.connect(1, published: (1...8).map(Self.published))
        simulation.discardsSent = true
        var next = Self.play([1, 2, 3, 4, 5, 6, 7, 8], by: publisher, in: simulation, from: 1, milliseconds: 300)
        let budget = simulation.engines[0].workerBudget
        #expect(budget.used == 0)
        let track = try #require(simulation.snapshot().peers.flatMap(\.tracks).first)
        #expect(track.packetsReceived == 300 && track.packetsLost == 0 && track.keyframesReceived == 1)
        // Here, and on another worker.
        simulation.discardsSent = false
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed(1)])
        let far = try simulation.connect(3, worker: 1, subscribed: [Self.subscribed(2)])
        next = Self.play([1, 2, 3], by: publisher, in: simulation, from: next, milliseconds: 1000)
        #expect(viewer.received.count > 500 && far.received.count > 500)
        let watched = budget.used
        #expect(watched > 500_000 && watched < 4_000_000)
        #expect(simulation.engines[0].tracks[TrackID(rawValue: 3)]?.encoding?.history.takenBytes == 0)
        // When they are gone so is what was kept for them.
        simulation.apply(.removePeer(PeerID(rawValue: 2)))
        simulation.apply(.removePeer(PeerID(rawValue: 3)), worker: 1)
        simulation.run(for: .milliseconds(10))
        next = Self.play([1, 2, 3], by: publisher, in: simulation, from: next, milliseconds: 5)
        #expect(budget.used == 0)
    }

    /// A slow stream takes little, and a fast one what a second of it is.
    @Test(arguments: [(1, 100_000), (50, 200_000), (400, 1_000_000)])
    func aHistoryTakesWhatASecondNeeds(packetsPerSecond: Int, bound: Int) throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.published(1)])
        let viewer = try simulation.connect(2, subscribed: [Self.subscribed(1)])
        for sequence in UInt64(1)...UInt64(packetsPerSecond * 12) {
            _ = Self.play([1], by: publisher, in: simulation, from: sequence, milliseconds: 1)
            if packetsPerSecond < 1000 { simulation.run(for: .milliseconds(1000 / packetsPerSecond - 1)) }
        }
        #expect(viewer.received.count == packetsPerSecond * 12)
        #expect(simulation.engines[0].workerBudget.used < bound)
        // And a second of it is there.
        let lost = viewer.headers().suffix(max(1, packetsPerSecond * 9 / 10)).map(\.sequenceNumber)
        var nack: [UInt8] = []
        RTCPWriter.nack(sender: 9, media: Calls.viewerSSRC + 16, lost: lost.prefix(200)[...], to: &nack)
        viewer.send(control: nack)
        simulation.run(for: .milliseconds(5))
        #expect(simulation.snapshot().counters.packetsRetransmitted == UInt64(min(200, lost.count)))
    }

    @Test func aPublisherTakesNoMoreThanItsShare() throws {
        var limits = Limits()
        limits.historyBytesPerPeer = 2 << 20
        limits.historyBytesPerAddress = 3 << 20
        let simulation = try Simulation(seed: 1, workers: 2, limits: limits)
        let tracks = (UInt64(1)...4).map { $0 }
        let publisher = try simulation.connect(1, published: tracks.map(Self.published))
        let other = try simulation.connect(2, published: [Self.published(9)])
        let viewer = try simulation.connect(3, subscribed: (tracks + [9]).map { Self.subscribed($0) })
        let far = try simulation.connect(4, worker: 1, subscribed: tracks.map { Self.subscribed($0) })
        simulation.discardsSent = true
        var next = Self.play(tracks, by: publisher, in: simulation, from: 1, milliseconds: 1500, each: 2)
        let budget = simulation.engines[0].peers[PeerID(rawValue: 1)]?.historyBudget
        // What is needed for one turn is taken anyhow: 160 KB of each.
        #expect(
            budget.map { $0.used > 1 << 20 && $0.used <= (2 << 20) + 4 * (160 << 10) } == true,
            "\(budget?.used ?? 0)"
        )
        _ = Self.play([9], by: other, in: simulation, from: 1, milliseconds: 1500, each: 3)
        let address = simulation.engines[0].addressBudgets.values.first
        #expect(address.map { $0.used <= (3 << 20) + 5 * (160 << 10) } == true, "\(address?.used ?? 0)")
        #expect(address?.used == simulation.engines[0].workerBudget.used)
        // What is forwarded is whole all the same.
        simulation.discardsSent = false
        let before = (viewer.received.count, far.received.count)
        next = Self.play(tracks, by: publisher, in: simulation, from: next, milliseconds: 300, each: 2)
        #expect(viewer.received.count - before.0 == 2400 && far.received.count - before.1 == 2400)
        #expect(
            viewer.received.suffix(2400).allSatisfy { packet in
                (try? RTPHeader(parsing: packet.span.bytes)).map { packet[$0.payloadOffset + 6] == 9 } ?? false
            }
        )
        for id in UInt64(1)...4 { simulation.apply(.removePeer(PeerID(rawValue: id)), worker: id == 4 ? 1 : 0) }
        simulation.run(for: .milliseconds(20))
        #expect(simulation.engines[0].workerBudget.used == 0 && simulation.engines[0].addressBudgets.isEmpty)
    }
}
