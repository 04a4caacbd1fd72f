import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// A sender with an estimator, a link, and a viewer that tells what arrives, as browsers do: ten times a second.
private final class Call {
    var estimator = BandwidthEstimator()
    let link: Link
    private let back: Link
    private(set) var now = Instant(nanoseconds: 5_000_000_000)
    private var reporter = ArrivalReporter()
    private let source = SocketAddress(ip: .loopbackV4, port: 1)
    private let destination = SocketAddress(ip: .loopbackV4, port: 2)
    /// The queueing delay that each packet met, in milliseconds.
    private(set) var delays: [Double] = []
    private(set) var arrivedBytes = 0

    init(_ conditions: Link.Conditions, seed: UInt64 = 1) {
        link = Link(conditions, seed: seed)
        back = Link(Link.Conditions(delay: conditions.delay), seed: seed + 1)
    }

    func send(bytes: Int) {
        let number = estimator.nextNumber
        estimator.noteSent(byteCount: bytes, now: now)
        var packet = [UInt8](repeating: 0, count: bytes)
        packet[0] = UInt8(number >> 8)
        packet[1] = UInt8(number & 255)
        delays.append(link.queueingDelay.seconds * 1000)
        link.send(packet, from: source, to: destination, now: now)
    }

    /// A video frame.
    func sendFrame(bytes: Int) {
        var left = bytes
        while left > 0 {
            send(bytes: min(1200, max(left, 100)))
            left -= 1200
        }
    }

    func forgetDelays() { delays = [] }

    func run(for duration: Duration, each: () -> Void) {
        let end = now + duration
        while now < end {
            each()
            now = now + .milliseconds(1)
            for packet in link.receive(now: now) {
                arrivedBytes += packet.bytes.count + SendLog.headerBytes
                reporter.note(UInt16(packet.bytes[0]) << 8 | UInt16(packet.bytes[1]), arrivedAt: packet.arrivedAt)
            }
            for report in reporter.takeReports(now: now) {
                back.send(report, from: destination, to: source, now: now)
            }
            for packet in back.receive(now: now) {
                var reader = RTCPReader()
                while let item = try? reader.next(in: packet.bytes.span.bytes) {
                    guard case .transportFeedback(_, _, let offset, let length) = item else { continue }
                    guard
                        let feedback = TransportFeedbackReader(
                            offset: offset,
                            length: length,
                            in: packet.bytes.span.bytes
                        )
                    else { continue }
                    _ = estimator.receive(feedback, in: packet.bytes.span.bytes, now: now)
                }
            }
        }
    }
}

/// Video of 25 frames a second at whatever rate it is told, and audio.
private struct Encoder {
    private var step = 0
    var ceiling = 6_000_000.0

    mutating func tick(_ call: Call) {
        defer { step += 1 }
        if step % 20 == 0 { call.send(bytes: 100) }
        guard step % 40 == 0 else { return }
        let bits = min(ceiling, max(50_000, call.estimator.target - 40_000)) / 25
        // Frames differ; a keyframe now and then is five times as large.
        let size = Double([90, 110, 80, 120, 100][step / 40 % 5]) / 100
        call.sendFrame(bytes: Int(bits / 8 * size * 0.95))
    }
}

struct BandwidthTests {
    private func mbit(_ call: Call) -> Double { call.estimator.bitsPerSecond / 1e6 }

    @Test(arguments: [400_000, 1_000_000, 3_000_000])
    func theEstimateIsTheRateOfTheBottleneck(rate: Int) {
        let call = Call(.init(bitsPerSecond: rate, queue: .milliseconds(300), delay: .milliseconds(25)))
        var encoder = Encoder()
        call.run(for: .seconds(30)) { encoder.tick(call) }
        call.forgetDelays()
        let before = call.arrivedBytes
        call.run(for: .seconds(30)) { encoder.tick(call) }
        let used = Double((call.arrivedBytes - before) * 8) / 30 / Double(rate)
        let delays = call.delays.sorted()
        #expect(used > 0.85 && used < 1.01)
        #expect(delays[delays.count * 95 / 100] < 100)
    }

    @Test func itFollowsWhatChanges() {
        let call = Call(.init(bitsPerSecond: 3_000_000, queue: .milliseconds(300), delay: .milliseconds(25)))
        var encoder = Encoder()
        call.run(for: .seconds(40)) { encoder.tick(call) }
        #expect(mbit(call) > 2.5)
        call.link.change(now: call.now) { $0.bitsPerSecond = 1_000_000 }
        call.run(for: .milliseconds(600)) { encoder.tick(call) }
        #expect(call.estimator.target < 1_200_000)
        call.run(for: .milliseconds(1400)) { encoder.tick(call) }
        call.forgetDelays()
        call.run(for: .seconds(5)) { encoder.tick(call) }
        let delays = call.delays.sorted()
        #expect(mbit(call) > 0.8 && mbit(call) < 1.2)
        #expect(delays[delays.count * 95 / 100] < 150)
    }

    private func figures(
        _ conditions: Link.Conditions,
        ceiling: Double = 2_300_000,
        seconds: Int = 30
    ) -> (least: Double, median: Double, p95: Double) {
        let call = Call(conditions)
        var encoder = Encoder()
        encoder.ceiling = ceiling
        call.run(for: .seconds(20)) { encoder.tick(call) }
        call.forgetDelays()
        var estimates: [Double] = []
        call.run(for: .seconds(seconds)) {
            encoder.tick(call)
            estimates.append(call.estimator.target)
        }
        estimates.sort()
        let delays = call.delays.sorted()
        let result = (estimates[estimates.count / 20], estimates[estimates.count / 2], delays[delays.count * 95 / 100])
        return result
    }

    @Test func randomLossIsNoCongestion() {
        let found = figures(.init(delay: .milliseconds(50), jitter: .milliseconds(20), loss: .random(0.1)))
        #expect(found.least > 2_000_000)
    }

    @Test func burstsAreNoCongestion() {
        let found = figures(.init(delay: .milliseconds(50), loss: .bursts(begin: 0.004, end: 0.05)))
        #expect(found.least > 2_000_000)
    }

    @Test func heavyRandomLossIsPutToTheTest() {
        let found = figures(.init(delay: .milliseconds(50), loss: .random(0.25)), seconds: 60)
        #expect(found.median > 1_500_000)
    }

    @Test func aShortQueueIsEnough() {
        let found = figures(.init(bitsPerSecond: 1_000_000, queue: .milliseconds(60), delay: .milliseconds(25)))
        #expect(found.median > 800_000 && found.median < 1_100_000)
    }

    @Test func aLongQueueStaysShort() {
        let found = figures(.init(bitsPerSecond: 700_000, queue: .milliseconds(1500), delay: .milliseconds(25)))
        #expect(found.median > 550_000 && found.p95 < 150)
    }

    @Test func jitterOfANarrowLinkIsNoQueue() {
        let found = figures(
            .init(
                bitsPerSecond: 1_000_000,
                queue: .milliseconds(300),
                delay: .milliseconds(25),
                jitter: .milliseconds(30)
            )
        )
        #expect(found.median > 750_000 && found.p95 < 150)
    }
}
