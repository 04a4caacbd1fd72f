/// What a client may use in a second, and at once.
struct Allowance: Sendable {
    private let perSecond: Double
    private let burst: Double
    private var credit: Double
    private var refilledAt: ContinuousClock.Instant

    init(perSecond: Double, burst: Double, now: ContinuousClock.Instant = .now) {
        self.perSecond = perSecond
        self.burst = burst
        credit = burst
        refilledAt = now
    }

    /// Uses some of it, more than there is if need be.
    ///
    /// - Returns: After what time nothing more than was allowed has been used: zero if that is so now.
    mutating func use(_ amount: Int, now: ContinuousClock.Instant = .now) -> Duration {
        credit = min(burst, credit + perSecond * (refilledAt.duration(to: now) / .seconds(1)))
        refilledAt = now
        credit -= Double(amount)
        return credit < 0 ? .seconds(-credit / perSecond) : .zero
    }
}
