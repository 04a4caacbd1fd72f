import Transport

/// What came of a probe: some packets more than usual, sent at a rate to see whether it comes through.
struct ProbeResult {
    struct Measured {
        var bitsPerSecond: Double
        /// Whether it arrived as fast as it was sent.
        var cameThrough: Bool
        /// Whether more was lost of it than of anything.
        var didHarm: Bool
    }

    /// Arriving so much slower than it was sent, it did not come through.
    private static let tolerance = 0.9
    /// Of what did not come through, so much is sent.
    private static let utilisation = 0.95
    private static let harm = 0.1
    private static let minimumEntries = 3

    /// The probe that packets are part of which are sent now; 0 when there is none.
    private(set) var current: UInt16 = 0
    private var last: UInt16 = 0

    private var measuring: UInt16 = 0
    private var goal = 0.0
    private var firstSentAt = Instant(nanoseconds: 0)
    private var lastSentAt = Instant(nanoseconds: 0)
    private var firstArrival = Instant(nanoseconds: 0)
    private var lastArrival = Instant(nanoseconds: 0)
    private var entries = 0
    /// Bytes that arrived, but for those of the first entry, after which the time counts; and that were sent.
    private var arrivedBytes = 0
    private var sentBytes = 0
    private var lastEntry: UInt64 = 0
    private var isOver = false

    /// Whether a probe is being sent or waited for.
    var isUnderway: Bool { current != 0 || measuring != 0 }

    /// What is sent from now on is part of a probe.
    ///
    /// - Parameter goal: The rate to prove, in bits per second.
    mutating func begin(goal: Double) {
        self.goal = goal
        last = last == .max ? 1 : last + 1
        current = last
        measuring = last
        entries = 0
        arrivedBytes = 0
        sentBytes = 0
        lastArrival = Instant(nanoseconds: 0)
        lastEntry = 0
        isOver = false
    }

    /// What is sent from now on is not.
    mutating func end() { current = 0 }

    /// Nothing was heard of it.
    mutating func giveUp() {
        current = 0
        measuring = 0
    }

    /// A packet has arrived.
    mutating func observe(_ entry: SendLog.Entry, arrival: Instant) {
        guard measuring != 0 else { return }
        guard entry.probe == measuring else {
            // Something that was sent later.
            if entries > 0, current == 0, entry.sentAt > lastSentAt { isOver = true }
            return
        }
        if entries == 0 {
            firstSentAt = entry.sentAt
            firstArrival = arrival
        }
        if entry.first != lastEntry {
            entries += 1
            lastEntry = entry.first
            if entries > 1 { sentBytes += Int(entry.bytes) }
        }
        lastSentAt = max(lastSentAt, entry.sentAt)
        lastArrival = max(lastArrival, arrival)
        if entries == 1 { firstArrival = max(firstArrival, arrival) } else { arrivedBytes += entry.bytesOfOne }
    }

    /// What it has shown, once it is over.
    ///
    /// - Parameter baselineLoss: What is lost at any rate, 0 to 1.
    mutating func takeResult(baselineLoss: Double) -> Measured? {
        guard isOver else { return nil }
        isOver = false
        measuring = 0
        let sending = (lastSentAt - firstSentAt).seconds
        let arriving = (lastArrival - firstArrival).seconds
        guard entries >= Self.minimumEntries, sending > 0 else { return nil }
        let sent = Double(sentBytes * 8) / sending
        // Where nothing else tells, it took as long as the sending.
        let arrived = Double(arrivedBytes * 8) / max(arriving, 0.001) / max(0.5, 1 - baselineLoss)
        let lost = 1 - Double(arrivedBytes) / Double(max(sentBytes, 1))
        let didHarm = lost > baselineLoss + Self.harm
        if arrived >= min(sent, goal) * Self.tolerance {
            return Measured(bitsPerSecond: min(sent, arrived), cameThrough: true, didHarm: didHarm)
        }
        return Measured(bitsPerSecond: arrived * Self.utilisation, cameThrough: false, didHarm: didHarm)
    }
}
