package import Transport

/// A TCP connection as a network sees it, for media to share one with: a window of packets that grows with each acknowledgement and is
/// halved by a loss (Reno with selective acknowledgements, RFC 5681 and RFC 6675), without a handshake, headers or contents.
package final class SimulatedTransfer {
    package static let packetBytes = 1472
    private static let firstWindow = 10.0
    private static let duplicates: UInt64 = 3
    private static let shortestTimeout = Duration.milliseconds(300)

    /// Packets still to be sent that were never sent or were lost; nil for a transfer without an end.
    private var left: Int?
    private var window = firstWindow
    private var threshold = Double.infinity
    private var next: UInt64 = 0
    /// Numbers that were sent and of which nothing is known, in ascending order, and when.
    private var underway: [(number: UInt64, sentAt: Instant)] = []
    private var recoversUntil: UInt64?
    private var roundTrip = Duration.milliseconds(100)
    private var heardAt: Instant

    package private(set) var acknowledgedBytes = 0

    /// - Parameter byteCount: How long it is; nil when it does not end.
    package init(byteCount: Int?, now: Instant) {
        left = byteCount.map { max(1, $0 / Self.packetBytes) }
        heardAt = now
    }

    package var isOver: Bool { left == 0 && underway.isEmpty }

    /// - Returns: The numbers of the packets to send now.
    package func takeDue(now: Instant) -> [UInt64] {
        if !underway.isEmpty, now - heardAt > max(Self.shortestTimeout, roundTrip * 3) {
            threshold = max(2, window / 2)
            window = 1
            if let count = left { left = count + underway.count }
            underway = []
            recoversUntil = nil
            heardAt = now
        }
        var due: [UInt64] = []
        while Double(underway.count) < window, left != 0 {
            if let count = left { left = count - 1 }
            if underway.isEmpty { heardAt = now }
            underway.append((next, now))
            due.append(next)
            next += 1
        }
        return due
    }

    /// A packet has arrived, and the sender hears of it.
    package func acknowledge(_ number: UInt64, now: Instant) {
        guard let place = underway.firstIndex(where: { $0.number == number }) else { return }
        heardAt = now
        acknowledgedBytes += Self.packetBytes
        roundTrip = now - underway[place].sentAt
        underway.remove(at: place)
        if let until = recoversUntil, number >= until { recoversUntil = nil }
        let lost = underway.prefix { $0.number + Self.duplicates <= number }.count
        if lost > 0 {
            underway.removeFirst(lost)
            if let count = left { left = count + lost }
            if recoversUntil == nil {
                threshold = max(2, window / 2)
                window = threshold
                recoversUntil = next
            }
        } else if recoversUntil == nil {
            window += window < threshold ? 1 : 1 / window
        }
    }
}
