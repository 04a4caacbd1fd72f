import Synchronization

/// A bounded lock-free ring of records from one worker to another: one thread writes, one other reads.
///
/// `@unchecked Sendable`: `storage` is written only by the writing thread in the region that `written` and `read` leave
/// free, and read only by the reading thread in the region that they cover; both indexes are atomics, released after the
/// bytes they stand for were touched and acquired before.
public final class RelayRing: @unchecked Sendable {
    /// Bytes before each record: its length, aligned for the records that follow.
    private static let prefixBytes = 8
    /// A length that tells the reader to go on at the start of the storage.
    private static let wrapMarker = UInt32.max

    private let storage: UnsafeMutableRawPointer
    private let capacity: Int
    /// Bytes ever written and ever read; the difference is what waits.
    private let written = Atomic<Int>(0)
    private let read = Atomic<Int>(0)

    /// - Parameter capacity: Size in bytes, a power of two and at least 4096.
    public init(capacity: Int) {
        precondition(capacity >= 4096 && capacity & (capacity - 1) == 0)
        self.capacity = capacity
        storage = .allocate(byteCount: capacity, alignment: 64)
    }

    deinit { storage.deallocate() }

    /// Writes one record of two parts, the second `padding` bytes behind the first. Called by the writing thread only.
    ///
    /// - Returns: False when there is no room; nothing is written then.
    func write(_ head: UnsafeRawBufferPointer, padding: Int = 0, _ body: UnsafeRawBufferPointer) -> Bool {
        let length = head.count + padding + body.count
        let needed = Self.aligned(Self.prefixBytes + length)
        let start = written.load(ordering: .relaxed)
        let free = capacity - (start - read.load(ordering: .acquiring))
        let offset = start & (capacity - 1)
        let toEnd = capacity - offset
        let skipped = needed > toEnd ? toEnd : 0
        guard needed + skipped <= free, length < Int(Self.wrapMarker) else { return false }

        var target = storage + offset
        if skipped > 0 {
            target.storeBytes(of: Self.wrapMarker, as: UInt32.self)
            target = storage
        }
        target.storeBytes(of: UInt32(length), as: UInt32.self)
        if let base = head.baseAddress {
            (target + Self.prefixBytes).copyMemory(from: base, byteCount: head.count)
        }
        if let base = body.baseAddress {
            (target + Self.prefixBytes + head.count + padding).copyMemory(from: base, byteCount: body.count)
        }
        written.store(start + skipped + needed, ordering: .releasing)
        return true
    }

    /// Hands the oldest record to `body` and frees it. Called by the reading thread only.
    ///
    /// - Returns: False when the ring is empty.
    func readNext(_ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        var start = read.load(ordering: .relaxed)
        guard start != written.load(ordering: .acquiring) else { return false }
        var offset = start & (capacity - 1)
        var length = (storage + offset).load(as: UInt32.self)
        if length == Self.wrapMarker {
            start += capacity - offset
            offset = 0
            length = storage.load(as: UInt32.self)
        }
        body(UnsafeRawBufferPointer(start: storage + offset + Self.prefixBytes, count: Int(length)))
        read.store(start + Self.aligned(Self.prefixBytes + Int(length)), ordering: .releasing)
        return true
    }

    private static func aligned(_ byteCount: Int) -> Int { (byteCount + 7) & ~7 }
}
