import Transport

/// What a track may take that does not fit whole, not even the least of it: it is sent in runs of frames, each from a keyframe on. What is
/// saved up between them is what a run may take.
struct Ration {
    /// A run begins when so much time's worth is saved up, and has no more than so much.
    private static let leastSaved = 0.7
    private static let mostSaved = 3.0
    /// What is taken of what came through, and how it grows with each interval in which all did.
    private static let utilisation = 0.85
    private static let growth = 1.08
    private static let slowGrowth = 1.01
    /// Reports of an outage say little: it falls by no more than this at a time, and to no less than this rate.
    private static let leastShare = 0.3
    private static let leastBitsPerSecond = 50_000.0
    private static let forgetting = 1.02

    private(set) var bytesPerSecond: Double
    /// At this rate packets were lost lately.
    private(set) var lossyBytesPerSecond = Double.infinity
    private var credit = 0.0
    private var refilledAt: Instant

    init(bitsPerSecond: Double, now: Instant) {
        bytesPerSecond = bitsPerSecond / 8
        refilledAt = now
    }

    mutating func change(to bitsPerSecond: Double, now: Instant) {
        refill(now: now)
        bytesPerSecond = bitsPerSecond / 8
    }

    /// What came through of it, or that all did.
    mutating func adapt(to share: Double, now: Instant) {
        refill(now: now)
        if share < 1 {
            if share >= Self.leastShare { lossyBytesPerSecond = bytesPerSecond }
            bytesPerSecond *= max(share, Self.leastShare) * Self.utilisation
            bytesPerSecond = max(bytesPerSecond, Self.leastBitsPerSecond / 8)
        } else {
            // Near to where packets were lost it is found out slowly whether they would be still.
            let isNear = bytesPerSecond > lossyBytesPerSecond * Self.utilisation
            bytesPerSecond *= isNear ? Self.slowGrowth : Self.growth
            if isNear { lossyBytesPerSecond *= Self.forgetting }
        }
    }

    /// Whether a run may begin.
    mutating func mayBegin(now: Instant) -> Bool {
        refill(now: now)
        return bytesPerSecond > 0 && credit >= bytesPerSecond * Self.leastSaved
    }

    /// Whether the run that is under way goes on with another frame.
    mutating func goesOn(now: Instant) -> Bool {
        refill(now: now)
        return credit > 0
    }

    mutating func take(_ byteCount: Int) { credit -= Double(byteCount) }

    private mutating func refill(now: Instant) {
        credit = min(bytesPerSecond * Self.mostSaved, credit + bytesPerSecond * (now - refilledAt).seconds)
        refilledAt = now
    }
}
