import Transport

/// Spreads what leaves for one viewer at a time: a keyframe that left at once would fill the queue on the way, and be lost in part.
///
/// A token bucket: a burst leaves at once, what is more leaves at the rate, in slices.
struct Pacer {
    /// What waits leaves at this interval, which is the engine's.
    static let interval = Duration.milliseconds(10)
    /// Ten packets leave at once, where the way is not known to be narrow.
    static let usualBurst = 12_000.0
    private static let leastBurst = 2_400.0
    /// A burst is at most so long at the rate.
    private static let longestBurst = 0.05

    /// In bits per second; without an end nothing waits.
    private var rate = Double.infinity
    private var burst = usualBurst
    /// Bytes that may leave now; below 0 after a packet that was larger than what was left.
    private var credit = usualBurst
    private var refilledAt = Instant(nanoseconds: 0)
    /// When what waits goes on; later than any instant while nothing does.
    private(set) var deadline = Instant.distantFuture

    /// - Parameters:
    ///   - rate: In bits per second.
    ///   - isNarrow: Whether the way is known to carry no more than about that.
    mutating func limit(to rate: Double, isNarrow: Bool) {
        self.rate = rate
        burst = isNarrow ? max(Self.leastBurst, min(Self.usualBurst, rate / 8 * Self.longestBurst)) : Self.usualBurst
    }

    /// - Returns: Whether so many bytes may leave at once.
    @inline(__always)
    mutating func takes(_ byteCount: Int, now: Instant) -> Bool {
        if rate == .infinity { return true }
        refill(now: now)
        guard credit >= Double(byteCount) else { return false }
        credit -= Double(byteCount)
        return true
    }

    /// Bytes that may leave now of what waits.
    mutating func allowance(now: Instant) -> Int {
        guard rate != .infinity else { return .max }
        refill(now: now)
        return max(0, Int(credit))
    }

    /// How long so many bytes take.
    func time(of byteCount: Int) -> Duration { .nanoseconds(Int64(min(1e12, Double(byteCount * 8) / rate * 1e9))) }

    /// So many bytes of what waited have left.
    mutating func took(_ byteCount: Int) { credit -= Double(byteCount) }

    /// What is left goes on in a moment.
    mutating func wait(now: Instant) { if deadline == .distantFuture { deadline = now + Self.interval } }

    /// Its moment has come.
    mutating func resume() { deadline = .distantFuture }

    private mutating func refill(now: Instant) {
        credit = min(burst, credit + rate / 8 * min(1, (now - refilledAt).seconds))
        refilledAt = now
    }
}
