/// One unit without which a decoder can't start: a parameter set of H.264 or H.265, or AV1's sequence header.
public struct ParameterSetUnit: Sendable, BitwiseCopyable, Hashable {
    /// What it is, and its id where there may be several: a unit of the same key takes its place. Decoders need them in this order.
    public var key: UInt16
    /// Where it lies in the payload.
    public var offset: Int
    public var length: Int
}

/// Steps through the parameter sets that lie whole in one RTP payload.
public struct ParameterSetReader: Sendable {
    private let codec: Codec
    private var offset = 0
    private var isAtEnd = false
    /// AV1: elements that have been passed, and how many there are; 0 when each says its length.
    private var elements = 0

    /// - Parameter codec: One without parameter sets has none.
    public init(codec: Codec) { self.codec = codec }

    /// The next one of `payload`, the same on each call; nil at its end, or where a length reaches beyond it.
    public mutating func next(in payload: RawSpan) -> ParameterSetUnit? {
        guard !isAtEnd else { return nil }
        let unit: ParameterSetUnit?
        switch codec {
        case .h264: unit = nextUnit(in: payload, headerBytes: 1, aggregation: 24) { $0 & 0x1F }
        case .h265: unit = nextUnit(in: payload, headerBytes: 2, aggregation: 48) { $0 >> 1 & 0x3F }
        case .av1: unit = nextElement(in: payload)
        case .opus, .vp8, .vp9: unit = nil
        }
        if unit == nil { isAtEnd = true }
        return unit
    }

    /// Whether a payload begins a picture that a decoder can start with once it has parameter sets, and brings none itself.
    public static func isBareKeyframe(_ payload: RawSpan, codec: Codec) -> Bool {
        switch codec {
        case .h264: H264Payload(parsing: payload).map { $0.startsIDR && !$0.hasParameterSet } ?? false
        case .h265: H265Payload(parsing: payload).map { $0.startsRandomAccess && !$0.hasParameterSet } ?? false
        case .av1: AV1AggregationHeader(parsing: payload)?.beginsWithBareKeyframe ?? false
        case .opus, .vp8, .vp9: false
        }
    }

    // MARK: NAL units

    /// RFC 6184 §5.6 and §5.7.1, RFC 7798 §4.4.1 and §4.4.2: one unit alone, or several behind their lengths.
    private mutating func nextUnit(
        in payload: RawSpan,
        headerBytes: Int,
        aggregation: UInt8,
        type: (UInt8) -> UInt8
    ) -> ParameterSetUnit? {
        guard payload.byteCount > headerBytes else { return nil }
        guard type(payload.byte(at: 0)) == aggregation else {
            isAtEnd = true
            return unit(in: payload, at: 0, length: payload.byteCount, headerBytes: headerBytes, type: type)
        }
        if offset == 0 { offset = headerBytes }
        while offset + 2 <= payload.byteCount {
            let length = Int(payload.uint16(at: offset))
            let start = offset + 2
            guard length > headerBytes, start + length <= payload.byteCount else { return nil }
            offset = start + length
            if let unit = unit(in: payload, at: start, length: length, headerBytes: headerBytes, type: type) {
                return unit
            }
        }
        return nil
    }

    private func unit(
        in payload: RawSpan,
        at offset: Int,
        length: Int,
        headerBytes: Int,
        type: (UInt8) -> UInt8
    ) -> ParameterSetUnit? {
        let kind = type(payload.byte(at: offset))
        let unit = payload.extracting(offset..<(offset + length))
        let identifier: UInt32?
        switch (codec, kind) {
        // H.264 §7.3.2.1.1: profile, constraints and level come before the id of a sequence parameter set.
        case (.h264, 7): identifier = Self.exponentialGolomb(in: unit, at: headerBytes + 3)
        case (.h264, 8), (.h265, 34): identifier = Self.exponentialGolomb(in: unit, at: headerBytes)
        // H.265 §7.3.2.1: 4 bits. Of sequence parameter sets the id stands behind a structure of any length: there is one.
        case (.h265, 32): identifier = UInt32(unit.byte(at: headerBytes) >> 4)
        case (.h265, 33): identifier = 0
        default: identifier = nil
        }
        guard let identifier, identifier < 256 else { return nil }
        return ParameterSetUnit(key: UInt16(kind) << 8 | UInt16(identifier), offset: offset, length: length)
    }

