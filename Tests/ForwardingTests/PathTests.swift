import Commands
import Forwarding
import Simulation
import Testing
import Transport
import Wire

/// Where a peer is reached, how long it is there, and who may have its address.
@Suite struct PathTests {
    typealias Calls = ForwardingTests

    private static let elsewhere = SocketAddress(ip: IPAddress(v4: 0xC000_0207), port: 7)

    private static func simulation(_ seed: UInt64) throws -> Simulation {
        var limits = Limits()
        limits.consent = .seconds(5)
        return try Simulation(seed: seed, limits: limits)
    }

    private static func closed(_ simulation: Simulation) -> [CloseReason] {
        simulation.events.compactMap { if case .peerClosed(_, let reason) = $0 { reason } else { nil } }
    }

    private static func receiverReport() -> [UInt8] {
        var report: [UInt8] = []
        RTCPWriter.receiverReport(sender: 9, blocks: [], to: &report)
        return report
    }

    /// A nominating check for a peer of the simulation, as whoever knows its credentials can make it.
    private static func check(_ peer: UInt64, at now: Instant) -> [UInt8] {
        var client = ICEClient(
            local: ICECredentials(usernameFragment: "client", password: "clientPassword1234567890"),
            remote: ICECredentials(usernameFragment: "server\(peer)", password: "serverPassword1234567890"),
            now: now
        )
        var request: [UInt8] = []
        _ = client.nextRequest(now: now, into: &request)
        return request
    }

    private static func isAnswered(_ datagram: [UInt8], from source: SocketAddress, in simulation: Simulation) -> Bool {
        simulation.keepsSent = true
        let before = simulation.sent.count
        simulation.inject(datagram, from: source)
        return simulation.sent[before...].contains { $0.destination == source && $0.bytes.first == 1 }
    }

    // MARK: Signs of life

    @Test func aPublisherThatSendsMediaAndNoChecksGoesOn() throws {
        let simulation = try Self.simulation(31)
        let publisher = try simulation.connect(1, published: [Calls.published])
        publisher.sendsChecks = false
        Calls.send(1..<20_000, by: publisher, in: simulation) { $0 % 500 == 1 }
        #expect(simulation.snapshot().peerCount == 1 && Self.closed(simulation) == [])
        simulation.run(for: .seconds(6))
        #expect(Self.closed(simulation) == [.consentExpired])
    }

    @Test func aViewerThatReportsAndSendsNoChecksGoesOn() throws {
        let simulation = try Self.simulation(32)
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        viewer.sendsChecks = false
        for _ in 0..<10 {
            simulation.run(for: .seconds(4))
            viewer.send(control: Self.receiverReport())
        }
        simulation.run(for: .seconds(4))
        #expect(simulation.snapshot().peerCount == 1)
        simulation.run(for: .seconds(2))
        #expect(Self.closed(simulation) == [.consentExpired])
    }

    /// Anybody can send this, having seen a packet or none.
    @Test(arguments: ["replays", "forgeries", "from another address"])
    func whatProvesNothingIsNoSignOfLife(kind: String) throws {
        let simulation = try Self.simulation(33)
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        let publisher = try simulation.connect(1, published: [Calls.published])
        for client in [viewer, publisher] { client.sendsChecks = false }
        _ = viewer.takeOutbox()
        viewer.send(control: Self.receiverReport())
        let report = viewer.takeOutbox()[0]
        _ = publisher.takeOutbox()
        publisher.send(sequence: 1, timestamp: 0, ssrc: Calls.sourceSSRC, payload: Calls.payload(1, isKeyframe: true))
        let packet = publisher.takeOutbox()[0]
        simulation.inject(report, from: viewer.address)
        simulation.inject(packet, from: publisher.address)
        for step in 0..<60 {
            simulation.run(for: .milliseconds(100))
            for (client, datagram) in [(viewer, report), (publisher, packet)] {
                switch kind {
                case "replays": simulation.inject(datagram, from: client.address)
                case "forgeries":
                    var forged = datagram
                    forged[datagram.count - 1 - step % 10] ^= 0x40
                    simulation.inject(forged, from: client.address)
                default:
                    client.send(control: Self.receiverReport())
                    for fresh in client.takeOutbox() { simulation.inject(fresh, from: Self.elsewhere) }
                }
            }
        }
        #expect(Self.closed(simulation) == [.consentExpired, .consentExpired])
    }

