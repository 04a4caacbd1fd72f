/// Counts of durations, in buckets that are a thirty-second part of their power of two wide: percentiles are right to 3 %.
struct LatencyHistogram: Sendable {
    private static let subBits = 5
    private static let sub = 1 << subBits

    private var buckets = [UInt64](repeating: 0, count: (64 - subBits + 1) * sub)
    private(set) var count: UInt64 = 0
    private(set) var maximum: UInt64 = 0

    /// - Parameter nanoseconds: Any.
    mutating func record(_ nanoseconds: UInt64) {
        buckets[Self.bucket(nanoseconds)] += 1
        count += 1
        maximum = max(maximum, nanoseconds)
    }

    mutating func reset() { self = LatencyHistogram() }

    /// The duration that this part of all is not longer than, in milliseconds; 0 without any.
    ///
    /// - Parameter part: 0 to 1.
    func milliseconds(at part: Double) -> Double {
        guard count > 0 else { return 0 }
        let wanted = UInt64((part * Double(count)).rounded(.up))
        var seen: UInt64 = 0
        for (index, value) in buckets.enumerated() {
            seen += value
            if seen >= max(1, wanted) { return Double(min(Self.upperBound(index), maximum)) / 1e6 }
        }
        return Double(maximum) / 1e6
    }

    private static func bucket(_ value: UInt64) -> Int {
        guard value >= UInt64(sub) else { return Int(value) }
        let exponent = 63 - value.leadingZeroBitCount - subBits
        return (exponent + 1) * sub + Int(value >> UInt64(exponent)) - sub
    }

    private static func upperBound(_ bucket: Int) -> UInt64 {
        guard bucket >= sub else { return UInt64(bucket) }
        let exponent = bucket / sub - 1
        return (UInt64(bucket % sub + sub) + 1) << UInt64(exponent) - 1
    }
}

/// Time from a packet's sending to its arrival at a viewer, as the verifying viewers see it.
struct LatencyByKind: Sendable {
    var video = LatencyHistogram()
    var audio = LatencyHistogram()
}
