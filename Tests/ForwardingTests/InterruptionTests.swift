import Commands
import Forwarding
import Simulation
import Testing
import Transport
import Wire

/// What happens when a publisher's network is gone for a while, and comes back.
@Suite struct InterruptionTests {
    typealias Calls = ForwardingTests

    private static func keyframeRequests(to publisher: SimulatedClient) -> Int {
        publisher.controlPackets { packet, _ in
            if case .pictureLossIndication(_, Calls.sourceSSRC) = packet { true } else { nil }
        }.count
    }

    private static func asked(of publisher: SimulatedClient) -> Set<UInt16> {
        Set(publisher.controlPackets { packet, bytes in Calls.lost(packet, in: bytes) }.joined())
    }

    @Test func anInterruptionIsMendedByAKeyframeAndNotPacketByPacket() throws {
        let simulation = try Simulation(seed: 21)
        let publisher = try simulation.connect(1, published: [Calls.published])
        _ = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        simulation.run(for: .seconds(1))
        let before = Self.keyframeRequests(to: publisher)
        // Sixty packets were sent meanwhile, and went nowhere.
        Calls.send(80..<90, by: publisher, in: simulation)
        simulation.run(for: .milliseconds(50))
        #expect(Self.keyframeRequests(to: publisher) == before + 1)
        #expect(Self.asked(of: publisher).isEmpty)
        // Loss from then on is mended as ever.
        Calls.send(90..<100, by: publisher, in: simulation, isKeyframe: { $0 == 90 }, skipping: [95])
        simulation.run(for: .milliseconds(50))
        #expect(Self.asked(of: publisher) == [95])
    }

    @Test func lossIsNoInterruption() throws {
        let simulation = try Simulation(seed: 22)
        let publisher = try simulation.connect(1, published: [Calls.published])
        _ = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        let before = Self.keyframeRequests(to: publisher)
        // Many at once, without a pause; and few after a pause, as in a still picture.
        Calls.send(60..<70, by: publisher, in: simulation)
        simulation.run(for: .seconds(1))
        Calls.send(75..<80, by: publisher, in: simulation)
        simulation.run(for: .milliseconds(50))
        #expect(Self.asked(of: publisher) == Set(20..<60).union(70..<75))
        #expect(Self.keyframeRequests(to: publisher) == before)
    }

    @Test func aKeyframeThatDoesNotComeIsAskedForAgainAFewTimes() throws {
        let simulation = try Simulation(seed: 23)
        let publisher = try simulation.connect(1, published: [Calls.published])
        Calls.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        simulation.run(for: .seconds(1))
        let before = Self.keyframeRequests(to: publisher)
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        simulation.run(for: .seconds(5))
        #expect(Self.keyframeRequests(to: publisher) == before + 3)
        var request: [UInt8] = []
        RTCPWriter.pictureLossIndication(sender: 9, media: Calls.viewerSSRC, to: &request)
        viewer.send(control: request)
        simulation.run(for: .milliseconds(600))
        #expect(Self.keyframeRequests(to: publisher) == before + 5)
        Calls.send(20..<25, by: publisher, in: simulation) { $0 == 20 }
        simulation.run(for: .seconds(2))
        #expect(Self.keyframeRequests(to: publisher) == before + 5, "it has come")
    }
}
