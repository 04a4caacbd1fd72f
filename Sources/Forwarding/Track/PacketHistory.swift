import Transport

/// The last packets of one encoding, decrypted: what subscriptions are fed from and what NACKs are answered from.
///
/// The records are its own, the packets lie in chunks: at the encoding's home in chunks of its own, elsewhere in the home's, which
/// are borrowed for as long as a packet of theirs is in the window. It takes memory as packets come, no more than they need for as long
/// as they may be asked for, and no more than its budget has.
///
/// Invariant: a packet is here when its sequence number is at least `floor` and less than `capacity` behind the highest one, and the
/// record in place `sequence mod capacity` has it. Then its bytes lie in `open` or in a chunk of `chunks`, and neither is written again
/// or given back before.
final class PacketHistory {
    /// One chunk and the highest sequence number of ours in it.
    private struct Holding {
        let chunk: PacketChunk
        var highestSequence: UInt64
        /// When the last packet was put into it.
        var filledAt: Instant
        let isBorrowed: Bool
    }

    /// Most chunks that are kept because other workers have not given them back.
    private static let maximumChunks = 256
    /// What waits to be forwarded in a turn fits in so many bytes, whatever the budget says.
    private static let minimumBytes = Encoding.maximumPending * EgressBatch.slotBytes
    /// What a history begins with: twice as much is taken each time that it isn't enough.
    private static let firstChunkBytes = 8 * 1024
    private static let firstPlaces = 64
    /// Chunks that are kept though all in them is past, so that none is made anew with each change of pace.
    private static let spareChunks = 3
    /// A slow stream has no more, and keeps small ones.
    private static let fewChunks = 4

    /// Packets in the window.
    let capacity: Int

    private var records: UnsafeMutablePointer<PacketRecord>
    /// Places in `records`: at most `capacity`, 1 while it is empty.
    private var places = 1
    private var mask: UInt64 = 0
    private let chunkBytes: Int
    private var nextChunkBytes: Int
    private let age: Duration
    private let budget: HistoryBudget?
    private var highest: UInt64 = 0
    /// The highest sequence number of `age` ago or somewhat before, and of a later time. All after the first one may be asked for.
    private var agedSequence: UInt64 = 0
    private var nextAged = (sequence: UInt64(0), at: Instant(nanoseconds: 0))
    /// Packets before this one are past, whatever lies in `records`.
    private var floor: UInt64 = 1
    /// The chunk that packets are put into now; nil before the first, and where chunks are borrowed.
    private var open: PacketChunk?
    private var openFilledAt = Instant(nanoseconds: 0)
    /// The others, the oldest first.
    private var chunks: ContiguousArray<Holding> = []
    /// Whether the budget had no more: whoever borrows chunks is to give them back soon.
    private(set) var isTight = false
    /// What was taken of the budget.
    private(set) var takenBytes = 0

    /// - Parameters:
    ///   - capacity: Packets kept; rounded up to a power of two.
    ///   - chunkBytes: Most bytes of memory that are taken at a time.
    ///   - age: A packet that came longer ago is not asked for any more.
    ///   - budget: What its memory is taken of.
    init(capacity: Int, chunkBytes: Int, age: Duration = .seconds(3600), budget: HistoryBudget? = nil) {
        var size = 16
        while size < capacity, size < 1 << 16 { size <<= 1 }
        self.capacity = size
        self.chunkBytes = chunkBytes
        nextChunkBytes = min(chunkBytes, Self.firstChunkBytes)
        self.age = age
        self.budget = budget
        records = .allocate(capacity: 1)
        records.initialize(to: PacketRecord())
    }

    deinit {
        for holding in chunks where holding.isBorrowed { holding.chunk.giveBack() }
        budget?.giveBack(takenBytes)
        records.deallocate()
    }

    /// The record of a packet, or nil when it is not (or no longer) here. The pointer is valid until the next packet comes.
    @inline(__always)
    func record(of sequence: UInt64) -> UnsafePointer<PacketRecord>? {
        let record = records + Int(sequence & mask)
        guard record.pointee.sequence == sequence, highest &- sequence < UInt64(capacity), sequence >= floor else {
            return nil
        }
        return UnsafePointer(record)
    }

    /// Whether no packet up to this one is in the window any more.
    func isPast(_ sequence: UInt64) -> Bool { sequence < floor || highest >= sequence &+ UInt64(places) }

    /// Forgets all packets, as nobody is there who might ask for them. None of them may be waiting.
    func removeAll() {
        guard places > 1 else { return }
        for holding in chunks where holding.isBorrowed { holding.chunk.giveBack() }
        chunks.removeAll()
        open = nil
        floor = highest + 1
        nextChunkBytes = min(chunkBytes, Self.firstChunkBytes)
        setPlaces(1)
        budget?.giveBack(takenBytes)
        takenBytes = 0
    }

    private func setPlaces(_ count: Int) {
        let before = UnsafeMutableBufferPointer(start: records, count: places)
        records = .allocate(capacity: count)
        records.initialize(repeating: PacketRecord(), count: count)
        places = count
        mask = UInt64(count - 1)
        if count > before.count {
            for record in before where record.sequence != 0 { records[Int(record.sequence & mask)] = record }
        }
        before.deallocate()
    }

