/// What an RTP payload says of its frame, and of the layer that this frame belongs to: parsed once a packet, for selection, rewriting
/// and statistics.
public struct LayerInfo: Sendable, BitwiseCopyable, Hashable {
    public struct Flags: OptionSet, Sendable, BitwiseCopyable, Hashable {
        public let rawValue: UInt8

        @inlinable
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// A frame of its layer begins here.
        public static let startsFrame = Flags(rawValue: 1)
        /// A frame of its layer ends here.
        public static let endsFrame = Flags(rawValue: 2)
        /// A decoder that has seen nothing yet can start here.
        public static let startsKeyframe = Flags(rawValue: 4)
        /// A decoder that has not seen the frame's temporal layer so far may go on with it from this frame on.
        public static let isSwitchPoint = Flags(rawValue: 8)
        /// The picture ID has 15 bits, not 7.
        public static let hasLongPictureID = Flags(rawValue: 16)
        /// The payload goes on with what the packet before began, and says nothing of its layer: it is that packet's.
        public static let isContinuation = Flags(rawValue: 32)
    }

    /// 0 is the lowest. Up to 7 (VP9), where the payload says.
    public var spatial: UInt8 = 0
    /// 0 is the lowest. Up to 7; of H.264, which has no layers, 1 is a frame that no other refers to.
    public var temporal: UInt8 = 0
    public var flags: Flags = []
    /// Where the picture ID of VP8 or VP9 lies in the payload; 0 where it has none.
    public var pictureIDOffset: UInt8 = 0
    /// Where TL0PICIDX of VP8 or VP9 lies in the payload; 0 where it has none.
    public var temporalLevelZeroIndexOffset: UInt8 = 0

    public init() {}

    /// A payload that can't be parsed starts nothing, and is of the lowest layer.
    ///
    /// - Parameter marker: The packet's marker bit: of video it ends a picture.
    public init(parsing payload: RawSpan, codec: Codec, marker: Bool) {
        switch codec {
        case .opus: flags = [.startsFrame, .endsFrame, .startsKeyframe, .isSwitchPoint]
        case .vp8: if let descriptor = VP8Descriptor(parsing: payload) { take(descriptor) }
        case .vp9: if let descriptor = VP9Descriptor(parsing: payload) { take(descriptor) }
        case .h264: if let unit = H264Payload(parsing: payload) { take(unit) }
        case .h265: if let unit = H265Payload(parsing: payload) { take(unit) }
        case .av1: if let header = AV1AggregationHeader(parsing: payload) { take(header) }
        }
        if marker, codec != .vp9, codec != .opus { flags.insert(.endsFrame) }
    }

    @inlinable
    public var startsKeyframe: Bool { flags.contains(.startsKeyframe) }

    private mutating func take(_ descriptor: VP8Descriptor) {
        temporal = descriptor.temporalLayer ?? 0
        if descriptor.startsPartition, descriptor.partitionIndex == 0 { flags.insert(.startsFrame) }
        if descriptor.startsKeyframe { flags.insert(.startsKeyframe) }
        if descriptor.isLayerSync || temporal == 0 { flags.insert(.isSwitchPoint) }
        if descriptor.hasLongPictureID { flags.insert(.hasLongPictureID) }
        pictureIDOffset = descriptor.pictureIDOffset
        temporalLevelZeroIndexOffset = descriptor.temporalLevelZeroIndexOffset
    }

    private mutating func take(_ descriptor: VP9Descriptor) {
        spatial = descriptor.spatialLayer ?? 0
        temporal = descriptor.temporalLayer ?? 0
        if descriptor.startsFrame { flags.insert(.startsFrame) }
        if descriptor.endsFrame { flags.insert(.endsFrame) }
        if descriptor.startsKeyframe { flags.insert(.startsKeyframe) }
        if descriptor.isSwitchingUpPoint || temporal == 0 { flags.insert(.isSwitchPoint) }
        if descriptor.hasLongPictureID { flags.insert(.hasLongPictureID) }
        pictureIDOffset = descriptor.pictureIDOffset
        temporalLevelZeroIndexOffset = descriptor.temporalLevelZeroIndexOffset
    }

    private mutating func take(_ unit: H264Payload) {
        temporal = unit.isDiscardable ? 1 : 0
        flags.insert(.isSwitchPoint)
        if unit.startsSlice { flags.insert(.startsFrame) }
        if unit.startsKeyframe { flags.formUnion([.startsKeyframe, .startsFrame]) }
    }

    private mutating func take(_ unit: H265Payload) {
        temporal = unit.temporalLayer
        if unit.startsSlice { flags.insert(.startsFrame) }
        if unit.startsKeyframe { flags.formUnion([.startsKeyframe, .startsFrame]) }
        if unit.isSwitchPoint || temporal == 0 { flags.insert(.isSwitchPoint) }
    }

    private mutating func take(_ header: AV1AggregationHeader) {
        spatial = header.spatialLayer
        temporal = header.temporalLayer
        if header.continuesElement {
            flags.insert(.isContinuation)
        } else {
            // Scalability modes of WebRTC have frames refer to lower temporal layers only.
            flags.formUnion([.startsFrame, .isSwitchPoint])
        }
        // Each layer's frame is packetized by itself, and is one OBU but for what goes before it.
        if !header.lastElementContinues { flags.insert(.endsFrame) }
        if header.startsKeyframe { flags.insert(.startsKeyframe) }
    }
}
