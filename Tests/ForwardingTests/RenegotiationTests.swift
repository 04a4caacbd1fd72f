import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// What changes while a peer is connected.
@Suite struct RenegotiationTests {
    typealias Calls = ForwardingTests

    private static func send(_ numbers: ClosedRange<UInt64>, by client: SimulatedClient, in simulation: Simulation) {
        for number in numbers {
            client.send(
                sequence: number,
                timestamp: UInt32(number) * 3000,
                ssrc: Calls.sourceSSRC,
                marker: true,
                payload: Calls.payload(UInt32(number), isKeyframe: number % 10 == 1)
            )
            simulation.run(for: .milliseconds(33))
        }
    }

    private static func change(
        _ simulation: Simulation,
        ending: [UInt32] = [],
        beginning: [SubscribedTrack] = []
    ) -> Bool {
        let box = Box()
        simulation.apply(
            .changeSubscriptions(PeerID(rawValue: 2), ending: ending, beginning: beginning) { box.value = $0 }
        )
        return box.value
    }

    private final class Box: @unchecked Sendable {
        // Written and read by the test's thread only.
        var value = false
    }

    @Test func subscriptionsBeginAndEndWhileConnected() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2)
        Self.send(1...5, by: publisher, in: simulation)
        #expect(viewer.received.isEmpty)
        #expect(Self.change(simulation, beginning: [Calls.subscribed()]))
        simulation.run(for: .milliseconds(2))
        #expect(
            !publisher.controlPackets { packet, _ in if case .pictureLossIndication = packet { true } else { nil } }
                .isEmpty,
            "a keyframe is asked for at once"
        )
        Self.send(6...25, by: publisher, in: simulation)
        #expect(viewer.payloads().map { Calls.number($0) } == Array(11...25))
        #expect(Self.change(simulation, ending: [Calls.viewerSSRC]))
        Self.send(26...40, by: publisher, in: simulation)
        #expect(viewer.received.count == 15)
        #expect(simulation.snapshot().subscriptionCount == 0)
    }

    @Test func aPauseLeavesNoGap() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Self.send(1...15, by: publisher, in: simulation)
        simulation.apply(.pauseSubscription(PeerID(rawValue: 2), ssrc: Calls.viewerSSRC, isPaused: true))
        Self.send(16...25, by: publisher, in: simulation)
        simulation.apply(.pauseSubscription(PeerID(rawValue: 2), ssrc: Calls.viewerSSRC, isPaused: false))
        Self.send(26...35, by: publisher, in: simulation)
        #expect(
            viewer.payloads().map { Calls.number($0) } == Array(1...15) + Array(31...35),
            "from the next keyframe on"
        )
        let headers = viewer.headers()
        for (earlier, later) in zip(headers, headers.dropFirst()) {
            #expect(later.sequenceNumber == earlier.sequenceNumber &+ 1)
        }
    }

    @Test func tracksArePublishedAndUnpublishedWhileConnected() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1)
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Self.send(1...3, by: publisher, in: simulation)
        #expect(viewer.received.isEmpty)
        let box = Box()
        simulation.apply(.setPublished(PeerID(rawValue: 1), [Calls.published]) { box.value = $0 })
        #expect(box.value)
        Self.send(11...15, by: publisher, in: simulation)
        #expect(viewer.payloads().map { Calls.number($0) } == Array(11...15))
        // The same again changes nothing.
        simulation.apply(.setPublished(PeerID(rawValue: 1), [Calls.published]) { box.value = $0 })
        Self.send(16...20, by: publisher, in: simulation)
        #expect(viewer.received.count == 10)
        simulation.apply(.setPublished(PeerID(rawValue: 1), []) { box.value = $0 })
        Self.send(21...35, by: publisher, in: simulation)
        #expect(viewer.received.count == 10)
    }

    @Test func whoIsGoneIsNotChanged() throws {
        let simulation = try Simulation(seed: 1)
        #expect(!Self.change(simulation, beginning: [Calls.subscribed()]))
        let box = Box()
        box.value = true
        simulation.apply(.setPublished(PeerID(rawValue: 9), [Calls.published]) { box.value = $0 })
        #expect(!box.value)
    }
}