    /// ue(v) of at most 8 leading zeros (H.264 §9.1), beginning at a byte.
    private static func exponentialGolomb(in unit: RawSpan, at offset: Int) -> UInt32? {
        guard offset < unit.byteCount else { return nil }
        var bits = UInt32(unit.byte(at: offset)) << 24
        for index in 1..<4 where offset + index < unit.byteCount {
            bits |= UInt32(unit.byte(at: offset + index)) << (24 - 8 * UInt32(index))
        }
        let zeros = bits.leadingZeroBitCount
        guard zeros <= 8 else { return nil }
        return bits >> UInt32(31 - 2 * zeros) - 1
    }

    // MARK: OBUs

    /// RTP payload format for AV1 v1.0 §4.3 and §4.4: elements behind their lengths, the last one without where W says how many.
    private mutating func nextElement(in payload: RawSpan) -> ParameterSetUnit? {
        guard let first = payload.byteCount > 1 ? payload.byte(at: 0) : nil else { return nil }
        let count = Int(first >> 4 & 0x03)
        if offset == 0 { offset = 1 }
        while offset < payload.byteCount, count == 0 || elements < count {
            var length = payload.byteCount - offset
            if count == 0 || elements < count - 1 {
                guard let announced = Self.leb128(in: payload, at: &offset), announced <= payload.byteCount - offset
                else {
                    return nil
                }
                length = announced
            }
            let start = offset
            let isFirst = elements == 0
            offset += length
            elements += 1
            let isLast = offset >= payload.byteCount
            // Z and Y: what began in the packet before, and what goes on in the next, is not whole.
            let isWhole = !(isFirst && first & 0x80 != 0) && !(isLast && first & 0x40 != 0)
            if isWhole, length > 1, payload.byte(at: start) >> 3 & 0x0F == 1 {
                return ParameterSetUnit(key: 1 << 8, offset: start, length: length)
            }
        }
        return nil
    }

    private static func leb128(in payload: RawSpan, at offset: inout Int) -> Int? {
        var value = 0
        for index in 0..<4 {
            guard offset < payload.byteCount else { return nil }
            let byte = payload.byte(at: offset)
            offset += 1
            value |= Int(byte & 0x7F) << (7 * index)
            if byte & 0x80 == 0 { return value }
        }
        return nil
    }
}

/// Puts parameter sets into RTP payloads of their own.
public enum ParameterSetWriter {
    /// - Parameters:
    ///   - units: In the order in which decoders need them.
    ///   - maximumBytes: Of one payload. A unit that is longer is left out.
    public static func payloads(of units: [[UInt8]], codec: Codec, maximumBytes: Int) -> [[UInt8]] {
        switch codec {
        case .h264:
            aggregated(units, header: { [$0.reduce(0) { max($0, $1[0] & 0x60) } | 24] }, maximumBytes: maximumBytes)
        // RFC 7798 §4.4.2: the lowest layer and temporal id; parameter sets are of the first.
        case .h265: aggregated(units, header: { _ in [48 << 1, 1] }, maximumBytes: maximumBytes)
        // N and W of 1: a coded video sequence begins, with one element.
        case .av1: units.filter { $0.count <= maximumBytes }.map { [0x18] + $0 }
        case .opus, .vp8, .vp9: []
        }
    }

    private static func aggregated(
        _ units: [[UInt8]],
        header: (ArraySlice<[UInt8]>) -> [UInt8],
        maximumBytes: Int
    ) -> [[UInt8]] {
        var payloads: [[UInt8]] = []
        var rest = units.filter { !$0.isEmpty && $0.count <= maximumBytes }[...]
        while let first = rest.first {
            var bytes = 2
            var count = 0
            for unit in rest {
                bytes += 2 + unit.count
                if bytes > maximumBytes { break }
                count += 1
            }
            if count < 2 {
                payloads.append(first)
                rest = rest.dropFirst()
            } else {
                let together = rest.prefix(count)
                rest = rest.dropFirst(count)
                var payload = header(together)
                for unit in together { payload += [UInt8(unit.count >> 8), UInt8(unit.count & 255)] + unit }
                payloads.append(payload)
            }
        }
        return payloads
    }
}
