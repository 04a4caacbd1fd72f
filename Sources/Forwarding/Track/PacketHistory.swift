/// The last packets of one encoding, decrypted: what subscriptions are fed from and what NACKs are answered from.
///
/// The records are its own, the packets lie in chunks: at the encoding's home in chunks of its own, elsewhere in the home's, which
/// are borrowed for as long as a packet of theirs is in the window.
///
/// Invariant: a packet is here when its sequence number is less than `capacity` behind the highest one and the record in place
/// `sequence mod capacity` has it. Then its bytes lie in `open` or in a chunk of `chunks`, and neither is written again or given
/// back before.
final class PacketHistory {
    /// One chunk and the highest sequence number of ours in it.
    private struct Holding {
        let chunk: PacketChunk
        var highestSequence: UInt64
        let isBorrowed: Bool
    }

    /// Most chunks that are kept because other workers have not given them back.
    private static let maximumChunks = 256

    /// Packets in the window.
    let capacity: Int

    private let records: UnsafeMutablePointer<PacketRecord>
    private let mask: UInt64
    private let chunkBytes: Int
    private var highest: UInt64 = 0
    /// The chunk that packets are put into now; nil before the first, and where chunks are borrowed.
    private var open: PacketChunk?
    /// The others, the oldest first.
    private var chunks: ContiguousArray<Holding> = []

    /// - Parameters:
    ///   - capacity: Packets kept; rounded up to a power of two.
    ///   - chunkBytes: Bytes of memory that is taken at a time.
    init(capacity: Int, chunkBytes: Int) {
        var size = 16
        while size < capacity, size < 1 << 16 { size <<= 1 }
        self.capacity = size
        self.chunkBytes = chunkBytes
        mask = UInt64(size - 1)
        records = .allocate(capacity: size)
        records.initialize(repeating: PacketRecord(), count: size)
    }

    deinit {
        for holding in chunks where holding.isBorrowed { holding.chunk.giveBack() }
        records.deallocate()
    }

    /// The record of a packet, or nil when it is not (or no longer) here. The pointer is valid until the next packet comes.
    @inline(__always)
    func record(of sequence: UInt64) -> UnsafePointer<PacketRecord>? {
        let record = records + Int(sequence & mask)
        guard record.pointee.sequence == sequence, highest &- sequence < UInt64(capacity) else { return nil }
        return UnsafePointer(record)
    }

    // MARK: At home

    /// Keeps a packet.
    ///
    /// - Parameter bytes: At most `chunkBytes`.
    /// - Returns: The chunk that it lies in now.
    func insert(_ record: PacketRecord, copying bytes: UnsafeRawBufferPointer) -> PacketChunk? {
        guard Int(record.payloadEnd) <= bytes.count else { return nil }
        let chunk = chunk(withRoomFor: bytes.count)
        var record = record
        record.bytes = chunk.append(bytes, sequence: record.sequence)
        guard record.bytes != nil else { return nil }
        insert(record)
        return chunk
    }

    private func chunk(withRoomFor byteCount: Int) -> PacketChunk {
        if let open {
            if open.hasRoom(for: byteCount) { return open }
            chunks.append(Holding(chunk: open, highestSequence: open.highestSequence, isBorrowed: false))
        }
        let next = freeChunk()
        open = next
        return next
    }

    /// The oldest chunk, when all in it is past and nobody reads in it any more; else a new one.
    private func freeChunk() -> PacketChunk {
        if let oldest = chunks.first, isPast(oldest.highestSequence) {
            if !oldest.chunk.isLent {
                chunks.removeFirst()
                oldest.chunk.removeAll()
                return oldest.chunk
            }
            // A worker that is this far behind has it for itself, and frees it.
            if chunks.count >= Self.maximumChunks { chunks.removeFirst() }
        }
        return PacketChunk(capacity: chunkBytes)
    }

    // MARK: Elsewhere

    /// Keeps a packet that lies in a borrowed chunk.
    func insert(_ record: PacketRecord) {
        highest = max(highest, record.sequence)
        records[Int(record.sequence & mask)] = record
    }

    /// Takes over a loan of the chunk that packets up to this sequence number lie in, until they are past.
    func hold(_ chunk: PacketChunk, highestSequence: UInt64) {
        if let last = chunks.indices.last, chunks[last].chunk === chunk {
            chunks[last].highestSequence = max(chunks[last].highestSequence, highestSequence)
            chunk.giveBack()
        } else {
            chunks.append(Holding(chunk: chunk, highestSequence: highestSequence, isBorrowed: true))
        }
        while let oldest = chunks.first, chunks.count > 1, isPast(oldest.highestSequence) {
            oldest.chunk.giveBack()
            chunks.removeFirst()
        }
    }

    /// Whether no packet up to this one is in the window any more.
    func isPast(_ sequence: UInt64) -> Bool { highest >= sequence &+ UInt64(capacity) }
}
