import Glibc
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// The test cases of RFC 8867 §5 for congestion control of interactive media: what the estimate of each viewer makes of a bottleneck that
/// changes, or that others share.
///
/// The media is a source that sends as much as it may, up to 6 Mbit/s, 25 frames a second. The bottleneck drops what would wait for more
/// than 300 ms; each way takes 50 ms, and up to 30 ms more at random. `SLUICE_CASES` names a directory for what charts are drawn of.
@Suite struct CongestionCaseTests {
    @Test func aCapacityThatVaries() throws {
        let found = CongestionCase("5.1", [(0, 1), (40, 2.5), (60, 0.6), (80, 1)], flows: 1, seconds: 100).run()
        #expect(found.utilisation >= 0.85)
        #expect(found.queue95 <= 0.1)
        #expect(found.slowestRise <= 6 && found.slowestFall <= 2)
    }

    @Test func aCapacityThatVariesForTwo() throws {
        let capacities = [(0.0, 4.0), (25, 2), (50, 3.5), (75, 1), (100, 2)]
        let found = CongestionCase("5.2", capacities, flows: 2, seconds: 125).run()
        #expect(found.utilisation >= 0.85)
        #expect(found.queue95 <= 0.1)
        #expect(found.fairness >= 0.9)
    }

    @Test func feedbackOverACongestedNetwork() throws {
        var congested = CongestionCase("5.3", [(0, 2), (20, 1), (40, 0.5), (60, 2)], flows: 1, seconds: 100)
        congested.backward = [(0, 2), (35, 0.8), (70, 2)]
        let found = congested.run()
        #expect(found.utilisation >= 0.85)
        #expect(found.queue95 <= 0.1)
    }

    @Test func flowsThatComeOneAfterAnother() throws {
        var growing = CongestionCase("5.4", [(0, 3.5)], flows: 3, seconds: 120)
        growing.starts = [0, 20, 40]
        let found = growing.run()
        #expect(found.utilisation >= 0.85)
        #expect(found.queue95 <= 0.1)
        #expect(found.fairness >= 0.85)
    }

    @Test func differentRoundTrips() throws {
        var distances = CongestionCase("5.5", [(0, 4)], flows: 5, seconds: 300)
        distances.starts = [0, 10, 20, 30, 40]
        distances.delays = [10, 25, 50, 100, 150]
        let found = distances.run()
        #expect(found.utilisation >= 0.85)
        #expect(found.queue95 <= 0.1)
        #expect(found.fairness >= 0.75)
    }

    @Test func besideALongTransfer() throws {
        var beside = CongestionCase("5.6", [(0, 2)], flows: 1, seconds: 120)
        beside.starts = [5]
        beside.transfers = .long
        let found = beside.run()
        #expect(found.utilisation >= 0.85)
        // Neither starves the other.
        #expect(found.mediaShare >= 0.25 && found.mediaShare <= 0.75)
    }

    @Test func besideShortTransfers() throws {
        var beside = CongestionCase("5.7", [(0, 2)], flows: 2, seconds: 300)
        beside.starts = [5, 5]
        beside.transfers = .short(10)
        let found = beside.run()
        #expect(found.utilisation >= 0.85)
        // Two of twelve.
        #expect(found.mediaShare >= 0.12)
        #expect(found.fairness >= 0.8)
    }

    @Test func aFlowThatPauses() throws {
        var pausing = CongestionCase("5.8", [(0, 3.5)], flows: 3, seconds: 120)
        pausing.pause = 40..<60
        let found = pausing.run()
        #expect(found.utilisation >= 0.85)
        #expect(found.queue95 <= 0.1)
        #expect(found.fairness >= 0.85)
    }
}

extension CongestionCaseTests {
    /// Pages that are loaded beside the media, of 100 KB each.
    @Test func besideBursts() throws {
        var beside = CongestionCase("bursts", [(0, 1)], flows: 1, seconds: 100)
        beside.transfers = .bursts([20, 40, 60, 80])
        let found = beside.run()
        #expect(found.utilisation * found.mediaShare >= 0.75)
    }
}

