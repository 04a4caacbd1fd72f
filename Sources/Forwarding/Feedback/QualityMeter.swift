import Commands

/// Makes a level of the fraction of packets that is lost, interval by interval. It worsens at once, and improves only when the loss
/// has stayed well below the level's threshold for some intervals, so that a loss at a threshold doesn't have it come and go.
struct QualityMeter {
    private(set) var level = QualityLevel.good
    /// Intervals in a row that were better than the level, and the worst of them.
    private var betterIntervals = 0
    private var worstOfBetter = QualityLevel.good

    /// Takes what was lost in.
    ///
    /// - Parameters:
    ///   - fractionLost: 0 to 1.
    ///   - intervals: How many intervals that was lost in.
    /// - Returns: Whether the level has changed.
    mutating func observe(fractionLost: Double, intervals: Int = 1, limits: Limits) -> Bool {
        let strict = Self.level(of: fractionLost, fair: limits.qualityFairLoss, poor: limits.qualityPoorLoss)
        if strict > level {
            level = strict
            betterIntervals = 0
            return true
        }
        let relaxed = Self.level(of: fractionLost, fair: limits.qualityFairLoss / 2, poor: limits.qualityPoorLoss / 2)
        guard relaxed < level else {
            betterIntervals = 0
            return false
        }
        worstOfBetter = betterIntervals == 0 ? relaxed : max(worstOfBetter, relaxed)
        betterIntervals += intervals
        guard betterIntervals >= limits.qualityRecoveryIntervals else { return false }
        level = worstOfBetter
        betterIntervals = 0
        return true
    }

    private static func level(of fractionLost: Double, fair: Double, poor: Double) -> QualityLevel {
        fractionLost >= poor ? .poor : fractionLost >= fair ? .fair : .good
    }
}

/// What was lost of a track since somebody asked, once enough was sent to tell.
struct LossInterval {
    private var expectedAtStart: Int64 = 0
    private var lostAtStart: Int64 = 0
    private var expectedAtLook: Int64 = 0

    /// - Parameters:
    ///   - expected: Packets that were sent ever.
    ///   - lost: Those of them that did not come.
    ///   - minimum: Fewer packets say nothing: they are taken together with the next interval's.
    /// - Returns: The fraction lost; 0 when nothing was sent since the last look, nil while it was too little.
    mutating func take(expected: Int64, lost: Int64, minimum: Int) -> Double? {
        let isQuiet = expected == expectedAtLook
        expectedAtLook = expected
        let sent = expected - expectedAtStart
        guard isQuiet || sent >= Int64(minimum) else { return nil }
        let missing = lost - lostAtStart
        expectedAtStart = expected
        lostAtStart = lost
        return isQuiet || sent <= 0 ? 0 : min(1, Double(max(0, missing)) / Double(sent))
    }
}

/// What a viewer reports of one subscription during one interval.
struct ReportedLoss {
    /// The interval of the last report, and the one of those before it.
    private var interval: UInt32 = 0
    private var intervalBefore: UInt32 = 0
    private var sum = 0.0
    private var reportCount = 0
    /// Whether it is among those that are looked at when the interval ends.
    private var isDue = false
    private(set) var meter = QualityMeter()

    /// Takes one report in.
    ///
    /// - Parameter interval: The number of the interval that it comes in.
    /// - Returns: Whether it is to be looked at, from now on, when the interval ends: most subscriptions lose nothing, and are not.
    mutating func add(_ fractionLost: Double, in interval: UInt32) -> Bool {
        if interval != self.interval {
            intervalBefore = self.interval
            self.interval = interval
            sum = 0
            reportCount = 0
        }
        sum += fractionLost
        reportCount += 1
        guard !isDue, fractionLost > 0 || meter.level != .good else { return false }
        isDue = true
        return true
    }

    /// The interval ends.
    ///
    /// - Returns: The level, if it has changed.
    mutating func endInterval(limits: Limits) -> QualityLevel? {
        isDue = false
        // Of audio clients report every 5 s (RFC 3550 §6.2), which says something about more than one interval.
        let intervals = max(1, Int(interval &- intervalBefore))
        guard reportCount > 0,
            meter.observe(fractionLost: sum / Double(reportCount), intervals: intervals, limits: limits)
        else { return nil }
        return meter.level
    }
}
