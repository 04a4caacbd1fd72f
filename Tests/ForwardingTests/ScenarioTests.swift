import Commands
import Glibc
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// Calls over networks that seeds make up: what holds for all of them.
///
/// `SLUICE_SCENARIOS` is how many seeds are tried, `SLUICE_SCENARIO` tries one and tells of it.
@Suite struct ScenarioTests {
    private static let count = number("SLUICE_SCENARIOS") ?? 300
    private static let only = number("SLUICE_SCENARIO")
    /// So many at a time, so that they share the cores.
    private static let chunks = 20

    private static func number(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }

    @Test(arguments: 0..<chunks)
    func whatHoldsForAll(chunk: Int) throws {
        if let only = Self.only {
            if chunk == 0 { try run(only, tells: true) }
            return
        }
        for seed in stride(from: chunk, to: Self.count, by: Self.chunks) { try run(seed, tells: false) }
    }

    private func run(_ seed: Int, tells: Bool) throws {
        var scenario = try Scenario(seed: UInt64(seed))
        let faults = scenario.run(tells: tells)
        if tells { print(scenario.description, faults) }
        #expect(faults.isEmpty, "SLUICE_SCENARIO=\(seed): \(scenario.description)")
    }
}

/// A camera and its viewers.
private struct Scenario {
    private static let duration = Duration.seconds(20)
    /// What may pass from the handshake to the first frame.
    private static let start = Duration.seconds(4)
    private static let longestWait = Duration.seconds(2)
    private static let audioRate = 60_000.0

    /// A viewer, its network, and what was noticed.
    private final class Viewer {
        let client: SimulatedClient
        let down: Link
        let worker: Int
        let id: UInt64
        let decoder = SimulatedDecoder(
            ssrc: SimulatedCamera.viewerVideoSSRC,
            retransmissionSSRC: SimulatedCamera.viewerVideoSSRC + 1
        )
        /// When, in seconds, and what the network carries from then on; nil without a bottleneck.
        var plan: [(at: Double, bitsPerSecond: Int?)] = []
        var conditions: Link.Conditions
        var continuity = Continuity()
        /// What did not hold, each with the first time in seconds.
        var faults: [String: Double] = [:]
        /// Since when the estimate has been beyond what can be, and since when there has been room for the least.
        var exceedsSince: Instant?
        var connectedAt: Instant?
        var hasRoomSince: Instant?

        init(_ client: SimulatedClient, down: Link, worker: Int, id: UInt64, conditions: Link.Conditions) {
            self.client = client
            self.down = down
            self.worker = worker
            self.id = id
            self.conditions = conditions
        }
    }

    private let simulation: Simulation
    private let camera: SimulatedCamera
    private var viewers: [Viewer] = []
    private(set) var description: String

