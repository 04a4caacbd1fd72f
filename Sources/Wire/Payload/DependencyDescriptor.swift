/// The dependency descriptor header extension (RTP payload format for AV1 v1.0, appendix A): which layer a frame belongs
/// to and where a decoder can start, readable even when the payload is encrypted end to end.
public struct DependencyDescriptor: Sendable, Hashable {
    /// The frame dependency templates, from the structure that a keyframe brings. Kept by whoever reads the descriptors that follow.
    public struct Structure: Sendable, Hashable {
        /// The template id of the first template, 0 to 63.
        public var firstTemplateID: UInt8
        /// Decode targets, 1 to 32.
        public var decodeTargetCount: UInt8
        /// At most 64.
        public var templates: [Template]

        /// The template of this id; nil where there is none.
        public func template(_ id: UInt8) -> Template? {
            let index = Int((id &- firstTemplateID) & 63)
            return index < templates.count ? templates[index] : nil
        }
    }

    public struct Template: Sendable, Hashable, BitwiseCopyable {
        /// 0 to 3.
        public var spatial: UInt8
        /// 0 to 7.
        public var temporal: UInt8
        /// Two bits for each decode target, the first in the lowest ones.
        var indications: UInt64 = 0
        /// Whether a decoder may go up to the template's layer with its frames.
        public fileprivate(set) var isSwitchPoint = false

        func indication(for target: Int) -> Indication {
            Indication(rawValue: UInt8(truncatingIfNeeded: indications >> UInt64(2 * target) & 3)) ?? .notPresent
        }
    }

    /// What a frame is to a decode target (A.8.3).
    enum Indication: UInt8 {
        case notPresent
        case discardable
        case switchPoint
        case required
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
    public func template(known: Structure?) -> Template? { (structure ?? known)?.template(templateID) }

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

    /// A.8.3: template_dependency_structure up to its indications.
    private static func readStructure(_ bits: inout BitReader) -> Structure? {
        guard let first = bits.read(6), let targets = bits.read(5) else { return nil }
        guard var templates = readLayers(&bits) else { return nil }
        let targetCount = Int(targets) + 1
        for index in templates.indices {
            for target in 0..<targetCount {
                guard let indication = bits.read(2) else { return nil }
                templates[index].indications |= UInt64(indication) << UInt64(2 * target)
            }
        }
        markSwitchPoints(&templates, targetCount: targetCount)
        return Structure(
            firstTemplateID: UInt8(first),
            decodeTargetCount: UInt8(targetCount),
            templates: templates
        )
    }

    /// Of each layer that is the highest of a decode target, the frames with which a decoder may go up to it.
    private static func markSwitchPoints(_ templates: inout [Template], targetCount: Int) {
        for target in 0..<targetCount {
            var spatial: UInt8 = 0
            var temporal: UInt8 = 0
            for template in templates where template.indication(for: target) != .notPresent {
                spatial = max(spatial, template.spatial)
                temporal = max(temporal, template.temporal)
            }
            for index in templates.indices
            where templates[index].spatial == spatial && templates[index].temporal == temporal {
                templates[index].isSwitchPoint = templates[index].indication(for: target) == .switchPoint
            }
        }
    }

    private static func readLayers(_ bits: inout BitReader) -> [Template]? {
        var spatial: UInt8 = 0
        var temporal: UInt8 = 0
        var templates: [Template] = []
        while templates.count < 64 {
            templates.append(Template(spatial: spatial, temporal: temporal))
            guard let next = bits.read(2) else { return nil }
            switch next {
            case 0: break
            case 1: temporal += 1
            case 2:
                temporal = 0
                spatial += 1
            default: return templates
            }
            guard spatial <= 3, temporal <= 7 else { return nil }
        }
        return nil
    }
}

extension LayerInfo {
    /// What a dependency descriptor says of a packet takes the place of what the payload says: it is true of encrypted frames too.
    ///
    /// - Parameter known: The structure that came before.
    public mutating func take(_ descriptor: DependencyDescriptor, known: DependencyDescriptor.Structure?) {
        guard let template = descriptor.template(known: known) else { return }
        spatial = template.spatial
        temporal = template.temporal
        flags.remove([.startsFrame, .endsFrame, .isSwitchPoint, .isContinuation])
        if descriptor.startsFrame { flags.insert(.startsFrame) }
        if descriptor.endsFrame { flags.insert(.endsFrame) }
        if template.isSwitchPoint { flags.insert(.isSwitchPoint) }
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