/// One of the cases.
private struct CongestionCase {
    enum Transfers {
        /// One that does not end.
        case long
        /// So many, of 100 to 1000 KB each, with ten seconds between them on average.
        case short(Int)
        /// Of 100 KB each, at these seconds.
        case bursts([Double])
    }

    struct Result {
        /// Of the bottleneck, by media and transfers, from ten seconds on.
        var utilisation = 0.0
        /// How long the 95th percentile of the media's packets waits before the bottleneck, in seconds.
        var queue95 = 0.0
        var lost = 0.0
        /// Jain's index of what the flows got in the last third.
        var fairness = 1.0
        /// Of what was delivered.
        var mediaShare = 1.0
        /// After a step of the capacity: the longest until 85 % of it was estimated, and until the queue was below 100 ms, in seconds.
        var slowestRise = 0.0
        var slowestFall = 0.0
    }

    private static let runs = 3

    let name: String
    /// From which second on, in Mbit/s.
    let capacities: [(at: Double, megabits: Double)]
    let flows: Int
    let seconds: Int
    var starts: [Double]
    /// Each way, in milliseconds.
    var delays: [Int]
    /// What the feedback's way carries; it has media of its own.
    var backward: [(at: Double, megabits: Double)] = []
    var transfers: Transfers?
    /// When the first flow sends nothing.
    var pause: Range<Double>?

    init(_ name: String, _ capacities: [(Double, Double)], flows: Int, seconds: Int) {
        self.name = name
        self.capacities = capacities.map { (at: $0.0, megabits: $0.1) }
        self.flows = flows
        self.seconds = seconds
        starts = Array(repeating: 0, count: flows)
        delays = Array(repeating: 50, count: flows)
    }

    /// - Returns: Of several runs with different jitter, the median of each figure.
    func run() -> Result {
        let results = (0..<Self.runs).map { seed in
            var network = Network(self, seed: UInt64(seed))
            return network.run(keepsChart: seed == 0)
        }
        func median(_ figure: (Result) -> Double) -> Double { results.map(figure).sorted()[results.count / 2] }
        let result = Result(
            utilisation: median(\.utilisation),
            queue95: median(\.queue95),
            lost: median(\.lost),
            fairness: median(\.fairness),
            mediaShare: median(\.mediaShare),
            slowestRise: median(\.slowestRise),
            slowestFall: median(\.slowestFall)
        )
        print("RFC 8867, \(name): \(result)")
        return result
    }
}

/// A viewer whose network is the bottleneck, its estimate, and the source of what it is sent.
private final class Flow {
    private static let most = 6_000_000.0
    /// The next step of a ladder of encodings.
    private static let step = 1.3

    let bandwidth = ViewerBandwidth()
    private var reporter = ArrivalReporter()
    private let sends: ([UInt8]) -> Void
    private var owed = 0.0
    private var queue: [Int] = []
    private var pacedUntil = Instant(nanoseconds: 0)
    private var frames = 0
    var isPaused = true
    private(set) var arrivedBytes = 0
    private(set) var sentCount = 0

    init(sends: @escaping ([UInt8]) -> Void) { self.sends = sends }

