/// What the load generator puts into a payload: enough codec framing to be taken for real, and a stamp by which a receiver
/// can tell what it got and how long that took.
///
/// Layout, integers big-endian: 16 bytes of codec framing, then magic (4), stream (2), packet's index in its frame (2), packets of
/// the frame (2), kind (1), reserved (1), frame number (4), sending time in monotonic nanoseconds (8), then bytes that follow
/// from stream, frame and index.
enum TestPicture {
    /// Offset of the stamp.
    private static let stampOffset = 16
    private static let contentOffset = stampOffset + 24
    private static let magic: UInt32 = 0x534C_5543
    /// Shortest payload.
    static let minimumBytes = contentOffset

    enum Kind: UInt8 {
        case audio = 0
        case deltaFrame = 1
        case keyframe = 2
    }

    struct Stamp {
        var kind: Kind
        var stream: UInt16
        var frame: UInt32
        var index: UInt16
        var count: UInt16
        /// Monotonic nanoseconds.
        var sentAt: UInt64
    }

    /// Fills a payload.
    ///
    /// - Parameter payload: At least `minimumBytes`.
    static func write(_ stamp: Stamp, codec: LoadPlan.VideoCodec, into payload: UnsafeMutableRawBufferPointer) {
        writeFraming(stamp, codec: codec, into: payload)
        var place = stampOffset
        func put<Value: FixedWidthInteger>(_ value: Value) {
            payload.storeBytes(of: value.bigEndian, toByteOffset: place, as: Value.self)
            place += MemoryLayout<Value>.size
        }
        put(magic)
        put(stamp.stream)
        put(stamp.index)
        put(stamp.count)
        put(stamp.kind.rawValue)
        put(UInt8(0))
        put(stamp.frame)
        put(stamp.sentAt)
        var content = Content(stamp)
        while place + 8 <= payload.count { put(content.next()) }
        while place < payload.count { put(UInt8(truncatingIfNeeded: content.next())) }
    }

    /// Reads a payload's stamp and checks all behind it.
    ///
    /// - Returns: Nil when anything is not what was sent.
    static func read(_ payload: UnsafeRawBufferPointer) -> Stamp? {
        guard payload.count >= minimumBytes else { return nil }
        var place = stampOffset
        func take<Value: FixedWidthInteger>(_ type: Value.Type) -> Value {
            defer { place += MemoryLayout<Value>.size }
            return Value(bigEndian: payload.loadUnaligned(fromByteOffset: place, as: Value.self))
        }
        guard take(UInt32.self) == magic else { return nil }
        let stream = take(UInt16.self)
        let index = take(UInt16.self)
        let count = take(UInt16.self)
        guard let kind = Kind(rawValue: take(UInt8.self)), take(UInt8.self) == 0 else { return nil }
        let frame = take(UInt32.self)
        let stamp = Stamp(
            kind: kind,
            stream: stream,
            frame: frame,
            index: index,
            count: count,
            sentAt: take(UInt64.self)
        )
        var content = Content(stamp)
        while place + 8 <= payload.count { guard take(UInt64.self) == content.next() else { return nil } }
        while place < payload.count {
            guard take(UInt8.self) == UInt8(truncatingIfNeeded: content.next()) else { return nil }
        }
        return stamp
    }

    private static func writeFraming(
        _ stamp: Stamp,
        codec: LoadPlan.VideoCodec,
        into payload: UnsafeMutableRawBufferPointer
    ) {
        for place in 0..<stampOffset { payload[place] = 0 }
        let isFirst = stamp.index == 0
        let isKeyframe = stamp.kind == .keyframe
        switch (stamp.kind, codec) {
        case (.audio, _):
            // RFC 6716 §3.1: a CELT frame of 20 ms, full band, stereo.
            payload[0] = 0xFC
        case (_, .vp8):
            // RFC 7741 §4.2 and RFC 6386 §9.1: S of the first packet, then the frame's tag and, of a keyframe, the start
            // code and a size of 640 by 360.
            payload[0] = isFirst ? 0x10 : 0x00
            guard isFirst else { return }
            payload[1] = isKeyframe ? 0x10 : 0x11
            guard isKeyframe else { return }
            let keyframe: [UInt8] = [0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01]
            for (place, byte) in keyframe.enumerated() { payload[4 + place] = byte }
        case (_, .h264):
            // RFC 6184 §5.8: FU-A, or a unit of its own when it is the frame's only packet.
            let type: UInt8 = isKeyframe ? 5 : 1
            if stamp.count == 1 {
                payload[0] = 0x60 | type
            } else {
                let isLast = stamp.index + 1 == stamp.count
                payload[0] = 0x7C
                payload[1] = (isFirst ? 0x80 : 0) | (isLast ? 0x40 : 0) | type
            }
        }
    }

    /// A stream of words that follows from a stamp (xorshift64).
    private struct Content {
        private var state: UInt64

        init(_ stamp: Stamp) {
            state = UInt64(stamp.stream) << 48 | UInt64(stamp.index) << 32 | UInt64(stamp.frame)
            state = (state &+ 1) &* 0x9E37_79B9_7F4A_7C15 | 1
        }

        mutating func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
    }
}
