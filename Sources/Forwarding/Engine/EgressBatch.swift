public import Wire

/// Datagrams that wait for one flush: their bytes in one slab of equal slots, their lengths and destinations beside it.
///
/// Invariant: entries `0 ..< count` are filled; an entry's bytes lie in its own slot and stay until `removeAll`.
public final class EgressBatch {
    /// Bytes of one slot: an Ethernet frame's worth of UDP payload.
    public static let slotBytes = 1536

    /// Most datagrams that one batch holds.
    public let capacity: Int
    /// Datagrams that wait now.
    public private(set) var count = 0

    private let slab: UnsafeMutableRawPointer
    private let lengths: UnsafeMutablePointer<Int>
    private let destinations: UnsafeMutablePointer<SocketAddress>

    public init(capacity: Int) {
        self.capacity = capacity
        slab = .allocate(byteCount: capacity * Self.slotBytes, alignment: 64)
        lengths = .allocate(capacity: capacity)
        lengths.initialize(repeating: 0, count: capacity)
        destinations = .allocate(capacity: capacity)
        destinations.initialize(repeating: SocketAddress(ip: IPAddress(v4: 0), port: 0), count: capacity)
    }

    deinit {
        slab.deallocate()
        lengths.deallocate()
        destinations.deallocate()
    }

    /// Whether no slot is left.
    public var isFull: Bool { count == capacity }

    /// The next free slot's `slotBytes` bytes. The batch must not be full.
    @inline(__always)
    var freeSlot: UnsafeMutableRawPointer { slab + count * Self.slotBytes }

    /// Takes the next free slot, whose first `length` bytes hold a datagram for `destination`. A length of 0, of a packet
    /// that could not be sealed, takes none.
    @inline(__always)
    func commit(length: Int, to destination: SocketAddress) {
        guard length > 0 else { return }
        lengths[count] = length
        destinations[count] = destination
        count += 1
    }

    /// An entry's bytes; valid until `removeAll`.
    public func bytes(at index: Int) -> UnsafeRawBufferPointer {
        precondition(index >= 0 && index < count)
        return UnsafeRawBufferPointer(start: slab + index * Self.slotBytes, count: lengths[index])
    }

    /// An entry's destination.
    public func destination(at index: Int) -> SocketAddress {
        precondition(index >= 0 && index < count)
        return destinations[index]
    }

    /// Forgets all entries: whoever flushes a batch calls this once its bytes are with the kernel.
    public func removeAll() { count = 0 }
}
