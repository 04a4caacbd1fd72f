import Commands
import Simulation
import Testing
import Transport

@testable import Forwarding

/// How soon a viewer gets what its network has room for: a camera of 150, 500 and 2500 kbit/s, 25 ms each way.
@Suite struct SwitchTests {
    private static let top = 2
    /// Of the best encoding and the audio as the network carries them, headers and all.
    private static let topRate = 2_770_000.0

    private final class Call {
        let simulation: Simulation
        let camera: SimulatedCamera
        let viewer: SimulatedClient
        let link: Link
        let decoder = SimulatedDecoder(
            ssrc: SimulatedCamera.viewerVideoSSRC,
            retransmissionSSRC: SimulatedCamera.viewerVideoSSRC + 1
        )
        private let start: Instant

        init(bitsPerSecond: Int, seed: UInt64 = 1) throws {
            let rates = [150_000.0, 500_000, 2_500_000]
            simulation = try Simulation(seed: seed)
            camera = SimulatedCamera(
                try simulation.connect(1, published: SimulatedCamera.published(encodings: rates.count)),
                rates: rates,
                frameRate: 25
            )
            viewer = try simulation.connect(2, subscribed: SimulatedCamera.subscribed(encodings: rates.count))
            viewer.sendsChecks = false
            viewer.transportSequenceExtension = SimulatedCamera.transportSequenceExtension
            link = Link(.init(bitsPerSecond: bitsPerSecond, delay: .milliseconds(25)), seed: seed)
            simulation.connect(viewer, up: Link(.init(delay: .milliseconds(25)), seed: seed + 1), down: link)
            start = simulation.now
        }

        func run(for seconds: Double, until isDone: () -> Bool = { false }) -> Double? {
            let begin = simulation.now
            while simulation.now - begin < .seconds(seconds) {
                simulation.run(for: .milliseconds(10)) {
                    camera.tick()
                    decoder.advance(viewer, now: simulation.now)
                }
                if isDone() { return (simulation.now - begin).seconds }
            }
            return nil
        }

        var encoding: Int? { decoder.decoded.last?.encoding }

        var allocated: Double {
            simulation.snapshot().peers.first { $0.peer == PeerID(rawValue: 2) }?.bandwidth?.allocated ?? 0
        }
    }

    @Test func theBestEncodingIsThereWithinASecond() throws {
        let call = try Call(bitsPerSecond: 5_000_000)
        let taken = call.run(for: 5) { call.encoding == Self.top }
        print("the best encoding after \(taken ?? .infinity) s")
        #expect(taken ?? .infinity <= 1)
    }

    /// A network that carries a tenth less than is sent fills slowly.
    @Test(arguments: [(5_000_000, 2_500_000, 1.1), (3_200_000, 1_600_000, 0.5)])
    func whatChangesIsFollowedBothWays(before: Int, after: Int, promised: Double) throws {
        let call = try Call(bitsPerSecond: before)
        _ = call.run(for: 15)
        #expect(call.encoding == Self.top)
        call.link.change(now: call.simulation.now) { $0.bitsPerSecond = after }
        let begun = call.run(for: 5) {
            call.allocated < 2_000_000
        }
        let lower = call.run(for: 5) { call.encoding == 1 }
        _ = call.run(for: 15)
        #expect(call.encoding == 1)
        call.link.change(now: call.simulation.now) { $0.bitsPerSecond = before }
        let back = call.run(for: 20) { call.encoding == Self.top }
        print(
            "down begun after \(begun ?? .infinity) s, shown \(lower ?? .infinity) s later; back at the top after \(back ?? .infinity) s"
        )
        #expect(begun ?? .infinity <= promised)
        #expect(back ?? .infinity <= 5)
    }

    @Test(arguments: [1.2, 1.5, 2])
    func aNetworkThatStaysTheSameIsNoReasonToSwitch(room: Double) throws {
        let call = try Call(bitsPerSecond: Int(Self.topRate * room))
        let reached = call.run(for: 30) { call.encoding == Self.top }
        _ = call.run(for: 10)
        let before = call.decoder.decoded.count
        _ = call.run(for: 120)
        let shown = call.decoder.decoded[before...].map(\.encoding)
        let switches = zip(shown, shown.dropFirst()).count { $0 != $1 }
        print(
            "\(switches) switches in 120 s with room for \(room) times the best encoding, which came after \(reached ?? .infinity) s"
        )
        #expect(switches == 0)
        #expect(shown.last == Self.top)
    }
}
