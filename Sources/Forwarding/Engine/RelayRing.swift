/// A bounded lock-free ring of records from one worker to another: one thread writes, one other reads.
public final class RelayRing: @unchecked Sendable {
    /// - Parameter capacity: Size in bytes, a power of two.
    public init(capacity: Int) {
    }
}
