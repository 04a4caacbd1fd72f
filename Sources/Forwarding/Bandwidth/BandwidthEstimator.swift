import Transport
import Wire

/// Estimates what a viewer's network carries, from its transport-wide feedback: the fastest rate at which nothing waits.
///
/// Where a queue stands, what arrives is what the bottleneck carries, and the estimate is a little less. Else it grows, but never far
/// beyond what was proved by what arrived, or by a probe: a viewer of little would otherwise seem to have room for anything.
struct BandwidthEstimator {
    /// Before anything is known.
    static let start = 600_000.0
    static let floor = 50_000.0
    static let ceiling = 1e9
    /// What is sent of what the bottleneck carries.
    private static let utilisation = 0.95
    /// A queue that stands is to be gone after so long.
    private static let drainTime = 1.0
    /// Additive, so that those who share a bottleneck come to share it evenly.
    private static let growthPerSecond = 80_000.0
    /// But no more than this part of it.
    private static let mostGrowthPerSecond = 0.2
    /// Long after it was too much.
    private static let fastGrowthPerSecond = 0.25
    private static let calmTime = Duration.seconds(15)
    /// Sending so many times what arrives fills the bottleneck.
    private static let overload = 1.15
    /// So many times what arrives is not waited with.
    private static let farTooMuch = 2.0
    /// The estimate falls to no less than this part of what is sent, at a time.
    private static let fastest = 0.3
    /// Where it is not full, the estimate falls to no less than this part of it.
    private static let caution = 0.85
    /// A shorter queue may be what somebody else's probe leaves: whoever gives way to that gets less and less.
    private static let probeTime = Duration.milliseconds(200)
    private static let doubtTime = Duration.milliseconds(400)
    /// The estimate is at most so many times what arrives, unless a probe has shown more.
    private static let headroom = 1.5
    /// Beside a download, losses take it to so much of what arrives.
    private static let yield = 0.75
    /// Of what there was before a download began.
    private static let fairShare = 0.5
    /// What was right beside a download is right again when it turns out within this time to go on.
    private static let yieldTime = Duration.seconds(5)
    /// After so long with a queue that did not shrink although less was sent, it is the path's own delay.
    private static let rebaseTime = Duration.seconds(4)

    private(set) var log = SendLog()
    private(set) var queue = QueueGauge()
    private(set) var losses = LossModel()
    private(set) var competition = CompetitionGauge()
    private(set) var acknowledged = AcknowledgedRate()
    private(set) var probe = ProbeResult()
    /// How fast what is acknowledged was sent.
    private var sent = AcknowledgedRate()

    /// In bits per second, IP and UDP headers included.
    private(set) var bitsPerSecond = start
    /// What the viewer would be sent if there were room for all. More than that is not worth knowing.
    var demand = Double.infinity
    /// The last probe that came through, and when.
    private(set) var proved: (bitsPerSecond: Double, at: Instant)?
    /// What a probe measured that did not come through: the bottleneck's rate, until another probe shows more.
    private var refuted: Double?
    private(set) var lastDecrease: Instant?
    private(set) var lastFeedback: Instant?
    /// How long a round trip takes, as feedback tells, the time included that the viewer collects.
    private(set) var feedbackDelay = Duration.milliseconds(100)

    private var firstUntold: UInt64 = 1
    private var placeHint = 0
    private var clock = ViewerClock()
    private var lastUpdate: Instant?
    /// The most that arrived in the last seconds, with a minus.
    private var negativeRate = MovingMinimum(window: .seconds(3))
    private var beforeTest: Double?
    /// The estimate when somebody else was last thought to fill the queue.
    private var beforeYielding: (bitsPerSecond: Double, at: Instant)?
    /// Since when a queue stands.
    private var standsSince: Instant?
    /// What was sent, and was right, before a queue stood.
    private var beforeQueue: Double?
    private var queueSince: (at: Instant, standing: Duration)?

    /// What may be sent now: less than the estimate while a queue is to go away.
    var target: Double {
        guard isQueueing else { return bitsPerSecond }
        let drain = min(0.4, queue.standing.seconds / Self.drainTime)
        return max(Self.floor, bitsPerSecond * (1 - drain))
    }

    /// Whether the last probe has shown how little more there is.
    var isRefuted: Bool { refuted != nil }

    /// Whether packets wait on the way more than they should, and less would wait if less were sent.
    var isQueueing: Bool { queue.isStanding && !competition.isCompeting }

    /// The transport-wide sequence number of the next packet.
    var nextNumber: UInt16 { UInt16(truncatingIfNeeded: log.next) }

    /// The next packet is sent.
    ///
    /// - Parameter byteCount: UDP payload.
    mutating func noteSent(byteCount: Int, now: Instant) {
        log.append(byteCount: byteCount, probe: probe.current, now: now)
    }

