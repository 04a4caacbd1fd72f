import Transport

/// Remembers which packets of one encoding are missing and when to ask for them (RFC 4585 §6.2.1).
struct NackGenerator {
    /// Reordering on the way is common and repairs itself: a gap is asked for only when it is this old.
    private static let reorderingTolerance = Duration.milliseconds(10)
    /// Between two requests for the same packet: a round trip on most paths, and the publisher's answer may be lost too.
    private static let retryInterval = Duration.milliseconds(60)
    /// After so many requests a packet is given up: by then no jitter buffer waits for it.
    private static let maximumRequests = 10
    /// A gap larger than this is not asked for packet by packet.
    private static let maximumGap = SequenceOrder.largeGap
    /// So is one of this many packets after so long a silence: the publisher's network was gone, and what it sent meanwhile comes too
    /// late for anybody.
    private static let interruptionGap: UInt64 = 16
    private static let interruptionSilence = Duration.milliseconds(500)
    /// Packets that can be missing at once; older ones are given up.
    private static let capacity = 1024

    /// What a packet turned out to be.
    enum Arrival {
        case expected
        /// It had been missing.
        case recovered
        /// So much is missing before it that it is not asked for: only a keyframe helps.
        case afterInterruption
    }

    private struct Missing {
        var sequence: UInt64
        var due: Instant
        var requests = 0
    }

    /// In ascending order of sequence numbers.
    private var missing: [Missing] = []
    private var highest: UInt64?
    private var latestAt = Instant(nanoseconds: 0)
    /// The earliest `due`; later than any instant while nothing is missing.
    private(set) var deadline = Instant.distantFuture

    init() {
        missing.reserveCapacity(Self.capacity)
    }

    /// Notes a packet that came, by whichever way.
    mutating func received(_ sequence: UInt64, now: Instant) -> Arrival {
        defer { latestAt = now }
        guard let highest else {
            self.highest = sequence
            return .expected
        }
        guard sequence > highest else { return remove(sequence) ? .recovered : .expected }
        self.highest = sequence
        let gap = sequence - highest - 1
        let isInterruption = gap >= Self.interruptionGap && now >= latestAt + Self.interruptionSilence
        if gap > Self.maximumGap || isInterruption {
            missing.removeAll(keepingCapacity: true)
            deadline = .distantFuture
            return .afterInterruption
        }
        if gap > 0 {
            let overflow = missing.count + Int(gap) - Self.capacity
            if overflow > 0 { missing.removeFirst(min(overflow, missing.count)) }
            let due = now + Self.reorderingTolerance
            for lost in (highest + 1)..<sequence { missing.append(Missing(sequence: lost, due: due)) }
            deadline = min(deadline, due)
        }
        return .expected
    }

    /// Whether it is asked for.
    func isMissing(_ sequence: UInt64) -> Bool { missing.contains { $0.sequence == sequence } }

    /// Appends the sequence numbers that have to be asked for now to `requests`, ascending, as 16 bits.
    mutating func takeDue(now: Instant, into requests: inout [UInt16]) {
        guard deadline <= now else { return }
        missing.removeAll { $0.due <= now && $0.requests >= Self.maximumRequests }
        deadline = .distantFuture
        for index in missing.indices {
            if missing[index].due <= now {
                requests.append(UInt16(truncatingIfNeeded: missing[index].sequence))
                missing[index].requests += 1
                missing[index].due = now + Self.retryInterval
            }
            deadline = min(deadline, missing[index].due)
        }
    }

    private mutating func remove(_ sequence: UInt64) -> Bool {
        // What was lost last is what arrives next: search from the end.
        guard let index = missing.lastIndex(where: { $0.sequence == sequence }) else { return false }
        missing.remove(at: index)
        if missing.isEmpty { deadline = .distantFuture }
        return true
    }
}
