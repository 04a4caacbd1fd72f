import Transport

/// Tells a publisher's clock from what is none. A sender without one says 0 (RFC 3550 §6.4.1); others say something that stands still,
/// runs backwards or at another pace. Viewers would play audio and video apart by it, so they are told no clock then.
struct SenderClockGauge {
    /// A clock that a publisher counts from its start shows less only at its very beginning.
    private static let leastNTP: UInt64 = 1 << 32
    /// How far two reports may be off, in seconds: they may have waited on the way, and clocks are set.
    private static let tolerance = 2.0
    /// How much of the time between them.
    private static let drift = 0.1

    /// The publisher's clock; nil while it has none that can be believed.
    private(set) var clock: SenderClock?
    private var last: SenderClock?

    /// Takes a report in.
    ///
    /// - Parameter interval: Reports that come faster are left out.
    /// - Returns: Whether `clock` may have changed.
    mutating func observe(_ told: SenderClock, clockRate: UInt32, interval: Duration) -> Bool {
        if let last, told.receivedAt - last.receivedAt < interval { return false }
        guard told.ntp >= Self.leastNTP, told.ntp != .max else {
            defer { clock = nil }
            last = nil
            return clock != nil
        }
        // Said again, as a sender does whose media stands still: it says nothing new.
        if let last, told.ntp == last.ntp, told.rtpTimestamp == last.rtpTimestamp { return false }
        let isClock = last.map { Self.agree($0, told, clockRate: clockRate) } ?? true
        last = told
        defer { clock = isClock ? told : nil }
        return isClock || clock != nil
    }

    /// Whether both clocks of two reports have gone on by the time between them. A timestamp that jumps is an encoder that starts
    /// again, and the wall clock may be set; but then the next two agree.
    private static func agree(_ earlier: SenderClock, _ later: SenderClock, clockRate: UInt32) -> Bool {
        let passed = (later.receivedAt - earlier.receivedAt).seconds
        let ofWall = Double(Int64(bitPattern: later.ntp &- earlier.ntp)) / 0x1p32
        let ofMedia = Double(Int32(bitPattern: later.rtpTimestamp &- earlier.rtpTimestamp)) / Double(clockRate)
        let bound = tolerance + passed * drift
        guard ofWall > 0, abs(ofWall - passed) <= bound else { return false }
        // Timestamps wrap after hours; by then nothing can be told.
        return passed > 3600 || abs(ofMedia - ofWall) <= bound
    }
}