    /// What is sent from now on is to show whether the network carries that much.
    mutating func beginProbe(goal: Double) { probe.begin(goal: goal) }

    /// The probe has been sent.
    mutating func endProbe() { probe.end() }

    /// No feedback came of a probe that was sent long ago.
    mutating func giveUpProbe() { probe.giveUp() }

    /// Takes in a feedback packet.
    ///
    /// - Parameter bytes: What it was read from.
    /// - Returns: What a probe has shown, if one is over with it.
    mutating func receive(
        _ feedback: TransportFeedbackReader,
        in bytes: RawSpan,
        now: Instant
    ) -> ProbeResult.Measured? {
        var feedback = feedback
        guard var sequence = log.extended(feedback.baseSequence) else { return nil }
        lastFeedback = now
        clock.begin(feedback.referenceTicks)
        var received = 0
        var missing = 0
        var latestSent: Instant?
        while let item = feedback.next(in: bytes) {
            switch item {
            case .missing(let count):
                let end = min(sequence + UInt64(count), log.next)
                if end > max(sequence, firstUntold) {
                    let lost = Int(end - max(sequence, firstUntold))
                    missing += lost
                    if let place = log.place(of: end - 1, near: placeHint) {
                        let entry = log.entry(at: place)
                        sent.add(entry.bytesOfOne * lost, arrival: entry.sentAt)
                    }
                }
                sequence += UInt64(count)
            case .received(let ticks):
                defer { sequence += 1 }
                guard let place = log.place(of: sequence, near: placeHint) else { continue }
                placeHint = place
                let entry = log.entry(at: place)
                let arrival = clock.instant(ticks)
                // What was told as missing is not heard of twice; that it came late says something of the rate all the same.
                acknowledged.add(entry.bytesOfOne, arrival: arrival)
                guard sequence >= firstUntold else { continue }
                received += 1
                sent.add(entry.bytesOfOne, arrival: entry.sentAt)
                latestSent = entry.sentAt
                if sequence == entry.first || sequence == firstUntold {
                    queue.observe(delay: clock.difference(arrival, entry.sentAt), arrival: arrival)
                }
                probe.observe(entry, arrival: arrival)
            }
        }
        firstUntold = max(firstUntold, min(sequence, log.next))
        losses.add(received: received, missing: missing)
        if let latestSent { feedbackDelay = min(.seconds(2), max(.milliseconds(10), now - latestSent)) }
        let measured = probe.takeResult(baselineLoss: losses.baseline)
        update(measured, now: now)
        return measured
    }

    private mutating func update(_ measured: ProbeResult.Measured?, now: Instant) {
        defer { lastUpdate = now }
        let elapsed = lastUpdate.map { min(1, (now - $0).seconds) } ?? 0
        let before = bitsPerSecond
        let rate = acknowledged.bitsPerSecond
        if let rate, let sent = sent.bitsPerSecond {
            let kept = 1 - min(0.5, losses.fraction)
            noteCompetition(sent: sent * kept, arriving: rate, now: now)
        }
        let verdict = losses.takeVerdict(isQueueing: queue.mayStand, now: now)
        if isQueueing {
            noteQueue(now: now)
            if standsSince == nil {
                standsSince = now
                beforeQueue = min(before, sent.bitsPerSecond ?? before)
            }
            if mayDecrease(now: now), let rate = acknowledged.bottleneckBitsPerSecond {
                decreaseForQueue(arriving: rate, now: now)
            }
        } else {
            queueSince = nil
            standsSince = nil
            switch verdict {
            case .congested where competition.isCompeting:
                if let rate, mayDecrease(now: now) { decrease(to: rate * Self.yield, now: now) }
            case .test, .congested:
                if let rate { decrease(to: rate / (1 - min(0.5, losses.fraction / 2)) * Self.utilisation, now: now) }
                beforeTest = verdict == .test ? before : nil
            case .cleared:
                bitsPerSecond = max(bitsPerSecond, beforeTest ?? 0)
                beforeTest = nil
            case .fine, nil: grow(elapsed: elapsed, now: now)
            }
        }
        if let measured {
            if measured.cameThrough {
                refuted = nil
                if !isQueueing { proved = (measured.bitsPerSecond, now) }
            } else {
                // This is the bottleneck's rate.
                refuted = measured.bitsPerSecond
                bitsPerSecond = min(bitsPerSecond, measured.bitsPerSecond)
            }
            if measured.bitsPerSecond > bitsPerSecond, !isQueueing { bitsPerSecond = measured.bitsPerSecond }
        }
        if let rate {
            // A burst of losses makes what arrives little for a moment.
            negativeRate.observe(-Int64(min(rate, 1e12)), at: now)
            let shown = min(proved?.bitsPerSecond ?? (lastDecrease == nil ? Self.start : 0), demand * Self.headroom)
            let peak = Double(-negativeRate.value)
            // It grows no further. That less is sent than was shown to come through says nothing against it.
            let cap = min(max(peak * Self.headroom, shown), max(peak, refuted ?? .infinity))
            bitsPerSecond = min(bitsPerSecond, max(before, cap))
        }
        bitsPerSecond = min(Self.ceiling, max(Self.floor, bitsPerSecond))
    }

