import Commands
import Transport

/// Tells from a viewer's receiver reports whether what he is sent is too much for his network: he loses packets, or they wait in a
/// queue on the way.
///
/// What there is to gain is found out by trying: when nothing was wrong for a while he is sent a little more, and each time that it was
/// too much it takes twice as long until the next attempt.
struct CongestionGauge {
    enum Step: Equatable {
        case stay
        /// To be sent less; where `isSevere`, of everything.
        case lower(isSevere: Bool)
        /// To be sent more.
        case raise
    }

    /// Losing so many times what is congestion already is severe.
    private static let severity = 3.0
    /// A fastest round trip that is older does not count any more: the path may be another one.
    private static let memory = Duration.seconds(60)

    /// The fastest round trip of the last minute, and of this one.
    private var fastestBefore: Duration?
    private var fastest: Duration?
    private var minuteEnds: Instant?
    private var clearSince: Instant?
    private var loweredAt: Instant?
    private var raisedAt: Instant?
    private var recovery: Duration?
    /// How much longer than the fastest the last round trip took.
    private(set) var delay = Duration.zero

    /// Takes in what was reported in the last interval.
    ///
    /// - Parameters:
    ///   - fractionLost: 0 to 1.
    ///   - roundTrip: Nil while it is not known.
    ///   - isLimited: Whether he is sent less than he wants, so that there is something to raise.
    mutating func observe(
        fractionLost: Double,
        roundTrip: Duration?,
        isLimited: Bool,
        now: Instant,
        limits: Limits
    ) -> Step {
        delay = roundTrip.map { note($0, now: now) } ?? .zero
        let recovery = recovery ?? limits.encodingRecovery
        guard fractionLost >= limits.congestionLoss || delay >= limits.congestionDelay else {
            let since = clearSince ?? now
            clearSince = since
            guard now - since >= recovery else { return .stay }
            // What was tried last has held: it takes no longer than usual until the next attempt.
            if raisedAt != nil { self.recovery = nil }
            clearSince = now
            raisedAt = isLimited ? now : nil
            return isLimited ? .raise : .stay
        }
        clearSince = nil
        if let raisedAt, now - raisedAt < limits.encodingRecovery {
            self.recovery = min(recovery * 2, limits.encodingRecoveryMaximum)
        }
        raisedAt = nil
        // A queue takes its time to become empty, and losses are told late.
        if let loweredAt, now - loweredAt < limits.encodingInterval * 2 { return .stay }
        loweredAt = now
        return .lower(isSevere: fractionLost >= limits.congestionLoss * Self.severity)
    }

    /// - Returns: How much longer than the fastest it is.
    private mutating func note(_ roundTrip: Duration, now: Instant) -> Duration {
        if let ends = minuteEnds, now < ends {
            fastest = min(fastest ?? roundTrip, roundTrip)
        } else {
            fastestBefore = fastest
            fastest = roundTrip
            minuteEnds = now + Self.memory
        }
        return roundTrip - min(fastest ?? roundTrip, fastestBefore ?? roundTrip)
    }
}
