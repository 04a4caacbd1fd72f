import Transport

/// Decides when a viewer's network is probed: it is sent padding beside its media for a moment, so that what it is sent next is known to
/// fit before it is sent.
struct Prober {
    /// Padding leaves at this interval, which is the engine's.
    static let interval = Duration.milliseconds(10)
    private static let longest = Duration.milliseconds(100)
    private static let shortest = Duration.milliseconds(50)
    private static let firstBackoff = Duration.seconds(1)
    /// After probes that did no harm, and after those of which packets were lost.
    private static let usualBackoff = Duration.seconds(3)
    private static let longestBackoff = Duration.seconds(30)
    private static let urgentBackoff = Duration.milliseconds(750)
    private static let longestUrgentBackoff = Duration.milliseconds(1500)
    /// Feedback of a probe comes within this time or never.
    private static let patience = Duration.seconds(1)

    private(set) var goal = 0.0
    private var endsAt: Instant?
    private var startedAt = Instant(nanoseconds: 0)
    private var nextTick = Instant.distantFuture
    private var sentBefore: UInt64 = 0
    private var awaitsResultUntil: Instant?
    private var backoff = firstBackoff
    private var notBefore = Instant(nanoseconds: 0)
    private var endedAt = Instant(nanoseconds: 0)
    private var harms = 0

    /// When `tick` has to be called next.
    var deadline: Instant { nextTick }

    /// Whether a probe is sent, or its feedback waited for.
    var isUnderway: Bool { endsAt != nil || awaitsResultUntil != nil }

    /// Whether a probe may begin.
    ///
    /// - Parameter isUrgent: Whether there is no whole picture without.
    func mayBegin(isUrgent: Bool, now: Instant) -> Bool {
        !isUnderway
            && (now >= notBefore
                || isUrgent && now >= endedAt + min(Self.urgentBackoff * (harms + 1), Self.longestUrgentBackoff))
    }

    /// - Parameters:
    ///   - goal: The rate to prove, in bits per second.
    ///   - estimate: What is known to fit.
    ///   - sentBytes: What was sent so far in all.
    mutating func begin(goal: Double, estimate: Double, sentBytes: UInt64, now: Instant) {
        self.goal = goal
        // The further it goes beyond what is known, the shorter it is: what doesn't fit waits, and delays the audio.
        let duration = max(Self.shortest, min(Self.longest, Self.longest * min(1, 1.5 * estimate / max(goal, 1))))
        startedAt = now
        endsAt = now + duration
        nextTick = now
        sentBefore = sentBytes
    }

    /// - Parameter sentBytes: What was sent so far in all.
    /// - Returns: How many bytes of padding to send now; nil when the probe has just ended.
    mutating func tick(sentBytes: UInt64, now: Instant) -> Int? {
        guard let endsAt else {
            if let awaitsResultUntil, now >= awaitsResultUntil { finish(cameThrough: false, didHarm: true, now: now) }
            nextTick = .distantFuture
            return nil
        }
        let due = goal / 8 * (now - startedAt + Self.interval).seconds
        let missing = max(0, Int(min(due, 1e9)) - Int(clamping: sentBytes &- sentBefore))
        guard now < endsAt else {
            self.endsAt = nil
            awaitsResultUntil = now + Self.patience
            nextTick = now + Self.patience
            return nil
        }
        nextTick = now + Self.interval
        return missing
    }

    /// Whether feedback of the last probe did not come.
    func isGivenUp(now: Instant) -> Bool { awaitsResultUntil.map { now >= $0 } ?? false }

    /// What came of the probe is known.
    ///
    /// - Parameter didHarm: Whether packets were lost of it.
    mutating func finish(cameThrough: Bool, didHarm: Bool, now: Instant) {
        awaitsResultUntil = nil
        endedAt = now
        harms = cameThrough || !didHarm ? 0 : min(harms + 1, 10)
        if cameThrough {
            backoff = Self.firstBackoff
            notBefore = now
        } else {
            notBefore = now + backoff
            backoff = didHarm ? min(backoff * 2, Self.longestBackoff) : min(backoff * 2, Self.usualBackoff)
        }
    }
}
