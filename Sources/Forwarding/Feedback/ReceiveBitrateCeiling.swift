import Transport

/// The bitrate told by REMB to a publisher that has no transport-wide congestion control: up while nothing is lost, down
/// with loss.
///
/// Loss is all that a receiver without send times can see; thresholds and steps are those of loss-based congestion
/// control (draft-ietf-rmcat-gcc-02 §6).
struct ReceiveBitrateCeiling {
    private static let start: Double = 1_000_000
    private static let floor: Double = 100_000
    private static let highLoss = 0.1
    private static let lowLoss = 0.02
    private static let increase = 1.08
    /// The ceiling stays within this factor of what comes in, so that it has a meaning when the path changes.
    private static let headroom = 2.0

    private let maximum: Double
    private var current: Double

    init(maximum: UInt64) {
        self.maximum = Double(maximum)
        current = min(Self.start, Double(maximum))
    }

    /// - Parameters:
    ///   - fractionLost: Of the last report interval, 0 to 1.
    ///   - receivedBitsPerSecond: Of the same interval.
    /// - Returns: The new ceiling in bits per second.
    mutating func update(fractionLost: Double, receivedBitsPerSecond: Double) -> UInt64 {
        if fractionLost > Self.highLoss {
            current = max(Self.floor, current * (1 - 0.5 * fractionLost))
        } else if fractionLost < Self.lowLoss {
            let cap = max(Self.start, receivedBitsPerSecond * Self.headroom)
            current = min(maximum, max(current, min(current * Self.increase + 50_000, cap)))
        }
        return UInt64(current)
    }
}