    /// Another millisecond has gone by.
    func tick(_ step: Int, now: Instant) {
        guard !isPaused else { return }
        if step % 20 == 0 { send(100, now: now) }
        if step % 40 == 0 {
            let rate = min(Self.most, max(50_000, bandwidth.estimator.target * 0.97 - 45_000))
            // Frames differ.
            let size = Double([90, 110, 80, 120, 100][frames % 5]) / 100
            frames += 1
            var left = Int(rate / 25 / 8 * size)
            while left > 0 {
                queue.append(min(1200, max(left, 100)))
                left -= 1200
            }
        }
        while let first = queue.first, now >= pacedUntil {
            queue.removeFirst()
            send(first, now: now)
            let rate = bandwidth.pacingRate(now: now)
            pacedUntil = max(pacedUntil, now + .milliseconds(-5)) + .nanoseconds(Int64(Double(first * 8) / rate * 1e9))
        }
        if step % 200 == 0 {
            let estimate = bandwidth.estimator.bitsPerSecond
            bandwidth.allocated = min(Self.most, estimate)
            _ = bandwidth.beginProbe(
                next: estimate < Self.most ? estimate * Self.step : nil,
                wanted: Self.most,
                isUrgent: false,
                now: now
            )
        }
        if bandwidth.prober.deadline <= now {
            var padding = bandwidth.continueProbe(now: now)
            while padding > 0 {
                send(min(padding, 1100), now: now)
                padding -= 1100
            }
        }
    }

    private func send(_ bytes: Int, now: Instant) {
        let number = bandwidth.nextNumber
        bandwidth.noteSent(byteCount: bytes, now: now)
        var packet = [UInt8](repeating: 0, count: max(2, bytes))
        packet[0] = UInt8(number >> 8)
        packet[1] = UInt8(number & 255)
        sentCount += 1
        sends(packet)
    }

    func arrived(_ bytes: [UInt8], at: Instant) {
        arrivedBytes += bytes.count + SendLog.headerBytes
        reporter.note(UInt16(bytes[0]) << 8 | UInt16(bytes[1]), arrivedAt: at)
    }

    func takeReports(now: Instant) -> [[UInt8]] { reporter.takeReports(now: now) }

    func receive(report: [UInt8], now: Instant) {
        let bytes = report.span.bytes
        var reader = RTCPReader()
        while let item = try? reader.next(in: bytes) {
            guard case .transportFeedback(_, _, let offset, let length) = item,
                let feedback = TransportFeedbackReader(offset: offset, length: length, in: bytes)
            else { continue }
            _ = bandwidth.receive(feedback, in: bytes, now: now)
        }
    }
}

/// What a case is run on: a bottleneck, a way of its own for each flow behind it, and the way back.
private struct Network {
    private let plan: CongestionCase
    private let begin = Instant(nanoseconds: 5_000_000_000)
    private var now: Instant
    private let bottleneck: Link
    private let back: Link
    private var ways: [Link] = []
    private var flows: [Flow] = []
    /// Whose media fills the way back.
    private var opposite: Flow?
    private var transfers: [(transfer: SimulatedTransfer?, startsAt: Double)] = []
    private var random: Simulation.Random
    private let clock: Clock

    /// Lets the flows' closures know the time.
    private final class Clock { var now = Instant(nanoseconds: 0) }

    private static let source = SocketAddress(ip: .loopbackV4, port: 1)
    private static let firstTransfer = 100
    private static let reportPort: UInt16 = 1000

    private static func address(_ place: Int) -> SocketAddress {
        SocketAddress(ip: .loopbackV4, port: UInt16(2 + place))
    }

    init(_ plan: CongestionCase, seed: UInt64) {
        self.plan = plan
        random = Simulation.Random(state: 8867 + seed)
        now = begin
        let clock = Clock()
        self.clock = clock
        let bottleneck = Link(
            .init(bitsPerSecond: Int(plan.capacities[0].megabits * 1e6), queue: .milliseconds(300)),
            seed: 1
        )
        self.bottleneck = bottleneck
        let back = Link(
            .init(
                bitsPerSecond: plan.backward.first.map { Int($0.megabits * 1e6) },
                queue: .milliseconds(300),
                delay: plan.backward.isEmpty ? .zero : .milliseconds(50)
            ),
            seed: 2
        )
        self.back = back
        for place in 0..<plan.flows {
            let delay = Duration.milliseconds(plan.delays[place])
            ways.append(Link(.init(delay: delay, jitter: .milliseconds(30)), seed: 100 * seed + UInt64(10 + place)))
            flows.append(
                Flow { bottleneck.send($0, from: Self.source, to: Self.address(place), now: clock.now) }
            )
        }
        if !plan.backward.isEmpty {
            opposite = Flow { back.send($0, from: Self.source, to: Self.address(0), now: clock.now) }
        }
        switch plan.transfers {
        case .long: transfers = [(nil, 0)]
        case .bursts(let times): transfers = times.map { (nil, $0) }
        case .short(let count): transfers = (0..<count).map { _ in (nil, wait()) }
        case nil: break
        }
    }

