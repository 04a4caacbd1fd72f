import Transport

/// Merges the keyframe requests of many viewers into at most one upstream per interval.
///
/// A request within the interval waits for its end and is forgotten when a keyframe comes before. One that no keyframe follows is sent
/// again, a few times: it may have been lost, or have gone where the publisher no longer is.
struct KeyframeRequestLimiter {
    private static let maximumAttempts = 3

    private let interval: Duration
    private var lastSent: Instant?
    private var isWaiting = false
    private var attempts = 0

    init(interval: Duration) { self.interval = interval }

    /// When `takeDue` has to be asked again; nil while no request waits.
    var deadline: Instant? {
        guard isWaiting else { return nil }
        return lastSent.map { $0 + interval } ?? Instant(nanoseconds: 0)
    }

    /// A viewer needs a keyframe.
    mutating func request() {
        isWaiting = true
        attempts = 0
    }

    /// A keyframe came: whoever waited has it.
    mutating func keyframeReceived() { isWaiting = false }

    /// Whether a request has to go upstream now; it counts as sent.
    mutating func takeDue(now: Instant) -> Bool {
        guard let deadline, deadline <= now else { return false }
        attempts += 1
        isWaiting = attempts < Self.maximumAttempts
        lastSent = now
        return true
    }
}
