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
    init?(of record: UnsafePointer<PacketRecord>) {
        guard let bytes = record.pointee.bytes else { return nil }
        self.init()
        if let place = record.pointee.place(of: .dependencyDescriptor), place.count >= 3 {
            frame = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: place.lowerBound + 1, as: UInt16.self))
        }
        let layer = record.pointee.layer
        let payload = bytes + Int(record.pointee.payloadOffset)
        if layer.pictureIDOffset > 0 {
            let place = payload + Int(layer.pictureIDOffset)
            let first = UInt16(place.load(as: UInt8.self) & 0x7F)
            pictureID =
                layer.flags.contains(.hasLongPictureID)
                ? first << 8 | UInt16(place.load(fromByteOffset: 1, as: UInt8.self)) : first
        }
        if layer.temporalLevelZeroIndexOffset > 0 {
            temporalLevelZeroIndex = payload.load(
                fromByteOffset: Int(layer.temporalLevelZeroIndexOffset),
                as: UInt8.self
            )
        }
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

    /// A picture is left out, and the next one is to have its number. TL0PICIDX counts frames that are always sent.
    mutating func leaveOutPicture() { pictureID &-= 1 }

    /// A frame's numbers as the viewer has them.
    func applied(to numbers: FrameNumbers) -> FrameNumbers {
        FrameNumbers(
            pictureID: numbers.pictureID.map { ($0 &+ pictureID) & 0x7FFF },
            temporalLevelZeroIndex: numbers.temporalLevelZeroIndex.map { $0 &+ temporalLevelZeroIndex },
            frame: numbers.frame.map { $0 &+ frame }
        )
    }

    /// Rewrites a payload's descriptor.
    ///
    /// - Parameters:
    ///   - payload: The whole of it, or nothing where only the packet's number is sent.
    ///   - layer: What was parsed of this payload.
    func apply(to payload: UnsafeMutableRawBufferPointer, layer: LayerInfo) {
        guard !payload.isEmpty else { return }
        let place = Int(layer.pictureIDOffset)
        if place > 0 {
            if layer.flags.contains(.hasLongPictureID) {
                let number = UInt16(payload[place] & 0x7F) << 8 | UInt16(payload[place + 1])
                let changed = number &+ pictureID
                payload[place] = 0x80 | UInt8(truncatingIfNeeded: changed >> 8)
                payload[place + 1] = UInt8(truncatingIfNeeded: changed)
            } else {
                payload[place] = (payload[place] &+ UInt8(truncatingIfNeeded: pictureID)) & 0x7F
            }
        }
        let index = Int(layer.temporalLevelZeroIndexOffset)
        if index > 0 { payload[index] &+= temporalLevelZeroIndex }
    }
}
