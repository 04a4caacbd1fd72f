import Wire

/// The numbers that a frame carries besides its packets': each encoding of a simulcast track counts its own.
struct FrameNumbers: BitwiseCopyable, Equatable {
    /// VP8 (RFC 7741 §4.2) and VP9 (RFC 9628 §4.2): 15 bits, or 7 of them; nil where the payload has none.
    var pictureID: UInt16?
    /// TL0PICIDX of both.
    var temporalLevelZeroIndex: UInt8?
    /// The dependency descriptor's.
    var frame: UInt16?

    init(pictureID: UInt16? = nil, temporalLevelZeroIndex: UInt8? = nil, frame: UInt16? = nil) {
        self.pictureID = pictureID
        self.temporalLevelZeroIndex = temporalLevelZeroIndex
        self.frame = frame
    }

    /// The numbers of the frame that a packet belongs to; nil when it is not kept.
    init?(of record: UnsafePointer<PacketRecord>, codec: Codec) {
        guard let bytes = record.pointee.bytes else { return nil }
        self.init()
        for index in 0..<Int(record.pointee.extensionCount) {
            let element = record.pointee.extensions[index]
            guard element.meaning == HeaderExtension.dependencyDescriptor.rawValue, element.length >= 3 else {
                continue
            }
            frame = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: Int(element.offset) + 1, as: UInt16.self))
        }
        let payload = UnsafeRawBufferPointer(
            start: bytes + Int(record.pointee.payloadOffset),
            count: record.pointee.payloadLength
        )
        let places = FrameNumberPlaces(in: payload, codec: codec)
        if let place = places.pictureID {
            pictureID =
                places.hasLongPictureID
                ? UInt16(payload[place] & 0x7F) << 8 | UInt16(payload[place + 1]) : UInt16(payload[place])
        }
        temporalLevelZeroIndex = places.temporalLevelZeroIndex.map { payload[$0] }
    }
}

/// What is added to the numbers of an encoding's frames, so that they go on where those of the encoding before ended.
struct FrameNumbering: BitwiseCopyable {
    private var pictureID: UInt16 = 0
    private var temporalLevelZeroIndex: UInt8 = 0
    /// Added to the dependency descriptor's frame number.
    private(set) var frame: UInt16 = 0

    init() {}

    /// - Parameters:
    ///   - numbers: Of the encoding's first frame.
    ///   - last: Of the last frame before, as the viewer has them.
    init(from numbers: FrameNumbers, continuing last: FrameNumbers) {
        if let before = last.pictureID, let first = numbers.pictureID { pictureID = before &+ 1 &- first }
        if let before = last.temporalLevelZeroIndex, let first = numbers.temporalLevelZeroIndex {
            temporalLevelZeroIndex = before &+ 1 &- first
        }
        if let before = last.frame, let first = numbers.frame { frame = before &+ 1 &- first }
    }

    /// Whether `apply` would change anything.
    var changesPayloads: Bool { pictureID != 0 || temporalLevelZeroIndex != 0 }

    /// A frame's numbers as the viewer has them.
    func applied(to numbers: FrameNumbers) -> FrameNumbers {
        FrameNumbers(
            pictureID: numbers.pictureID.map { ($0 &+ pictureID) & 0x7FFF },
            temporalLevelZeroIndex: numbers.temporalLevelZeroIndex.map { $0 &+ temporalLevelZeroIndex },
            frame: numbers.frame.map { $0 &+ frame }
        )
    }

    /// Rewrites a payload's descriptor.
    func apply(to payload: UnsafeMutableRawBufferPointer, codec: Codec) {
        let places = FrameNumberPlaces(in: UnsafeRawBufferPointer(payload), codec: codec)
        if let place = places.pictureID {
            if places.hasLongPictureID {
                let number = UInt16(payload[place] & 0x7F) << 8 | UInt16(payload[place + 1])
                let changed = number &+ pictureID
                payload[place] = 0x80 | UInt8(truncatingIfNeeded: changed >> 8)
                payload[place + 1] = UInt8(truncatingIfNeeded: changed)
            } else {
                payload[place] = (payload[place] &+ UInt8(truncatingIfNeeded: pictureID)) & 0x7F
            }
        }
        if let place = places.temporalLevelZeroIndex { payload[place] &+= temporalLevelZeroIndex }
    }
}

/// Where a VP8 or VP9 payload has its frame's numbers. The places that are there lie within it.
private struct FrameNumberPlaces {
    var pictureID: Int?
    var hasLongPictureID = false
    var temporalLevelZeroIndex: Int?

    init(in payload: UnsafeRawBufferPointer, codec: Codec) {
        guard let first = payload.first else { return }
        var offset = 1
        switch codec {
        case .vp8:
            // X, then I and L.
            guard first & 0x80 != 0, payload.count > 1 else { return }
            let flags = payload[1]
            offset = 2
            if flags & 0x80 != 0 { notePictureID(in: payload, at: &offset) }
            if flags & 0x40 != 0 { noteIndex(in: payload, at: offset) }
        case .vp9:
            // I, L and F.
            if first & 0x80 != 0 { notePictureID(in: payload, at: &offset) }
            if first & 0x20 != 0, first & 0x10 == 0 { noteIndex(in: payload, at: offset + 1) }
        default: return
        }
    }

    private mutating func notePictureID(in payload: UnsafeRawBufferPointer, at offset: inout Int) {
        guard offset < payload.count else { return }
        let isLong = payload[offset] & 0x80 != 0
        guard !isLong || offset + 1 < payload.count else {
            offset = payload.count
            return
        }
        pictureID = offset
        hasLongPictureID = isLong
        offset += isLong ? 2 : 1
    }

    private mutating func noteIndex(in payload: UnsafeRawBufferPointer, at offset: Int) {
        if offset < payload.count { temporalLevelZeroIndex = offset }
    }
}
