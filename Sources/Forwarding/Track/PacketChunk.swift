import Synchronization

/// A piece of memory that packets of one encoding are put into, one behind the other. Other workers read them there: what crosses
/// between workers is where they lie.
///
/// `@unchecked Sendable`: `bytes` are written, and `used` and `highestSequence` touched, by the encoding's home only. Other workers
/// read packets that a relay ring told them of, which were written before; the home does not write them again until `isLent` is
/// false, which it reads with the ordering that `giveBack` stores with. The memory is freed by whoever lets go last.
final class PacketChunk: @unchecked Sendable {
    let capacity: Int
    private let bytes: UnsafeMutableRawPointer
    /// Batches in it that other workers have not given back.
    private let loans = Atomic<Int>(0)

    /// Bytes that are taken.
    private var used = 0
    /// Of the packets in it.
    private(set) var highestSequence: UInt64 = 0

    init(capacity: Int) {
        self.capacity = capacity
        bytes = .allocate(byteCount: capacity, alignment: 64)
    }

    deinit {
        // Whatever the last reader did happened before.
        _ = loans.load(ordering: .acquiring)
        bytes.deallocate()
    }

    // MARK: The home's side

    /// Whether a packet of this length fits.
    func hasRoom(for byteCount: Int) -> Bool { used + byteCount <= capacity }

    /// Copies a packet behind those that are there. There must be room for it.
    func append(_ packet: UnsafeRawBufferPointer, sequence: UInt64) -> UnsafeRawPointer? {
        guard let base = packet.baseAddress, hasRoom(for: packet.count) else { return nil }
        let place = bytes + used
        place.copyMemory(from: base, byteCount: packet.count)
        used += packet.count
        highestSequence = max(highestSequence, sequence)
        return UnsafeRawPointer(place)
    }

    /// Whether another worker still reads in it.
    var isLent: Bool { loans.load(ordering: .acquiring) > 0 }

    /// Forgets its packets. It must not be lent.
    func removeAll() {
        used = 0
        highestSequence = 0
    }

    /// Hands it to another worker, which has to give it back once.
    func lend() -> UInt {
        loans.add(1, ordering: .relaxed)
        return UInt(bitPattern: Unmanaged.passRetained(self).toOpaque())
    }

    // MARK: The reader's side

    /// The chunk that `lend` gave, to be given back by whoever got it.
    static func borrowed(_ loan: UInt) -> PacketChunk? {
        UnsafeRawPointer(bitPattern: loan).map { Unmanaged<PacketChunk>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Its packets are not read any more.
    func giveBack() {
        loans.subtract(1, ordering: .releasing)
        Unmanaged.passUnretained(self).release()
    }
}