    /// Makes room for a packet, and for all that may still be asked for or come late: also those that are missing.
    @inline(__always)
    private func makePlace(for record: PacketRecord) {
        guard places < capacity else { return }
        if places == 1 {
            let count = min(capacity, Self.firstPlaces)
            take(count * MemoryLayout<PacketRecord>.stride)
            setPlaces(count)
            agedSequence = record.sequence &- 1
            nextAged = (agedSequence, record.receivedAt)
        } else if record.receivedAt - nextAged.at >= age {
            agedSequence = nextAged.sequence
            nextAged = (highest, record.receivedAt)
        }
        let isNew = record.sequence > highest
        let needed = isNew ? record.sequence &- agedSequence : highest &- record.sequence
        var count = places
        while count < capacity, UInt64(count) <= needed { count *= 2 }
        guard count > places else { return }
        // What was past stays so: whether it came is not known any more.
        if isNew, highest >= UInt64(places) { floor = max(floor, highest - UInt64(places) + 1) }
        take((count - places) * MemoryLayout<PacketRecord>.stride)
        setPlaces(count)
    }

    private func take(_ byteCount: Int) {
        budget?.takeAnyhow(byteCount)
        takenBytes += byteCount
    }

    // MARK: At home

    /// Keeps a packet.
    ///
    /// - Parameter bytes: At most `chunkBytes`.
    /// - Returns: The chunk that it lies in now; nil when there is no room for it.
    func insert(_ record: PacketRecord, copying bytes: UnsafeRawBufferPointer) -> PacketChunk? {
        guard Int(record.payloadEnd) <= bytes.count else { return nil }
        let chunk = chunk(withRoomFor: bytes.count, now: record.receivedAt)
        var record = record
        record.bytes = chunk.append(bytes, sequence: record.sequence)
        guard record.bytes != nil else { return nil }
        openFilledAt = record.receivedAt
        insert(record)
        return chunk
    }

    private func chunk(withRoomFor byteCount: Int, now: Instant) -> PacketChunk {
        if let open {
            if open.hasRoom(for: byteCount) { return open }
            chunks.append(
                Holding(
                    chunk: open,
                    highestSequence: open.highestSequence,
                    filledAt: openFilledAt,
                    isBorrowed: false
                )
            )
        }
        let next = freeChunk(now: now)
        open = next
        return next
    }

    /// The oldest chunk, when all in it is past and nobody reads in it any more; else a new one.
    private func freeChunk(now: Instant) -> PacketChunk {
        // What a faster time left behind.
        while chunks.count > Self.spareChunks, isOver(chunks[Self.spareChunks], now: now), !chunks[0].chunk.isLent {
            removeOldest()
        }
        if let oldest = chunks.first, isOver(oldest, now: now) {
            if !oldest.chunk.isLent {
                // A fast stream's chunks become equally large, so that as many are past as are needed.
                if oldest.chunk.capacity >= nextChunkBytes || chunks.count <= Self.fewChunks { return reuseOldest() }
                removeOldest()
            }
            // A worker that is this far behind has it for itself, and frees it.
            if chunks.count >= Self.maximumChunks { removeOldest() }
        }
        let byteCount = nextChunkBytes
        if heldBytes < Self.minimumBytes {
            take(byteCount)
        } else if let budget {
            if budget.take(byteCount) {
                isTight = false
                takenBytes += byteCount
            } else {
                isTight = true
                if !chunks[0].chunk.isLent { return reuseOldest() }
                // Other workers give it back as soon as they hear of it. Until then it is not missed.
                take(byteCount)
            }
        }
        nextChunkBytes = min(chunkBytes, byteCount * 2)
        return PacketChunk(capacity: byteCount)
    }

    private var heldBytes: Int { chunks.reduce(0) { $0 + $1.chunk.capacity } }

    private func isOver(_ holding: Holding, now: Instant) -> Bool {
        isPast(holding.highestSequence) || now - holding.filledAt > age
    }

    private func reuseOldest() -> PacketChunk {
        let oldest = chunks.removeFirst()
        floor = max(floor, oldest.highestSequence + 1)
        oldest.chunk.removeAll()
        return oldest.chunk
    }

    private func removeOldest() {
        let oldest = chunks.removeFirst()
        floor = max(floor, oldest.highestSequence + 1)
        budget?.giveBack(oldest.chunk.capacity)
        takenBytes -= oldest.chunk.capacity
    }

    // MARK: Elsewhere

    /// Keeps a packet that lies in a borrowed chunk.
    func insert(_ record: PacketRecord) {
        makePlace(for: record)
        highest = max(highest, record.sequence)
        records[Int(record.sequence & mask)] = record
    }

    /// Takes over a loan of the chunk that packets up to this sequence number lie in, until they are past.
    ///
    /// - Parameter isTight: Whether the home is short of memory.
    func hold(_ chunk: PacketChunk, highestSequence: UInt64, isTight: Bool, now: Instant) {
        if let last = chunks.indices.last, chunks[last].chunk === chunk {
            chunks[last].highestSequence = max(chunks[last].highestSequence, highestSequence)
            chunks[last].filledAt = now
            chunk.giveBack()
        } else {
            chunks.append(Holding(chunk: chunk, highestSequence: highestSequence, filledAt: now, isBorrowed: true))
        }
        while chunks.count > 1, let oldest = chunks.first,
            isOver(oldest, now: now) || (isTight && heldBytes - oldest.chunk.capacity >= Self.minimumBytes)
        {
            floor = max(floor, oldest.highestSequence + 1)
            oldest.chunk.giveBack()
            chunks.removeFirst()
        }
    }
}
