/// The last packets of one encoding, decrypted: what subscriptions are fed from and what NACKs are answered from.
///
/// Invariant: the packet with sequence number `s` can only lie in slot `s mod capacity`; a slot whose record has another
/// sequence number does not hold it. Slots are `slotBytes` long, and no record reaches beyond its slot.
final class PacketHistory {
    /// Packets that fit.
    let capacity: Int
    /// Bytes of one slot.
    let slotBytes: Int

    private let slab: UnsafeMutableRawPointer
    private let records: UnsafeMutablePointer<PacketRecord>
    private let mask: UInt64

    /// - Parameters:
    ///   - capacity: Packets kept; rounded up to a power of two.
    ///   - packetBytes: The largest packet.
    init(capacity: Int, packetBytes: Int) {
        var size = 16
        while size < capacity, size < 1 << 16 { size <<= 1 }
        self.capacity = size
        slotBytes = (packetBytes + 63) & ~63
        mask = UInt64(size - 1)
        slab = .allocate(byteCount: size * slotBytes, alignment: 64)
        records = .allocate(capacity: size)
        records.initialize(repeating: PacketRecord(), count: size)
    }

    deinit {
        slab.deallocate()
        records.deallocate()
    }

    /// The record of a packet, or nil when it is not (or no longer) here. The pointer is valid until the next `insert`.
    @inline(__always)
    func record(of sequence: UInt64) -> UnsafePointer<PacketRecord>? {
        let record = records + Int(sequence & mask)
        return record.pointee.sequence == sequence ? UnsafePointer(record) : nil
    }

    /// The bytes of the packet in the slot of `sequence`.
    @inline(__always)
    func bytes(of sequence: UInt64) -> UnsafeRawPointer {
        UnsafeRawPointer(slab + Int(sequence & mask) * slotBytes)
    }

    /// Keeps a packet, in place of the one that is `capacity` older.
    func insert(_ record: PacketRecord, bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count <= slotBytes, Int(record.payloadEnd) <= bytes.count else {
            return
        }
        let slot = Int(record.sequence & mask)
        (slab + slot * slotBytes).copyMemory(from: base, byteCount: bytes.count)
        records[slot] = record
    }

    /// Forgets everything.
    func removeAll() {
        records.update(repeating: PacketRecord(), count: capacity)
    }
}
