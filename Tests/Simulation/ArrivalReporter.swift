package import Transport
import Wire

/// A viewer's side of transport-wide congestion control: it tells what arrives ten times a second, as browsers do.
package struct ArrivalReporter {
    private static let interval = Duration.milliseconds(100)
    private static let nanosecondsPerTick = UInt64(TransportFeedback.tickMicroseconds) * 1000

    /// What the viewer's clock shows more than the simulation's.
    private let clock: Duration
    private var arrivals: [(number: UInt16, ticks: Int64)] = []
    private var next: UInt16?
    private var count: UInt8 = 0
    private var reportedAt = Instant(nanoseconds: 0)

    package init(clock: Duration = .seconds(77)) { self.clock = clock }

    package mutating func note(_ number: UInt16, arrivedAt: Instant) {
        arrivals.append((number, Int64((arrivedAt + clock).nanoseconds / Self.nanosecondsPerTick)))
    }

    /// The RTCP packets that are due; none while nothing has arrived.
    package mutating func takeReports(now: Instant) -> [[UInt8]] {
        guard now - reportedAt >= Self.interval, let first = next ?? arrivals.first?.number, !arrivals.isEmpty else {
            return []
        }
        reportedAt = now
        var ticks: [Int64] = []
        for (number, tick) in arrivals {
            let place = Int(number &- first)
            // What is told as missing already stays so.
            guard place < 1 << 15 else { continue }
            while ticks.count <= place { ticks.append(TransportFeedback.notReceived) }
            ticks[place] = tick
        }
        arrivals = []
        next = first &+ UInt16(truncatingIfNeeded: ticks.count)
        var reports: [[UInt8]] = []
        var start = 0
        while start < ticks.count {
            var bytes: [UInt8] = []
            let written = ticks.withUnsafeBufferPointer {
                TransportFeedback.write(
                    sender: 1,
                    media: 2,
                    baseSequence: first &+ UInt16(truncatingIfNeeded: start),
                    count: count,
                    arrivals: $0[start...],
                    to: &bytes
                )
            }
            guard written > 0 else { break }
            count &+= 1
            start += written
            reports.append(bytes)
        }
        return reports
    }
}