    private mutating func noteCompetition(sent: Double, arriving: Double, now: Instant) {
        let competed = competition.isCompeting
        competition.observe(isStanding: queue.isStanding, sent: sent, arriving: arriving, now: now)
        if competed, !competition.isCompeting { beforeYielding = (bitsPerSecond, now) }
        guard !competed, competition.isCompeting else { return }
        if let before = beforeYielding, now - before.at < Self.yieldTime {
            bitsPerSecond = max(bitsPerSecond, before.bitsPerSecond)
        } else if let before = beforeQueue {
            bitsPerSecond = max(bitsPerSecond, before * Self.fairShare)
        }
    }

    private mutating func grow(elapsed: Double, now: Instant) {
        let isCalm = queue.standing < queue.limit / 2 || competition.isCompeting
        let sinceDecrease = lastDecrease.map { now - $0 } ?? .seconds(3600)
        guard isCalm, sinceDecrease > .seconds(1) else { return }
        let isLong = sinceDecrease > Self.calmTime
        let most = bitsPerSecond * (isLong ? Self.fastGrowthPerSecond : Self.mostGrowthPerSecond)
        bitsPerSecond += (isLong ? most : min(most, Self.growthPerSecond)) * elapsed
    }

    /// What was sent since the last decrease has to be heard of first, where the estimate is not far beyond what arrives.
    private func mayDecrease(now: Instant) -> Bool {
        guard let lastDecrease else { return true }
        if let rate = acknowledged.bottleneckBitsPerSecond, rate * Self.farTooMuch < bitsPerSecond {
            return now - lastDecrease >= .milliseconds(100)
        }
        return now - lastDecrease >= feedbackDelay + .milliseconds(100)
    }

    /// What arrives says what the bottleneck carries only where more is sent. Else somebody else fills the queue, it is jitter, or the
    /// machine at either end stood still: that has to go on for a while to mean anything.
    private mutating func decreaseForQueue(arriving rate: Double, now: Instant) {
        let stands = standsSince.map { now - $0 } ?? .zero
        let sent = sent.bitsPerSecond ?? bitsPerSecond
        let kept = 1 - min(0.5, losses.usual)
        guard stands > Self.probeTime || rate * Self.farTooMuch < max(bitsPerSecond, sent * kept) else { return }
        if sent * kept > rate * Self.overload {
            decrease(to: max(rate * Self.utilisation, min(bitsPerSecond, sent) * Self.fastest), now: now)
        } else if stands > Self.doubtTime {
            // What was not sent was not shown to fit.
            decrease(to: max(rate * Self.utilisation, min(bitsPerSecond, sent) * Self.caution), now: now)
        }
    }

    private mutating func decrease(to rate: Double, now: Instant) {
        if let proved, proved.bitsPerSecond > rate { self.proved = nil }
        guard rate < bitsPerSecond else { return }
        bitsPerSecond = rate
        lastDecrease = now
    }

    /// A queue goes away when less is sent. One that doesn't is none: the path has become longer.
    private mutating func noteQueue(now: Instant) {
        guard let since = queueSince, queue.standing >= since.standing * 0.8 else {
            queueSince = (now, queue.standing)
            return
        }
        guard now - since.at > Self.rebaseTime, losses.fraction - losses.baseline < 0.02 else { return }
        queue.rebase(arrival: now)
        queueSince = nil
    }
}

/// The viewer's clock as its feedback tells it, made one that goes on.
private struct ViewerClock {
    private var base: Int64 = 0
    private var lastReference: Int64?
    private static let tick = TransportFeedback.tickMicroseconds * 1000
    /// So that what is before the first reference is no negative instant.
    private static let start: Int64 = 1 << 40

    /// A feedback packet begins.
    mutating func begin(_ reference: Int64) {
        defer { lastReference = reference }
        guard let lastReference else { return }
        let half = TransportFeedbackReader.referenceWrapTicks / 2
        if reference < lastReference - half { base += TransportFeedbackReader.referenceWrapTicks }
        if reference > lastReference + half { base -= TransportFeedbackReader.referenceWrapTicks }
    }

    /// - Parameter ticks: As the feedback that has begun tells them.
    func instant(_ ticks: Int64) -> Instant {
        Instant(nanoseconds: UInt64(max(0, (base &+ ticks &+ Self.start) &* Self.tick)))
    }

    /// In nanoseconds, of which only differences mean something.
    func difference(_ arrival: Instant, _ sentAt: Instant) -> Int64 {
        Int64(truncatingIfNeeded: arrival.nanoseconds &- sentAt.nanoseconds)
    }
}
