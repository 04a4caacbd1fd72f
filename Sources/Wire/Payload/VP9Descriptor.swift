/// The VP9 payload descriptor (RFC 9628 §4.2).
public struct VP9Descriptor: Sendable, BitwiseCopyable, Hashable {
    /// Whether the frame is predicted from earlier pictures (P).
    public var isInterPicturePredicted: Bool
    /// Flexible mode (F).
    public var isFlexible: Bool
    /// Whether this packet begins a frame of its layer (B).
    public var startsFrame: Bool
    /// Whether this packet ends a frame of its layer (E).
    public var endsFrame: Bool
    /// Whether no higher spatial layer of the picture refers to this frame (Z).
    public var isNotReferredToBySpatialLayers: Bool
    /// 7 or 15 bits; nil when absent.
    public var pictureID: UInt16?
    public var hasLongPictureID: Bool
    /// 0 to 7; nil when absent.
    public var temporalLayer: UInt8?
    /// 0 to 7; nil when absent.
    public var spatialLayer: UInt8?
    /// Whether a decoder may switch up to this temporal layer here (U).
    public var isSwitchingUpPoint: Bool
    /// Whether the frame depends on the lower spatial layer of its picture (D).
    public var dependsOnLowerSpatialLayer: Bool
    public var temporalLevelZeroIndex: UInt8?
    /// Where the picture ID and that index lie in the payload; 0 where they are absent.
    public var pictureIDOffset: UInt8 = 0
    public var temporalLevelZeroIndexOffset: UInt8 = 0
    /// Width and height of each spatial layer, when the scalability structure tells them: the highest layer's.
    public var resolution: Resolution?
    /// The number of spatial layers, 1 to 8, when the scalability structure is there.
    public var spatialLayerCount: UInt8?
    /// The descriptor's length in bytes.
    public var length: Int

    public struct Resolution: Sendable, BitwiseCopyable, Hashable {
        public var width: UInt16
        public var height: UInt16
    }

    /// Whether this packet begins a picture that a decoder can start with.
    public var startsKeyframe: Bool {
        !isInterPicturePredicted && startsFrame && (spatialLayer ?? 0) == 0
    }

    /// - Returns: Nil when the payload ends before the descriptor or holds nothing behind it.
    public init?(parsing payload: RawSpan) {
        var reader = PayloadReader(payload)
        guard let first = reader.byte() else { return nil }
        isInterPicturePredicted = first & 0x40 != 0
        isFlexible = first & 0x10 != 0
        startsFrame = first & 0x08 != 0
        endsFrame = first & 0x04 != 0
        isNotReferredToBySpatialLayers = first & 0x01 != 0
        pictureID = nil
        hasLongPictureID = false
        temporalLayer = nil
        spatialLayer = nil
        isSwitchingUpPoint = false
        dependsOnLowerSpatialLayer = false
        temporalLevelZeroIndex = nil
        resolution = nil
        spatialLayerCount = nil
        length = 0

        if first & 0x80 != 0 {
            pictureIDOffset = UInt8(truncatingIfNeeded: reader.offset)
            guard let (value, isLong) = reader.pictureID() else { return nil }
            pictureID = value
            hasLongPictureID = isLong
        }
        if first & 0x20 != 0 {
            guard let layers = reader.byte() else { return nil }
            temporalLayer = layers >> 5
            isSwitchingUpPoint = layers & 0x10 != 0
            spatialLayer = layers >> 1 & 0x07
            dependsOnLowerSpatialLayer = layers & 0x01 != 0
            if !isFlexible {
                temporalLevelZeroIndexOffset = UInt8(truncatingIfNeeded: reader.offset)
                guard let index = reader.byte() else { return nil }
                temporalLevelZeroIndex = index
            }
        }
        if isFlexible, isInterPicturePredicted {
            // At most three reference indices; the lowest bit says whether another follows.
            var count = 0
            while count < 3 {
                guard let reference = reader.byte() else { return nil }
                count += 1
                if reference & 1 == 0 { break }
            }
        }
        if first & 0x02 != 0 {
            guard readStructure(&reader) else { return nil }
        }
        length = reader.offset
        guard reader.remaining > 0 else { return nil }
    }

    /// The scalability structure (RFC 9628 §4.2.1).
    private mutating func readStructure(_ reader: inout PayloadReader) -> Bool {
        guard let flags = reader.byte() else { return false }
        let layers = flags >> 5 + 1
        spatialLayerCount = layers
        if flags & 0x10 != 0 {
            for _ in 0..<layers {
                guard let width = reader.uint16(), let height = reader.uint16() else { return false }
                resolution = Resolution(width: width, height: height)
            }
        }
        if flags & 0x08 != 0 {
            guard let pictures = reader.byte() else { return false }
            for _ in 0..<pictures {
                guard let picture = reader.byte(), reader.skip(Int(picture >> 2 & 0x03)) else { return false }
            }
        }
        return true
    }
}