    init(seed: UInt64) throws {
        var random = Simulation.Random(state: seed &* 0x2545_F491_4F6C_DD1D)
        let workers = Int.random(in: 1...2, using: &random)
        simulation = try Simulation(seed: seed, workers: workers)
        let rates = Bool.random(using: &random) ? [150_000.0, 500_000, 1_700_000] : [400_000, 1_500_000]
        camera = SimulatedCamera(
            try simulation.connect(1, published: SimulatedCamera.published(encodings: rates.count)),
            rates: rates
        )
        description = "\(workers) workers, \(rates)"
        for number in 0..<UInt64.random(in: 1...2, using: &random) {
            let worker = Int.random(in: 0..<workers, using: &random)
            let subscribed = SimulatedCamera.subscribed(encodings: rates.count)
            // OpenSSL sends again by the system's clock: a handshake over a network with losses would not be the same twice.
            let client = try simulation.connect(2 + number, worker: worker, subscribed: subscribed)
            // So are the times of connectivity checks.
            client.sendsChecks = false
            client.transportSequenceExtension = SimulatedCamera.transportSequenceExtension
            let conditions = Self.conditions(&random)
            let down = Link(conditions, seed: seed &+ number)
            simulation.connect(
                client,
                up: Link(.init(delay: conditions.delay, loss: conditions.loss), seed: seed &+ number &+ 100),
                down: down
            )
            let viewer = Viewer(client, down: down, worker: worker, id: 2 + number, conditions: conditions)
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                viewer.plan.append((Double.random(in: 3...17, using: &random), Self.rate(&random)))
            }
            viewer.plan.sort { $0.at < $1.at }
            client.inspect = { [unowned viewer] header, bytes in
                if let fault = viewer.continuity.observe(header, bytes) { viewer.faults[fault] = 0 }
            }
            viewers.append(viewer)
            description += "; \(conditions) then \(viewer.plan)"
        }
    }

    /// Nil without a bottleneck.
    private static func rate(_ random: inout Simulation.Random) -> Int? {
        guard Int.random(in: 0..<5, using: &random) > 0 else { return nil }
        return Int(200_000 * pow(40, Double.random(in: 0...1, using: &random)))
    }

    private static func conditions(_ random: inout Simulation.Random) -> Link.Conditions {
        var conditions = Link.Conditions(
            bitsPerSecond: rate(&random),
            queue: .milliseconds(Int.random(in: 50...1000, using: &random)),
            delay: .milliseconds(Int.random(in: 2...150, using: &random))
        )
        if Bool.random(using: &random) { conditions.jitter = .milliseconds(Int.random(in: 1...30, using: &random)) }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: conditions.loss = .random(Double.random(in: 0...0.05, using: &random))
        case 1: conditions.loss = .bursts(begin: 0.002, end: 0.2)
        default: break
        }
        if Int.random(in: 0..<8, using: &random) == 0 { conditions.reordered = 0.01 }
        if Int.random(in: 0..<8, using: &random) == 0 { conditions.duplicated = 0.01 }
        return conditions
    }

    /// - Returns: What did not hold.
    mutating func run(tells: Bool) -> [String] {
        let begin = simulation.now
        var step = 0
        simulation.run(for: Self.duration) {
            camera.tick()
            step += 1
            let now = simulation.now
            for viewer in viewers {
                viewer.decoder.advance(viewer.client, now: now)
                while let change = viewer.plan.first, (now - begin).seconds >= change.at {
                    viewer.plan.removeFirst()
                    viewer.conditions.bitsPerSecond = change.bitsPerSecond
                    viewer.down.change(to: viewer.conditions, now: now)
                    viewer.exceedsSince = nil
                }
                if step % 100 == 0 { look(at: viewer, from: begin, now: now, tells: tells && step % 200 == 0) }
            }
        }
        return viewers.enumerated().flatMap { place, viewer in
            viewer.faults.map { "viewer \(place): \($0) at \($1) s" }.sorted()
        }
    }

    private func note(_ fault: String, of viewer: Viewer, at time: Duration) {
        viewer.faults[fault] = viewer.faults[fault] ?? time.seconds
    }

    private func look(at viewer: Viewer, from begin: Instant, now: Instant, tells: Bool) {
        let rate = viewer.conditions.bitsPerSecond.map(Double.init) ?? .infinity
        let peer = simulation.snapshot(worker: viewer.worker).peers.first { $0.peer == PeerID(rawValue: viewer.id) }
        if let estimate = peer?.bandwidth?.estimate {
            // A connection begins with a guess.
            let isBeyond = estimate > max(rate, 200_000) * 3
            viewer.exceedsSince = isBeyond ? viewer.exceedsSince ?? now : nil
            if let since = viewer.exceedsSince, now - since > .seconds(1) {
                note("the estimate is more than 3 times the rate", of: viewer, at: now - begin)
            }
            if tells {
                let last = viewer.decoder.decoded.last
                print(
                    (now - begin).seconds,
                    "of",
                    rate,
                    peer?.bandwidth.map { "\($0)" } ?? "",
                    last.map { "encoding \($0.encoding), \((now - $0.at).seconds) s ago" } ?? "nothing"
                )
            }
        }
        // OpenSSL sends again by the system's clock, so how long a handshake takes says nothing.
        guard viewer.client.isConnected else { return }
        let connected = viewer.connectedAt ?? now
        viewer.connectedAt = connected
        guard rate >= (camera.rates[0] + Self.audioRate) * 1.5 else {
            viewer.hasRoomSince = nil
            return
        }
        let since = viewer.hasRoomSince ?? now
        viewer.hasRoomSince = since
        let first = connected + (Self.start - Self.longestWait)
        let last = max(viewer.decoder.decoded.last?.at ?? first, max(since, first))
        if now > last, now - last > Self.longestWait {
            note("no frame for 2 s", of: viewer, at: now - begin)
        }
    }
}

/// Whether the packets that are sent to a viewer follow each other without a gap, a repeat or a step back.
private struct Continuity {
    private var numbers: [UInt32: UInt16] = [:]
    private var transportNumber: UInt16?
    private var timestamps: [UInt32: UInt32] = [:]
    private var picture: UInt16?

    /// - Returns: What is wrong with a packet.
    mutating func observe(_ header: RTPHeader, _ bytes: [UInt8]) -> String? {
        defer { numbers[header.ssrc] = header.sequenceNumber }
        if let before = numbers[header.ssrc], header.sequenceNumber != before &+ 1 {
            return "\(header.ssrc) went from number \(before) to \(header.sequenceNumber)"
        }
        var elements = HeaderExtensionReader(header)
        while let element = elements.next(in: bytes.span.bytes) {
            guard element.id == SimulatedCamera.transportSequenceExtension, element.length == 2 else { continue }
            let number = UInt16(bytes[element.offset]) << 8 | UInt16(bytes[element.offset + 1])
            defer { transportNumber = number }
            if let before = transportNumber, number != before &+ 1 {
                return "transport-wide numbers went from \(before) to \(number)"
            }
        }
        guard header.ssrc != SimulatedCamera.viewerVideoSSRC + 1 else { return nil }
        defer { timestamps[header.ssrc] = header.timestamp }
        if let before = timestamps[header.ssrc], Int32(bitPattern: header.timestamp &- before) < 0 {
            return "\(header.ssrc) went back in time"
        }
        let payload = header.payloadOffset
        guard header.ssrc == SimulatedCamera.viewerVideoSSRC, bytes.count > payload + 6, bytes[payload] & 0x10 != 0
        else { return nil }
        let number = (UInt16(bytes[payload + 2]) << 8 | UInt16(bytes[payload + 3])) & 0x7FFF
        defer { picture = number }
        if let before = picture, number != (before &+ 1) & 0x7FFF { return "picture \(number) follows \(before)" }
        return nil
    }
}
