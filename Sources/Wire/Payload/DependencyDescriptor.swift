/// The dependency descriptor header extension (RTP payload format for AV1 v1.0, appendix A): which layer a frame belongs
/// to and where a decoder can start, readable even when the payload is encrypted end to end.
public struct DependencyDescriptor: Sendable, Hashable {
    /// Layers of each frame dependency template, from the structure that a keyframe brings. Kept by whoever reads the
    /// descriptors that follow.
    public struct Structure: Sendable, Hashable {
        /// The template id of the first template, 0 to 63.
        public var firstTemplateID: UInt8
        /// Decode targets, 1 to 32.
        public var decodeTargetCount: UInt8
        /// Spatial and temporal layer of each template, at most 64.
        public var layers: [Layer]
    }

    public struct Layer: Sendable, Hashable, BitwiseCopyable {
        /// 0 to 3.
        public var spatial: UInt8
        /// 0 to 7.
        public var temporal: UInt8
    }

    public var startsFrame: Bool
    public var endsFrame: Bool
    /// 0 to 63.
    public var templateID: UInt8
    public var frameNumber: UInt16
    /// Present on the first packet of a keyframe.
    public var structure: Structure?

    /// Whether this packet begins a frame that a decoder can start with: one that brings the structure.
    public var startsKeyframe: Bool { startsFrame && structure != nil }

    /// The layer of this frame by the structure it brings, or else by `known`, the one that came before.
    public func layer(known: Structure?) -> Layer? {
        guard let structure = structure ?? known else { return nil }
        let index = Int((templateID &- structure.firstTemplateID) & 63)
        return index < structure.layers.count ? structure.layers[index] : nil
    }

    /// - Parameter value: The header extension's value.
    /// - Returns: Nil when it ends before what it announces.
    public init?(parsing value: RawSpan) {
        guard value.byteCount >= 3 else { return nil }
        let first = value.byte(at: 0)
        startsFrame = first & 0x80 != 0
        endsFrame = first & 0x40 != 0
        templateID = first & 0x3F
        frameNumber = value.uint16(at: 1)
        structure = nil
        guard value.byteCount > 3 else { return }

        var bits = BitReader(value, from: 3)
        guard let hasStructure = bits.read(1), bits.read(4) != nil else { return nil }
        if hasStructure == 1 {
            guard let structure = Self.readStructure(&bits) else { return nil }
            self.structure = structure
        }
    }

    /// A.8.3: template_dependency_structure up to its layers.
    private static func readStructure(_ bits: inout BitReader) -> Structure? {
        guard let first = bits.read(6), let targets = bits.read(5) else { return nil }
        var spatial: UInt8 = 0
        var temporal: UInt8 = 0
        var layers: [Layer] = []
        while layers.count < 64 {
            layers.append(Layer(spatial: spatial, temporal: temporal))
            guard let next = bits.read(2) else { return nil }
            switch next {
            case 0: break
            case 1: temporal += 1
            case 2:
                temporal = 0
                spatial += 1
            default:
                return Structure(
                    firstTemplateID: UInt8(first),
                    decodeTargetCount: UInt8(targets) + 1,
                    layers: layers
                )
            }
            guard spatial <= 3, temporal <= 7 else { return nil }
        }
        return nil
    }
}

/// Reads bits, the most significant first; nil at the end.
private struct BitReader: ~Escapable {
    private let bytes: RawSpan
    private var position: Int

    @_lifetime(copy bytes)
    init(_ bytes: RawSpan, from byteOffset: Int) {
        self.bytes = bytes
        position = byteOffset * 8
    }

    mutating func read(_ count: Int) -> UInt32? {
        guard position + count <= bytes.byteCount * 8 else { return nil }
        var value: UInt32 = 0
        for _ in 0..<count {
            let bit = bytes.byte(at: position >> 3) >> (7 - UInt8(position & 7)) & 1
            value = value << 1 | UInt32(bit)
            position += 1
        }
        return value
    }
}
