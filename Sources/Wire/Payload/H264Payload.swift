/// What an H.264 RTP payload (RFC 6184 §5) begins.
public struct H264Payload: Sendable, BitwiseCopyable, Hashable {
    private enum UnitType {
        /// Slices and their partitions, an IDR picture's among them.
        static let slices: ClosedRange<UInt8> = 1...5
        static let sliceIDR: UInt8 = 5
        static let sequenceParameterSet: UInt8 = 7
        static let aggregation: UInt8 = 24
        static let fragment: UInt8 = 28
    }

    /// Whether a sequence parameter set is in the packet.
    public private(set) var hasParameterSet = false
    /// Whether a slice of an IDR picture begins in the packet.
    public private(set) var startsIDR = false

    /// Whether a slice begins in the packet.
    public private(set) var startsSlice = false
    /// Whether it has slices that no other picture refers to (`nal_ref_idc` is 0), and nothing else.
    public private(set) var isDiscardable = false

    /// Whether a decoder can start with this packet. Encoders send the parameter sets before each IDR picture, so a packet
    /// that carries them begins the keyframe; one that begins an IDR slice without them continues it or, when the
    /// parameter sets travel in the SDP, begins it.
    public var startsKeyframe: Bool { hasParameterSet || startsIDR }

    /// - Returns: Nil when a length reaches beyond the payload's end.
    public init?(parsing payload: RawSpan) {
        guard payload.byteCount >= 1 else { return nil }
        let type = payload.byte(at: 0) & 0x1F
        switch type {
        case 1...23:
            note(type)
            isDiscardable = UnitType.slices.contains(type) && payload.byte(at: 0) & 0x60 == 0
        case UnitType.aggregation:
            // STAP-A (§5.7.1): each unit behind its length.
            var offset = 1
            // The header has the highest `nal_ref_idc` of them.
            isDiscardable = payload.byte(at: 0) & 0x60 == 0
            while offset < payload.byteCount {
                guard offset + 2 <= payload.byteCount else { return nil }
                let length = Int(payload.uint16(at: offset))
                guard length > 0, offset + 2 + length <= payload.byteCount else { return nil }
                note(payload.byte(at: offset + 2) & 0x1F)
                offset += 2 + length
            }
            if !startsSlice { isDiscardable = false }
        case UnitType.fragment:
            // FU-A (§5.8): only the fragment with the S bit begins its unit.
            guard payload.byteCount >= 2 else { return nil }
            let header = payload.byte(at: 1)
            isDiscardable = UnitType.slices.contains(header & 0x1F) && payload.byte(at: 0) & 0x60 == 0
            if header & 0x80 != 0 { note(header & 0x1F) }
        default:
            break
        }
    }

    private mutating func note(_ type: UInt8) {
        if type == UnitType.sequenceParameterSet { hasParameterSet = true }
        if type == UnitType.sliceIDR { startsIDR = true }
        if UnitType.slices.contains(type) { startsSlice = true }
    }
}
