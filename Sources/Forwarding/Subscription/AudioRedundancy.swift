import Wire

/// Carries audio frames once more in the packets that follow them (RFC 2198), for viewers who lose packets: nobody has to ask for what is
/// lost, and wait for it.
struct AudioRedundancy {
    /// A packet carries the frames of so many before it: of one packet in ten lost at random, one frame in a thousand is missed then.
    static let depth = 2
    /// Longest payload in bytes that is made: with all headers it fits any path.
    private static let maximumPayloadBytes = 1100

    let header: OutgoingHeader
    /// The frames' payload type.
    let payloadType: UInt8

    /// Writes the payload of a packet with the frames of those before it.
    ///
    /// - Parameters:
    ///   - record: The packet. Its bytes and those before it are in `history`.
    ///   - first: The viewer was sent none before this one.
    ///   - target: Has room for `maximumPayloadBytes`.
    /// - Returns: The payload's length; 0 where no frame before it can be carried, and nothing was written.
    func writePayload(
        of record: UnsafePointer<PacketRecord>,
        after first: UInt64,
        in history: PacketHistory,
        to target: UnsafeMutableRawPointer
    ) -> Int {
        guard let bytes = record.pointee.bytes, record.pointee.payloadLength > 0 else { return 0 }
        var total = RedundantAudio.lastHeaderBytes + record.pointee.payloadLength
        var earlier = InlineArray<2, UnsafePointer<PacketRecord>?>(repeating: nil)
        var cursor = target
        for back in 1...Self.depth {
            guard let frame = self.earlier(back, than: record, after: first, in: history) else { continue }
            let length = RedundantAudio.headerBytes + frame.pointee.payloadLength
            guard total + length <= Self.maximumPayloadBytes else { break }
            total += length
            earlier[back - 1] = frame
        }
        // The oldest goes first.
        for place in stride(from: Self.depth - 1, through: 0, by: -1) {
            guard let frame = earlier[place], let header = self.frameHeader(of: frame, in: record) else { continue }
            cursor.storeBytes(of: header.bigEndian, as: UInt32.self)
            cursor += RedundantAudio.headerBytes
        }
        guard cursor != target else { return 0 }
        cursor.storeBytes(of: RedundantAudio.lastHeader(payloadType: payloadType), as: UInt8.self)
        cursor += RedundantAudio.lastHeaderBytes
        for place in stride(from: Self.depth - 1, through: 0, by: -1) {
            guard let frame = earlier[place], let bytes = frame.pointee.bytes else { continue }
            cursor.copyMemory(from: bytes + Int(frame.pointee.payloadOffset), byteCount: frame.pointee.payloadLength)
            cursor += frame.pointee.payloadLength
        }
        cursor.copyMemory(from: bytes + Int(record.pointee.payloadOffset), byteCount: record.pointee.payloadLength)
        return total
    }

    /// A packet before another one, where its frame can be carried.
    private func earlier(
        _ back: Int,
        than record: UnsafePointer<PacketRecord>,
        after first: UInt64,
        in history: PacketHistory
    ) -> UnsafePointer<PacketRecord>? {
        let sequence = record.pointee.sequence &- UInt64(back)
        guard sequence >= first, sequence < record.pointee.sequence, let frame = history.record(of: sequence),
            frame.pointee.bytes != nil, frameHeader(of: frame, in: record) != nil
        else { return nil }
        return frame
    }

    private func frameHeader(of frame: UnsafePointer<PacketRecord>, in record: UnsafePointer<PacketRecord>) -> UInt32? {
        RedundantAudio.header(
            payloadType: payloadType,
            timestampOffset: record.pointee.timestamp &- frame.pointee.timestamp,
            byteCount: frame.pointee.payloadLength
        )
    }
}
