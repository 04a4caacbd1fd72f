import Transport

/// Tells whether somebody else fills the queue before a viewer's bottleneck, such as a download over TCP, which goes on until packets are
/// dropped.
///
/// A queue of our own goes on to arrive at the bottleneck's rate when less is sent, until it is gone. Somebody else's takes the room:
/// less arrives at once, and the queue stays. Who gives way there gets nothing.
struct CompetitionGauge {
    /// Less is sent when it is no more than this part of what was sent before.
    private static let lowered = 0.85
    /// What arrives is what is sent, up to so many times.
    private static let follows = 1.08
    /// What arrives is more than what is sent, from so many times on.
    private static let drains = 1.2
    private static let proof = Duration.milliseconds(1200)
    private static let disproof = Duration.milliseconds(600)
    /// After so long without a queue the other one has ended.
    private static let memory = Duration.seconds(2)
    /// Then it is to be proved again: those who take each other for a download keep the queue full for nothing.
    private static let validity = Duration.seconds(10)

    private(set) var isCompeting = false
    private var sentBefore: Double?
    private var evidence = Duration.zero
    private var counter = Duration.zero
    private var competesSince = Instant(nanoseconds: 0)
    private var lastStanding: Instant?
    private var lastObserved: Instant?

    /// - Parameters:
    ///   - isStanding: Whether a queue stands.
    ///   - sent: How fast was sent what arrives now, in bits per second, less what was lost of it.
    ///   - arriving: How fast it arrives.
    mutating func observe(isStanding: Bool, sent: Double, arriving: Double, now: Instant) {
        let elapsed = lastObserved.map { min(.milliseconds(200), now - $0) } ?? .zero
        lastObserved = now
        guard isStanding else {
            sentBefore = sent
            evidence = .zero
            counter = .zero
            if let lastStanding, now - lastStanding > Self.memory { isCompeting = false }
            return
        }
        lastStanding = now
        if isCompeting, now - competesSince > Self.validity {
            isCompeting = false
            evidence = .zero
            sentBefore = sent
        }
        let before = max(sentBefore ?? sent, sent)
        sentBefore = before
        if arriving > sent * Self.drains {
            counter += elapsed
            evidence = .zero
            if counter >= Self.disproof { isCompeting = false }
        } else {
            counter = .zero
            guard sent < before * Self.lowered, arriving < sent * Self.follows else { return }
            evidence += elapsed
            guard evidence >= Self.proof, !isCompeting else { return }
            isCompeting = true
            competesSince = now
        }
    }
}
