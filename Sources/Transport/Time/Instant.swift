/// A point on a monotonic clock, in nanoseconds since a start that only its reader knows. Below `Worker` nothing reads a
/// clock: instants come in as arguments.
public struct Instant: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// Nanoseconds since the clock's start.
    public var nanoseconds: UInt64

    @inlinable
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Later than any instant that occurs.
    public static let distantFuture = Instant(nanoseconds: .max)

    @inlinable
    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

    /// Saturates at the ends of the clock's range.
    @inlinable
    public static func + (instant: Instant, duration: Duration) -> Instant {
        let delta = duration.wholeNanoseconds
        if delta < 0 {
            let magnitude = delta.magnitude
            return Instant(nanoseconds: magnitude > instant.nanoseconds ? 0 : instant.nanoseconds - magnitude)
        }
        let (sum, overflow) = instant.nanoseconds.addingReportingOverflow(UInt64(delta))
        return overflow ? .distantFuture : Instant(nanoseconds: sum)
    }

    /// The time from `right` to `left`; negative when `left` is the earlier one.
    @inlinable
    public static func - (left: Instant, right: Instant) -> Duration {
        left >= right
            ? .nanoseconds(Int64(clamping: left.nanoseconds - right.nanoseconds))
            : .nanoseconds(-Int64(clamping: right.nanoseconds - left.nanoseconds))
    }
}

extension Duration {
    /// This duration in nanoseconds, saturated to 292 years.
    @inlinable
    public var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (nanoseconds, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, overflowed) = nanoseconds.addingReportingOverflow(attoseconds / 1_000_000_000)
        return overflowed ? (seconds < 0 ? .min : .max) : sum
    }

    /// This duration in seconds.
    @inlinable
    public var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}
