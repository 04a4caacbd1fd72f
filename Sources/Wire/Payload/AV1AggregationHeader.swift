/// The aggregation header of an AV1 RTP payload (RTP payload format for AV1 v1.0 §4.4).
public struct AV1AggregationHeader: Sendable, BitwiseCopyable, Hashable {
    /// Z: the first OBU element continues one of the packet before.
    public var continuesElement: Bool
    /// Y: the last OBU element goes on in the next packet.
    public var lastElementContinues: Bool
    /// W: OBU elements in the packet; 0 when each has its own length.
    public var elementCount: UInt8
    /// N: the packet begins a coded video sequence.
    public var startsCodedVideoSequence: Bool
    /// Whether the first OBU that begins in the packet is a sequence header.
    public var beginsWithSequenceHeader: Bool
    /// The layer that this OBU says it is of, 0 to 3 and 0 to 7; 0 where it says nothing.
    public var spatialLayer: UInt8 = 0
    public var temporalLayer: UInt8 = 0
    /// Whether it is the frame of a keyframe, without a sequence header before it in the packet.
    public var beginsWithBareKeyframe: Bool

    /// Whether a decoder can start with this packet: one that has the sequence header already can with a bare keyframe as well.
    public var startsKeyframe: Bool { startsCodedVideoSequence || (!continuesElement && beginsWithSequenceHeader) }

    /// - Returns: Nil when the payload is empty.
    public init?(parsing payload: RawSpan) {
        var reader = PayloadReader(payload)
        guard let first = reader.byte(), reader.remaining > 0 else { return nil }
        continuesElement = first & 0x80 != 0
        lastElementContinues = first & 0x40 != 0
        elementCount = first >> 4 & 0x03
        startsCodedVideoSequence = first & 0x08 != 0
        beginsWithSequenceHeader = false
        beginsWithBareKeyframe = false
        // N says the same, but not every sender sets it.
        guard !continuesElement else { return }
        if elementCount != 1 {
            // The first element's length, LEB128 of at most 8 bytes.
            var lengthBytes = 0
            while let byte = reader.byte(), byte & 0x80 != 0 {
                lengthBytes += 1
                if lengthBytes == 8 { return }
            }
        }
        guard var obu = reader.byte() else { return }
        var type = obu >> 3 & 0x0F
        // A temporal delimiter should not be sent, and some senders do (§5): look behind an empty one.
        if type == 2, obu & 0x02 == 0, elementCount != 1, reader.byte() != nil, let next = reader.byte() {
            obu = next
            type = obu >> 3 & 0x0F
        }
        beginsWithSequenceHeader = type == 1
        // AV1 §5.3.3.
        if obu & 0x04 != 0 {
            guard let layers = reader.byte() else { return }
            temporalLayer = layers >> 5
            spatialLayer = layers >> 3 & 0x03
        }
        guard type == 3 || type == 6 else { return }
        // A frame header or a frame (AV1 §5.9.2), behind its size where it has one. Its first bits: whether it shows a frame of before,
        // and the frame's type, of which 0 is a keyframe.
        if obu & 0x02 != 0 {
            var sizeBytes = 1
            while let byte = reader.byte(), byte & 0x80 != 0 {
                sizeBytes += 1
                if sizeBytes > 8 { return }
            }
        }
        if let header = reader.byte() { beginsWithBareKeyframe = header & 0xE0 == 0 }
    }
}