    /// Media that comes on a path which the peer has checked, and not nominated, says nothing of the one that is used.
    @Test func mediaOnAPathThatIsNotSelectedIsNoSignOfLife() throws {
        let simulation = try Self.simulation(34)
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        // Spoofed by the session's own peer: from now on media goes to somebody else.
        simulation.inject(Self.check(2, at: simulation.now), from: Self.elsewhere)
        viewer.sendsChecks = false
        for _ in 0..<60 {
            simulation.run(for: .milliseconds(100))
            viewer.send(control: Self.receiverReport())
        }
        #expect(Self.closed(simulation) == [.consentExpired])
    }

    // MARK: Whose an address is

    /// A session that has left an address doesn't keep others from it as long as it lives.
    @Test func anAddressIsHeldByItsOwnLastSignOfLife() throws {
        let simulation = try Simulation(seed: 35)
        let first = try simulation.connect(1, published: [Calls.published])
        _ = try simulation.connect(2, settles: false)
        // It was at both addresses, and stays at its own.
        simulation.inject(Self.check(1, at: simulation.now), from: Self.elsewhere)
        simulation.inject(Self.check(1, at: simulation.now), from: first.address)
        simulation.run(for: .seconds(4))
        #expect(!Self.isAnswered(Self.check(2, at: simulation.now), from: Self.elsewhere, in: simulation))
        simulation.run(for: .seconds(2))
        #expect(Self.isAnswered(Self.check(2, at: simulation.now), from: Self.elsewhere, in: simulation))
        #expect(!Self.isAnswered(Self.check(2, at: simulation.now), from: first.address, in: simulation))
        // The one that has lost it is answered there no more, and goes on where it is.
        #expect(!Self.isAnswered(Self.check(1, at: simulation.now), from: Self.elsewhere, in: simulation))
        Calls.send(1..<10, by: first, in: simulation)
        #expect(simulation.snapshot().counters.packetsReceived == 9)
    }

    @Test func mediaHoldsAnAddressAsWellAsChecksDo() throws {
        let simulation = try Simulation(seed: 36)
        let first = try simulation.connect(1, published: [Calls.published])
        _ = try simulation.connect(2, settles: false)
        first.sendsChecks = false
        Calls.send(1..<20_000, by: first, in: simulation) { $0 % 500 == 1 }
        #expect(!Self.isAnswered(Self.check(2, at: simulation.now), from: first.address, in: simulation))
        #expect(simulation.snapshot().counters.packetsReceived == 19_999)
    }

    /// A viewer without checks is heard by its reports alone, and one of them may be lost: it could never claim its address back.
    @Test func reportsHoldAnAddressFromOneToTheNextButOne() throws {
        let simulation = try Simulation(seed: 39)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        _ = try simulation.connect(3, settles: false)
        viewer.sendsChecks = false
        for _ in 0..<4 {
            viewer.send(control: Self.receiverReport())
            for _ in 0..<12 {
                simulation.run(for: .seconds(1))
                #expect(!Self.isAnswered(Self.check(3, at: simulation.now), from: viewer.address, in: simulation))
            }
        }
        viewer.send(control: Self.receiverReport())
        Calls.send(1..<10, by: publisher, in: simulation) { $0 == 1 }
        #expect(viewer.received.count == 9)
        simulation.run(for: .seconds(16))
        #expect(Self.isAnswered(Self.check(3, at: simulation.now), from: viewer.address, in: simulation))
    }

    /// Nothing is sent any more to an address that has become another peer's.
    @Test func mediaStopsForAnAddressThatIsAnothers() throws {
        let simulation = try Simulation(seed: 37)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        _ = try simulation.connect(3, settles: false)
        Calls.send(1..<100, by: publisher, in: simulation) { $0 == 1 }
        viewer.sendsChecks = false
        simulation.run(for: .seconds(6))
        #expect(Self.isAnswered(Self.check(3, at: simulation.now), from: viewer.address, in: simulation))
        let received = viewer.received.count
        Calls.send(100..<200, by: publisher, in: simulation) { $0 % 10 == 0 }
        #expect(received > 0 && viewer.received.count == received)
    }

    // MARK: What the log says

    @Test func aHandshakeThatNeverBeganIsCalledSo() throws {
        var limits = Limits()
        limits.dtlsHandshake = .seconds(3)
        let simulation = try Simulation(seed: 38, limits: limits)
        let client = try simulation.connect(1, settles: false)
        client.beginsHandshake = false
        simulation.run(for: .seconds(4))
        #expect(Self.closed(simulation) == [.dtlsNotBegun])
    }
}
