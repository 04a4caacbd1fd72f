import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// What the worst RTCP costs that somebody with a session can send.
@Suite struct ControlCostTests {
    typealias Calls = ForwardingTests

    /// Packets of one kind, of which a datagram is filled.
    struct Kind: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let packet: @Sendable () -> [UInt8]
    }

    /// More than a path carries in one piece, and less than UDP.
    private static let datagramBytes = 60_000
    private static let subscriptions: UInt32 = 100
    /// The subscription that a look-up comes to last.
    private static let lastSSRC = Calls.viewerSSRC + (subscriptions - 1) * 16

    private static func packet(_ type: UInt8, _ format: UInt8, _ words: [UInt32]) -> [UInt8] {
        var packet = [0x80 | format, type, UInt8(words.count >> 8), UInt8(words.count & 255)]
        for word in words { packet += withUnsafeBytes(of: word.bigEndian) { Array($0) } }
        return packet
    }

    private static func block(_ ssrc: UInt32) -> [UInt32] { [ssrc, 0xFF00_0000, 1, 0, 0, 0] }

    static let kinds: [Kind] = [
        Kind(testDescription: "NACK, one list") {
            packet(205, 1, [9, lastSSRC] + [UInt32](repeating: 0x1234_FFFF, count: 14_990))
        },
        Kind(testDescription: "NACK, of what is there") {
            packet(205, 1, [9, lastSSRC] + [UInt32](repeating: (lastSSRC & 0x3FFF) << 16 | 0xFFFF, count: 14_990))
        },
        Kind(testDescription: "NACK, small packets") { packet(205, 1, [9, lastSSRC, 0x1234_FFFF]) },
        Kind(testDescription: "FIR, one list") {
            packet(206, 4, [9, 0] + (0..<7_490).flatMap { [lastSSRC, UInt32($0) << 24] })
        },
        Kind(testDescription: "PLI") { packet(206, 1, [9, lastSSRC]) },
        Kind(testDescription: "receiver reports") {
            packet(201, 31, [9] + (0..<31).flatMap { _ in block(lastSSRC) })
        },
        Kind(testDescription: "sender reports") {
            packet(200, 31, [9, 1, 1, 1, 1, 1] + (0..<31).flatMap { _ in block(lastSSRC) })
        },
        Kind(testDescription: "REMB") {
            packet(206, 15, [9, 0, 0x5245_4D42, 0xFF00_0001] + [UInt32](repeating: lastSSRC, count: 255))
        },
        Kind(testDescription: "BYE") { packet(203, 31, [UInt32](repeating: lastSSRC, count: 31)) },
        Kind(testDescription: "SDES") { packet(202, 1, [9, 0x0102_6162, 0]) },
        Kind(testDescription: "XR") { packet(207, 0, [9] + [UInt32](repeating: 0x0400_0000, count: 300)) },
        Kind(testDescription: "transport feedback") { packet(205, 15, [9, 9, 1, 0, 0]) },
        Kind(testDescription: "unknown, as short as can be") { packet(210, 0, []) },
    ]

    private static func datagram(of kind: Kind) -> [UInt8] {
        let packet = kind.packet()
        var datagram: [UInt8] = []
        repeat { datagram += packet } while datagram.count + packet.count <= datagramBytes
        return datagram
    }

    private static func call() throws -> (simulation: Simulation, publisher: SimulatedClient, viewer: SimulatedClient) {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: (0..<subscriptions).map { Calls.subscribed($0) })
        Calls.send(1..<30, by: publisher, in: simulation) { $0 == 1 }
        simulation.discardsSent = true
        return (simulation, publisher, viewer)
    }

    /// Hands a compound to the engine without any time going by.
    ///
    /// - Returns: The items that were looked at, and the time that took.
    private static func receive(
        _ control: [UInt8],
        from client: SimulatedClient,
        peer: UInt64 = 2,
        in simulation: Simulation
    ) -> (items: UInt64, time: Duration) {
        let before = simulation.engines[0].peers[PeerID(rawValue: peer)]?.controlAllowance.taken ?? 0
        client.send(control: control)
        var time = Duration.zero
        for datagram in client.takeOutbox() {
            var sealed = datagram
            time += ContinuousClock().measure {
                sealed.withUnsafeMutableBytes {
                    simulation.engines[0].receive(
                        $0,
                        from: AddressPair(remote: client.address),
                        now: simulation.now
                    )
                }
            }
        }
        simulation.engines[0].endTurn(now: simulation.now)
        let after = simulation.engines[0].peers[PeerID(rawValue: peer)]?.controlAllowance.taken ?? 0
        return (after - before, time)
    }

    @Test(arguments: kinds) func theWorstDatagramsCostABoundedNumberOfLookUps(of kind: Kind) throws {
        let limits = Limits()
        let call = try Self.call()
        let datagram = Self.datagram(of: kind)
        var items: [UInt64] = []
        var times: [Duration] = []
        for _ in 0..<20 {
            let cost = Self.receive(datagram, from: call.viewer, in: call.simulation)
            items.append(cost.items)
            times.append(cost.time)
        }
        print("\(kind.testDescription): \(items[0]) items, \(times[0]); of 20 \(items.reduce(0, +)), last \(times[19])")
        #expect(items.allSatisfy { $0 <= UInt64(limits.rtcpItemsPerDatagram) })
        #expect(items.reduce(0, +) <= UInt64(limits.rtcpItemsPerSecond))
        // Whoever sends such things is listened to again, and others were all the time.
        call.simulation.run(for: .seconds(1))
        #expect(
            Self.receive(Self.packet(206, 1, [9, Self.lastSSRC]), from: call.viewer, in: call.simulation).items == 1
        )
        let other = call.simulation.engines[0].counters.keyframeRequestsReceived
        _ = Self.receive(Self.packet(206, 1, [9, 1]), from: call.publisher, peer: 1, in: call.simulation)
        #expect(call.simulation.engines[0].counters.keyframeRequestsReceived == other)
    }

    /// The list ends where the credit does.
    @Test func whoHasNoCreditHasNothingLookedUp() throws {
        let call = try Self.call()
        let first = try #require(
            call.viewer.headers().first { $0.ssrc == Calls.viewerSSRC }
        )
        // The 29 packets that were sent, over and over.
        let items = [UInt32](repeating: UInt32(first.sequenceNumber) << 16 | 0xFFFF, count: 50)
        var taken: [UInt64] = []
        for _ in 0..<3 {
            taken.append(
                Self.receive(
                    Self.packet(205, 1, [9, Calls.viewerSSRC] + items),
                    from: call.viewer,
                    in: call.simulation
                ).items
            )
        }
        #expect(call.simulation.engines[0].counters.packetsRetransmitted == 256)
        // One for the packet, one for each number that was sent again, and one that found the credit spent.
        #expect(taken == [258, 2, 2])
    }

    @Test func whatIsTooMuchIsCounted() throws {
        let call = try Self.call()
        _ = Self.receive(Self.datagram(of: Self.kinds[2]), from: call.viewer, in: call.simulation)
        #expect(call.simulation.snapshot().counters.drops[DropReason.rtcpExcess.rawValue] == 1)
    }

    /// One viewer that asks again as soon as it has what it asked for.
    @Test func aViewerForcesFewKeyframes() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        let paused = try simulation.connect(3, subscribed: [Calls.subscribed(1)])
        var sequence: UInt64 = 1
        for kind in ["PLI", "pause", "subscription"] {
            simulation.run(for: .seconds(30))
            let before = simulation.engines[0].counters.keyframeRequestsSent
            var answered = before
            for step in 0..<600 {
                switch kind {
                case "PLI": viewer.send(control: Self.packet(206, 1, [9, Calls.viewerSSRC]))
                case "pause":
                    simulation.apply(
                        .pauseSubscription(PeerID(rawValue: 3), ssrc: Calls.viewerSSRC + 16, isPaused: step % 2 == 0)
                    )
                default:
                    simulation.apply(
                        .changeSubscriptions(
                            PeerID(rawValue: 3),
                            ending: [Calls.viewerSSRC + 16],
                            beginning: [Calls.subscribed(1)]
                        ) { _ in }
                    )
                }
                let isKeyframe = simulation.engines[0].counters.keyframeRequestsSent > answered
                answered = simulation.engines[0].counters.keyframeRequestsSent
                Calls.send(sequence..<(sequence + 1), by: publisher, in: simulation) { _ in isKeyframe }
                sequence += 1
                simulation.run(for: .milliseconds(49))
            }
            let requests = simulation.engines[0].counters.keyframeRequestsSent - before
            // Five at once, and one in three seconds.
            #expect(requests >= 10 && requests <= 16, "\(requests) keyframes in 30 s by \(kind)")
        }
        _ = paused
    }
}
