/// Extends 16-bit sequence numbers to 64 bits, each as the nearest to the highest seen (RFC 3550 A.1).
///
/// The first number `s` becomes 2^16 + s, so that packets sent before the first one received have numbers too, and none has 0.
public struct SequenceNumberUnwrapper: BitwiseCopyable, Sendable {
    @usableFromInline var highest: UInt64?

    @inlinable
    public init() {}

    /// The extended form of a sequence number.
    @inlinable
    public mutating func unwrap(_ sequenceNumber: UInt16) -> UInt64 {
        let extended = nearest(to: sequenceNumber)
        highest = max(highest ?? 0, extended)
        return extended
    }

    /// What `unwrap` would return, without any effect on what follows.
    @inlinable
    public func nearest(to sequenceNumber: UInt16) -> UInt64 {
        guard let highest else { return UInt64(1) << 16 | UInt64(sequenceNumber) }
        let forward = sequenceNumber &- UInt16(truncatingIfNeeded: highest)
        if forward < 0x8000 { return highest &+ UInt64(forward) }
        let backward = UInt64(UInt16(0) &- forward)
        // Only at the very beginning can a number lie before the first cycle; 1 is the least there is.
        return highest > backward ? highest - backward : 1
    }
}
