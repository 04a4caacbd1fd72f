/// What an H.265 RTP payload (RFC 7798 §4.4) begins.
public struct H265Payload: Sendable, BitwiseCopyable, Hashable {
    private enum UnitType {
        /// Slices of all kinds of pictures.
        static let slices: ClosedRange<UInt8> = 0...31
        /// TSA and STSA pictures: a decoder may go up to their temporal layer (H.265 §7.4.2.2).
        static let switchPoints: ClosedRange<UInt8> = 2...5
        /// BLA, IDR and CRA pictures, with which a decoder can start.
        static let randomAccess: ClosedRange<UInt8> = 16...21
        static let videoParameterSet: UInt8 = 32
        static let sequenceParameterSet: UInt8 = 33
        static let aggregation: UInt8 = 48
        static let fragment: UInt8 = 49
    }

    /// Whether a video or sequence parameter set is in the packet.
    public private(set) var hasParameterSet = false
    /// Whether a slice of a random access picture begins in the packet.
    public private(set) var startsRandomAccess = false
    /// Whether a slice begins in the packet.
    public private(set) var startsSlice = false
    /// Whether a decoder may go up to the packet's temporal layer here.
    public private(set) var isSwitchPoint = false
    /// The lowest temporal layer of the units in the packet, 0 to 6.
    public private(set) var temporalLayer: UInt8 = 0

    /// Whether a decoder can start with this packet.
    public var startsKeyframe: Bool { hasParameterSet || startsRandomAccess }

    /// - Returns: Nil when a length reaches beyond the payload's end.
    public init?(parsing payload: RawSpan) {
        guard payload.byteCount >= 2 else { return nil }
        let type = payload.byte(at: 0) >> 1 & 0x3F
        let temporalID = payload.byte(at: 1) & 0x07
        temporalLayer = temporalID > 0 ? temporalID - 1 : 0
        switch type {
        case UnitType.aggregation:
            var offset = 2
            while offset < payload.byteCount {
                guard offset + 2 <= payload.byteCount else { return nil }
                let length = Int(payload.uint16(at: offset))
                guard length >= 2, offset + 2 + length <= payload.byteCount else { return nil }
                note(payload.byte(at: offset + 2) >> 1 & 0x3F)
                offset += 2 + length
            }
        case UnitType.fragment:
            guard payload.byteCount >= 3 else { return nil }
            let header = payload.byte(at: 2)
            if header & 0x80 != 0 { note(header & 0x3F) }
        default:
            note(type)
        }
    }

    private mutating func note(_ type: UInt8) {
        if type == UnitType.videoParameterSet || type == UnitType.sequenceParameterSet { hasParameterSet = true }
        if UnitType.randomAccess.contains(type) { startsRandomAccess = true }
        if UnitType.slices.contains(type) { startsSlice = true }
        if UnitType.switchPoints.contains(type) { isSwitchPoint = true }
    }
}