    /// Until the next short transfer, in seconds.
    private mutating func wait() -> Double { -10 * log(Double.random(in: 0.001...1, using: &random)) }

    mutating func run(keepsChart: Bool) -> CongestionCase.Result {
        var result = CongestionCase.Result()
        var delays: [Double] = []
        var chart = "seconds,capacity,queue\(flows.indices.map { ",estimate\($0),received\($0)" }.joined()),transfers\n"
        var before = Array(repeating: 0, count: flows.count)
        var atWarm: (flows: [Int], transfers: Int) = ([], 0)
        var atLastThird: [Int] = []
        var transferBytes = 0
        var transferBefore = 0
        var offered = 0.0
        var reports: [(bytes: [UInt8], place: Int, at: Instant)] = []
        var acknowledgements: [(place: Int, number: UInt64, at: Instant)] = []
        var rises: [Double?] = plan.capacities.map { _ in nil }
        var falls: [Double?] = plan.capacities.map { _ in nil }
        for step in 0..<plan.seconds * 1000 {
            clock.now = now
            let time = Double(step) / 1000
            let segment = plan.capacities.lastIndex { $0.at <= time } ?? 0
            let capacity = plan.capacities[segment].megabits
            if time == plan.capacities[segment].at {
                bottleneck.change(now: now) { $0.bitsPerSecond = Int(capacity * 1e6) }
            }
            if let change = plan.backward.first(where: { $0.at == time }) {
                back.change(now: now) { $0.bitsPerSecond = Int(change.megabits * 1e6) }
            }
            for (place, flow) in flows.enumerated() {
                flow.isPaused = time < plan.starts[place] || place == 0 && plan.pause?.contains(time) == true
                flow.tick(step, now: now)
            }
            opposite?.isPaused = false
            opposite?.tick(step, now: now)
            for place in transfers.indices {
                if transfers[place].transfer?.isOver == true {
                    var isRepeated = false
                    if case .short = plan.transfers { isRepeated = true }
                    transfers[place] = (nil, isRepeated ? time + wait() : .infinity)
                }
                if transfers[place].transfer == nil, time >= transfers[place].startsAt {
                    var size: Int?
                    switch plan.transfers {
                    case .short: size = Int.random(in: 100_000...1_000_000, using: &random)
                    case .bursts: size = 100_000
                    default: break
                    }
                    transfers[place].transfer = SimulatedTransfer(byteCount: size, now: now)
                }
                for number in transfers[place].transfer?.takeDue(now: now) ?? [] {
                    var bytes = [UInt8](repeating: 0, count: SimulatedTransfer.packetBytes)
                    withUnsafeBytes(of: number) { bytes.replaceSubrange(0..<8, with: $0) }
                    bottleneck.send(
                        bytes,
                        from: Self.source,
                        to: Self.address(Self.firstTransfer + place),
                        now: now
                    )
                }
            }
            now = now + .milliseconds(1)
            clock.now = now
            for packet in bottleneck.receive(now: now) {
                let place = Int(packet.destination.port) - 2
                if place >= Self.firstTransfer {
                    transferBytes += packet.bytes.count + SendLog.headerBytes
                    let number = packet.bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
                    acknowledgements.append((place - Self.firstTransfer, number, now + .milliseconds(100)))
                } else {
                    delays.append((packet.arrivedAt - packet.sentAt).seconds)
                    ways[place].send(packet.bytes, from: packet.source, to: packet.destination, now: packet.arrivedAt)
                }
            }
            for (place, flow) in flows.enumerated() {
                for packet in ways[place].receive(now: now) { flow.arrived(packet.bytes, at: packet.arrivedAt) }
                for report in flow.takeReports(now: now) {
                    if opposite == nil {
                        reports.append((report, place, now + .milliseconds(plan.delays[place])))
                    } else {
                        back.send(report, from: Self.source, to: Self.address(Int(Self.reportPort)), now: now)
                    }
                }
            }
            for packet in back.receive(now: now) {
                if packet.destination == Self.address(0) {
                    opposite?.arrived(packet.bytes, at: packet.arrivedAt)
                } else {
                    flows[0].receive(report: packet.bytes, now: now)
                }
            }
            if let opposite {
                for report in opposite.takeReports(now: now) { opposite.receive(report: report, now: now) }
            }
            while let first = reports.firstIndex(where: { $0.at <= now }) {
                let report = reports.remove(at: first)
                flows[report.place].receive(report: report.bytes, now: now)
            }
            let heard = acknowledgements.prefix { $0.at <= now }
            for item in heard { transfers[item.place].transfer?.acknowledge(item.number, now: now) }
            acknowledgements.removeFirst(heard.count)

            let since = time - plan.capacities[segment].at
            let total = flows.filter { !$0.isPaused }.reduce(0) { $0 + $1.bandwidth.estimator.bitsPerSecond }
            if rises[segment] == nil, total >= 0.85 * capacity * 1e6 { rises[segment] = since }
            if falls[segment] == nil, since > 0.1, bottleneck.queueingDelay < .milliseconds(100) {
                falls[segment] = since
            }
            if time == 10 {
                atWarm = (flows.map(\.arrivedBytes), transferBytes)
                delays = []
            }
            if time > 10 { offered += capacity * 1e6 / 8 / 1000 }
            if step == plan.seconds * 2000 / 3 { atLastThird = flows.map(\.arrivedBytes) }
            if step % 500 == 499 {
                chart += "\(time),\(capacity),\(bottleneck.queueingDelay.seconds)"
                for (place, flow) in flows.enumerated() {
                    let received = Double((flow.arrivedBytes - before[place]) * 16) / 1e6
                    chart += ",\(flow.isPaused ? 0 : flow.bandwidth.estimator.bitsPerSecond / 1e6),\(received)"
                    before[place] = flow.arrivedBytes
                }
                chart += ",\(Double((transferBytes - transferBefore) * 16) / 1e6)\n"
                transferBefore = transferBytes
            }
        }
        let media = flows.enumerated().reduce(0) { $0 + $1.element.arrivedBytes - atWarm.flows[$1.offset] }
        let others = transferBytes - atWarm.transfers
        result.utilisation = Double(media + others) / offered
        result.mediaShare = Double(media) / Double(media + others)
        result.queue95 = delays.sorted()[delays.count * 95 / 100]
        result.lost = Double(bottleneck.droppedCount) / Double(bottleneck.sentCount)
        let shares = flows.enumerated().map { Double($1.arrivedBytes - atLastThird[$0]) }
        let sum = shares.reduce(0, +)
        result.fairness = sum * sum / (Double(shares.count) * shares.reduce(0) { $0 + $1 * $1 })
        let isUp = plan.capacities.indices.map {
            $0 == 0 || plan.capacities[$0].megabits > plan.capacities[$0 - 1].megabits
        }
        for place in plan.capacities.indices {
            if isUp[place] {
                result.slowestRise = max(result.slowestRise, rises[place] ?? .infinity)
            } else {
                result.slowestFall = max(result.slowestFall, falls[place] ?? .infinity)
            }
        }
        if keepsChart, let directory = getenv("SLUICE_CASES").map({ String(cString: $0) }),
            let file = fopen("\(directory)/\(plan.name).csv", "w")
        {
            fputs(chart, file)
            fclose(file)
        }
        return result
    }
}
