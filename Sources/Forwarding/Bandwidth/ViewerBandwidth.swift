import Commands
import Transport
import Wire

/// What is known of a viewer's network, and what is made of it.
final class ViewerBandwidth {
    /// Without feedback for so long the estimate says nothing.
    private static let patience = Duration.seconds(2)
    /// Between two steps up.
    private static let raiseInterval = Duration.seconds(2)
    /// The same after a step up that had to be taken back soon.
    private static let firstRecovery = Duration.seconds(10)
    private static let longestRecovery = Duration.seconds(60)
    /// A step up that holds for so long was right.
    private static let holdTime = Duration.seconds(10)
    /// A probe shows so many times what the next step needs.
    private static let probeHeadroom = 1.2
    /// A probe is for no more than so many times the estimate, or for so much.
    private static let mostProbed = 4.0
    private static let leastGoal = 3_000_000.0

    /// What was sent before a decrease is asked for for so long.
    private static let congestionTime = Duration.seconds(1)

    /// A network that was full is taken for a narrow one for so long.
    private static let narrowTime = Duration.seconds(30)
    /// Large frames leave at so many times the estimate.
    private static let narrowPacing = 1.25
    private static let widePacing = 2.5

    private(set) var estimator = BandwidthEstimator()
    private(set) var prober = Prober()
    /// In all, of UDP payload.
    private(set) var sentBytes: UInt64 = 0
    /// What the viewer's tracks take as they are allocated, in bits per second.
    var allocated = 0.0
    var allocatedAt = Instant(nanoseconds: 0)
    private var firstSentAt: Instant?
    private var hasProbed = false
    /// Whether the last probe came through: the next one is for all that is wanted.
    private var goesOn = false
    private var raisedAt: Instant?
    private var mayRaiseAt = Instant(nanoseconds: 0)
    private var recovery = firstRecovery

    var nextNumber: UInt16 { estimator.nextNumber }

    @inline(__always)
    func noteSent(byteCount: Int, now: Instant) {
        if firstSentAt == nil { firstSentAt = now }
        sentBytes += UInt64(byteCount)
        estimator.noteSent(byteCount: byteCount, now: now)
    }

    /// - Returns: Whether a probe is over with it.
    func receive(_ feedback: TransportFeedbackReader, in bytes: RawSpan, now: Instant) -> Bool {
        guard let result = estimator.receive(feedback, in: bytes, now: now) else { return false }
        prober.finish(cameThrough: result.cameThrough, didHarm: result.didHarm, now: now)
        goesOn = result.cameThrough
        // Whatever went wrong before, now there is room.
        if result.cameThrough { mayRaiseAt = min(mayRaiseAt, now + Self.raiseInterval / 4) }
        return true
    }

    /// Whether feedback tells what the viewer's network carries, or has not had the time to.
    func isKnown(at now: Instant) -> Bool {
        guard let since = estimator.lastFeedback ?? firstSentAt else { return true }
        return now - since < Self.patience
    }

    /// Whether too much was sent, now or a moment ago.
    func isCongested(at now: Instant) -> Bool {
        estimator.isQueueing || isExceeded || estimator.lastDecrease.map { now - $0 < Self.congestionTime } ?? false
    }

    /// Whether the estimate is what a bottleneck carries, and not only what is known to come through.
    func isNarrow(at now: Instant) -> Bool {
        estimator.isRefuted || estimator.lastDecrease.map { now - $0 < Self.narrowTime } ?? false
    }

    /// What large frames leave at, in bits per second.
    func pacingRate(now: Instant) -> Double {
        estimator.bitsPerSecond * (isNarrow(at: now) ? Self.narrowPacing : Self.widePacing)
    }

    /// Whether the tracks take more than there is.
    var isExceeded: Bool { allocated > estimator.bitsPerSecond * Allocator.tolerance }

    var snapshot: BandwidthSnapshot {
        BandwidthSnapshot(
            estimate: estimator.bitsPerSecond,
            allocated: allocated,
            wanted: estimator.demand.isFinite ? estimator.demand : 0,
            queueSeconds: estimator.queue.standing.seconds,
            fractionLost: estimator.losses.fraction
        )
    }

    /// It is sent no video, and so much else.
    func onlySends(_ bitsPerSecond: Double) {
        allocated = bitsPerSecond
        estimator.demand = bitsPerSecond
    }

    // MARK: Steps up

    /// Whether the viewer may be sent more.
    func mayRaise(now: Instant) -> Bool {
        // What a probe is about to show is waited for.
        now >= mayRaiseAt && !estimator.isQueueing && !prober.isUnderway
    }

    /// The viewer is sent more from now on.
    func raised(now: Instant) {
        if let raisedAt, now - raisedAt > Self.holdTime { recovery = Self.firstRecovery }
        raisedAt = now
        mayRaiseAt = now + Self.raiseInterval
    }

    /// The viewer is sent less from now on.
    func lowered(now: Instant) {
        goesOn = false
        if let raisedAt, now - raisedAt < Self.holdTime {
            mayRaiseAt = now + recovery
            recovery = min(recovery * 2, Self.longestRecovery)
        } else {
            if raisedAt != nil { recovery = Self.firstRecovery }
            mayRaiseAt = max(mayRaiseAt, now + Self.raiseInterval)
        }
        raisedAt = nil
    }

    // MARK: Probes

    /// Begins a probe where more is wanted than is known to fit.
    ///
    /// - Parameters:
    ///   - next: What the next step needs, with all that is sent; nil when nothing more is wanted.
    ///   - wanted: What all of it would need.
    ///   - isUrgent: Whether there is no whole picture without the next step.
    /// - Returns: Whether one has begun.
    func beginProbe(next: Double?, wanted: Double, isUrgent: Bool, now: Instant) -> Bool {
        estimator.demand = wanted
        guard let next, prober.mayBegin(isUrgent: isUrgent, now: now), !estimator.isQueueing else { return false }
        // The first one is for all of it: nothing is known yet, and the picture is to be sharp at once.
        var goal = (hasProbed && !goesOn ? next : wanted) * Self.probeHeadroom
        let interval = isUrgent ? Self.raiseInterval / 2 : Self.raiseInterval
        guard goal > estimator.target, estimator.lastDecrease.map({ now - $0 > interval }) ?? true else { return false }
        hasProbed = true
        goesOn = false
        // More is found out step by step: a burst that is far too long stands in the queue before the audio.
        goal = min(goal, max(estimator.target * Self.mostProbed, Self.leastGoal))
        prober.begin(goal: goal, estimate: estimator.target, sentBytes: sentBytes, now: now)
        estimator.beginProbe(goal: goal)
        return true
    }

    /// - Returns: How many bytes of padding to send now.
    func continueProbe(now: Instant) -> Int {
        if prober.isGivenUp(now: now) { estimator.giveUpProbe() }
        guard let bytes = prober.tick(sentBytes: sentBytes, now: now) else {
            estimator.endProbe()
            return 0
        }
        return bytes
    }
}
