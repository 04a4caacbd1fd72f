import Transport

/// What a track may take that does not fit whole, not even the least of it: it is sent in runs of frames, each from a keyframe on. What is
/// saved up between them is what a run may take.
struct Ration {
    /// A run begins when so much time's worth is saved up, and has no more than so much.
    private static let leastSaved = 0.7
    private static let mostSaved = 3.0

    private(set) var bytesPerSecond: Double
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

    /// Whether a run may begin.
    mutating func mayBegin(now: Instant) -> Bool {
        refill(now: now)
        return credit >= bytesPerSecond * Self.leastSaved
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
