import Commands
import Transport

/// How much of one peer's RTCP is looked at: each packet of a compound is an item, and so is each entry of a list. A datagram of 60 KB
/// has room for 250,000 sequence numbers, and each would be looked up.
struct ControlAllowance {
    private var left: Double?
    private var leftInDatagram = 0
    private var refilledAt = Instant(nanoseconds: 0)
    /// Items that were looked at ever.
    private(set) var taken: UInt64 = 0

    /// A datagram begins.
    mutating func begin(now: Instant, limits: Limits) {
        let earned = max(0, (now - refilledAt).seconds) * limits.rtcpItemsPerSecond
        left = min(limits.rtcpItemsPerSecond, left.map { $0 + earned } ?? .infinity)
        refilledAt = now
        leftInDatagram = limits.rtcpItemsPerDatagram
    }

    /// Whether one more item may be looked at.
    mutating func take() -> Bool {
        guard leftInDatagram > 0, let left, left >= 1 else { return false }
        leftInDatagram -= 1
        self.left = left - 1
        taken += 1
        return true
    }
}
