import Transport

/// When the last sender reports were sent, for the round trips that receiver reports tell (RFC 3550 §6.4.1). On a slow path a report may
/// be under way while the next ones are sent.
struct SentReports {
    private var reports = InlineArray<4, (middleNTP: UInt32, sentAt: Instant)>(
        repeating: (middleNTP: 0, sentAt: Instant(nanoseconds: 0))
    )
    private var next = 0

    /// - Parameter middleNTP: The middle 32 bits of the report's NTP timestamp.
    mutating func note(middleNTP: UInt32, sentAt: Instant) {
        reports[next] = (middleNTP, sentAt)
        next = (next + 1) % reports.count
    }

    /// When the report was sent that a receiver's LSR names; nil for none, or one before the last few.
    func sentAt(_ lastSenderReport: UInt32) -> Instant? {
        guard lastSenderReport != 0 else { return nil }
        for index in reports.indices where reports[index].middleNTP == lastSenderReport { return reports[index].sentAt }
        return nil
    }
}
