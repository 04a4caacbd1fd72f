import Transport

/// Tells losses that sending less would end from those that the path has anyhow, such as a bad radio link's.
///
/// Losses while packets wait in a queue are the queue's: it is full. Without a queue they may be a policer's, which drops what is above
/// its rate. Heavy ones are put to the test, now and then: where less is lost when less is sent, the rate was too high.
struct LossModel {
    enum Verdict: Equatable {
        case fine
        /// So much is lost as the rate is too high.
        case congested
        /// Sending less for a moment would tell.
        case test
        /// As much was lost when less was sent: the rate of before was right.
        case cleared
    }

    /// Fewer packets say nothing.
    private static let minimumPackets = 20
    private static let minimumTime = Duration.milliseconds(200)
    /// Below, losses are made up for by retransmissions.
    private static let tolerated = 0.02
    /// From here on it is worth a test, where no packet waits and it goes on for so long: not in bursts, with nothing lost between them.
    private static let suspicious = 0.15
    private static let suspicionTime = Duration.seconds(2)
    /// What is lost in each interval of that time at least.
    private static let steady = 0.05
    private static let testInterval = Duration.seconds(30)
    private static let testTime = Duration.milliseconds(1500)
    /// What is told within this time was sent before the test.
    private static let testDelay = Duration.milliseconds(500)

    /// Of the last interval, 0 to 1.
    private(set) var fraction = 0.0
    /// Of the last seconds without a queue.
    private(set) var usual = 0.0
    /// What is lost whatever the rate, 0 to 1.
    private(set) var baseline = 0.0

    private var received = 0
    private var missing = 0
    private var since: Instant?
    /// Since when each interval had losses.
    private var steadySince: Instant?
    private var testedAt: Instant?
    private var fractionBeforeTest: Double?
    /// While the test goes on, from when what is told was sent in it.
    private var testReceived = 0
    private var testMissing = 0

    mutating func add(received: Int, missing: Int) {
        self.received += received
        self.missing += missing
    }

    /// - Parameter isQueueing: Whether packets wait on the way.
    /// - Returns: Nil while an interval is under way.
    mutating func takeVerdict(isQueueing: Bool, now: Instant) -> Verdict? {
        guard let since else {
            self.since = now
            return nil
        }
        let total = received + missing
        guard total >= Self.minimumPackets, now - since >= Self.minimumTime else { return nil }
        let began = since
        let weight = min(1, (now - since).seconds / Self.suspicionTime.seconds)
        self.since = now
        fraction = Double(missing) / Double(total)
        if fractionBeforeTest != nil, let testedAt, began - testedAt >= Self.testDelay {
            testReceived += received
            testMissing += missing
        }
        received = 0
        missing = 0
        // By chance more is lost at times.
        if isQueueing { return fraction > usual * 2 + Self.tolerated ? .congested : .fine }
        usual += (fraction - usual) * weight
        steadySince = fraction < Self.steady ? nil : steadySince ?? began
        if let before = fractionBeforeTest, let testedAt {
            guard now - testedAt >= Self.testTime else { return .fine }
            fractionBeforeTest = nil
            let tested = Double(testMissing) / Double(max(1, testReceived + testMissing))
            guard tested > before / 2 else { return .fine }
            baseline = usual
            return .cleared
        }
        baseline = min(baseline, max(usual, 0))
        guard usual - baseline > Self.suspicious, let steadySince, now - steadySince >= Self.suspicionTime,
            testedAt.map({ now - $0 > Self.testInterval }) ?? true
        else { return .fine }
        testedAt = now
        testReceived = 0
        testMissing = 0
        fractionBeforeTest = usual
        return .test
    }
}
