/// The VP8 payload descriptor (RFC 7741 §4.2) and the first bit of the payload header (§4.3).
public struct VP8Descriptor: Sendable, BitwiseCopyable, Hashable {
    /// Whether no other frame refers to this one.
    public var isNonReference: Bool
    /// Whether this packet begins a partition.
    public var startsPartition: Bool
    /// 0 to 7; 0 begins a frame when `startsPartition` is set.
    public var partitionIndex: UInt8
    /// 7 or 15 bits; nil when absent.
    public var pictureID: UInt16?
    /// Whether the picture ID is of 15 bits.
    public var hasLongPictureID: Bool
    public var temporalLevelZeroIndex: UInt8?
    /// Where the two lie in the payload; 0 where they are absent.
    public var pictureIDOffset: UInt8 = 0
    public var temporalLevelZeroIndexOffset: UInt8 = 0
    /// 0 to 3; nil when absent.
    public var temporalLayer: UInt8?
    /// Whether a decoder may switch up to this layer here.
    public var isLayerSync: Bool
    /// 0 to 31; nil when absent.
    public var keyIndex: UInt8?
    /// The descriptor's length in bytes.
    public var length: Int
    /// Whether this packet begins a keyframe.
    public var startsKeyframe: Bool

    /// - Returns: Nil when the payload ends before the descriptor or holds nothing behind it.
    public init?(parsing payload: RawSpan) {
        var reader = PayloadReader(payload)
        guard let first = reader.byte() else { return nil }
        isNonReference = first & 0x20 != 0
        startsPartition = first & 0x10 != 0
        partitionIndex = first & 0x07
        pictureID = nil
        hasLongPictureID = false
        temporalLevelZeroIndex = nil
        temporalLayer = nil
        isLayerSync = false
        keyIndex = nil

        if first & 0x80 != 0 {
            guard let flags = reader.byte() else { return nil }
            if flags & 0x80 != 0 {
                pictureIDOffset = UInt8(truncatingIfNeeded: reader.offset)
                guard let (value, isLong) = reader.pictureID() else { return nil }
                pictureID = value
                hasLongPictureID = isLong
            }
            if flags & 0x40 != 0 {
                temporalLevelZeroIndexOffset = UInt8(truncatingIfNeeded: reader.offset)
                guard let index = reader.byte() else { return nil }
                temporalLevelZeroIndex = index
            }
            if flags & 0x30 != 0 {
                guard let layers = reader.byte() else { return nil }
                if flags & 0x20 != 0 {
                    temporalLayer = layers >> 6
                    isLayerSync = layers & 0x20 != 0
                }
                if flags & 0x10 != 0 { keyIndex = layers & 0x1F }
            }
        }
        length = reader.offset
        guard let header = reader.byte() else { return nil }
        // RFC 7741 §4.3: P, the lowest bit, is 0 for a keyframe.
        startsKeyframe = startsPartition && partitionIndex == 0 && header & 1 == 0
    }
}
