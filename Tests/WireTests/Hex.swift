import Wire

/// Bytes from hexadecimal text; whitespace is skipped.
func hex(_ text: String) -> [UInt8] {
    let digits = text.filter { !$0.isWhitespace }
    precondition(digits.count % 2 == 0)
    var bytes: [UInt8] = []
    var index = digits.startIndex
    while index < digits.endIndex {
        let next = digits.index(index, offsetBy: 2)
        bytes.append(UInt8(digits[index..<next], radix: 16) ?? 0)
        index = next
    }
    return bytes
}

// The testing library's macros don't take spans: what they look at is parsed from bytes here.

extension STUNMessage {
    init(_ bytes: [UInt8]) throws(STUNError) { try self.init(parsing: bytes.span.bytes) }
}

extension RTPHeader {
    init(_ bytes: [UInt8]) throws(RTPError) { try self.init(parsing: bytes.span.bytes) }

    func paddingLength(_ bytes: [UInt8]) throws(RTPError) -> Int { try paddingLength(in: bytes.span.bytes) }

    func elements(_ bytes: [UInt8]) -> [HeaderExtensionElement] {
        var reader = HeaderExtensionReader(self)
        var elements: [HeaderExtensionElement] = []
        while let element = reader.next(in: bytes.span.bytes) { elements.append(element) }
        return elements
    }
}

extension ExtendedReportReader {
    mutating func next(_ bytes: [UInt8]) -> ExtendedReportBlock? { next(in: bytes.span.bytes) }
}

extension Codec {
    func startsKeyframe(_ text: String) -> Bool {
        let bytes = hex(text)
        return LayerInfo(parsing: bytes.span.bytes, codec: self, marker: false).startsKeyframe
    }
}

extension VP8Descriptor {
    init?(_ text: String) {
        let bytes = hex(text)
        self.init(parsing: bytes.span.bytes)
    }
}

extension VP9Descriptor {
    init?(_ text: String) {
        let bytes = hex(text)
        self.init(parsing: bytes.span.bytes)
    }
}

extension DependencyDescriptor {
    init?(_ text: String) {
        let bytes = hex(text)
        self.init(parsing: bytes.span.bytes)
    }
}

extension LayerInfo {
    init(_ text: String, _ codec: Codec, marker: Bool = false) {
        let bytes = hex(text)
        self.init(parsing: bytes.span.bytes, codec: codec, marker: marker)
    }
}

extension OpusPacket {
    init?(_ text: String) {
        let bytes = hex(text)
        self.init(parsing: bytes.span.bytes)
    }
}
