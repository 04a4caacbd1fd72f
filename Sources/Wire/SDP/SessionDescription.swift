/// One `a=` line.
public struct SDPAttribute: Sendable, Hashable {
    public var name: String
    /// What follows the colon; nil for a property attribute.
    public var value: String?

    public init(_ name: String, _ value: String? = nil) {
        self.name = name
        self.value = value
    }
}

/// A session description (RFC 8866): what JSEP uses of it, each attribute as it stands. The typed forms are in
/// `SDPAttributes`.
public struct SessionDescription: Sendable, Hashable {
    /// The `o=` line's value.
    public var origin: String
    public var attributes: [SDPAttribute]
    public var mediaSections: [MediaSection]

    public init(origin: String, attributes: [SDPAttribute] = [], mediaSections: [MediaSection] = []) {
        self.origin = origin
        self.attributes = attributes
        self.mediaSections = mediaSections
    }

    /// Parses a description. Lines may end in CRLF or LF, and unknown attributes are kept.
    ///
    /// - Parameters:
    ///   - text: UTF-8.
    ///   - maximumBytes: Longest text.
    ///   - maximumMediaSections: Most m-lines.
    ///   - maximumLines: Most lines, empty ones among them.
    ///   - maximumAttributes: Most attributes of the session, and of each m-line.
    public init(
        parsing text: [UInt8],
        maximumBytes: Int = 64 * 1024,
        maximumMediaSections: Int = 16,
        maximumLines: Int = 10_000,
        maximumAttributes: Int = 1024
    ) throws(SDPError) {
        var lines = try SDPLines(text, maximumBytes: maximumBytes, maximumLines: maximumLines)

        guard let version = try lines.next(), version.type == UInt8(ascii: "v"),
            version.value.elementsEqual(CollectionOfOne(UInt8(ascii: "0")))
        else { throw .badVersion }
        var origin: String?
        // Those of the session, then of the m-line that is being read.
        var attributes: [SDPAttribute] = []
        var sessionAttributes: [SDPAttribute]?
        var sections: [MediaSection] = []
        func endLevel() {
            if sections.isEmpty {
                sessionAttributes = attributes
            } else {
                sections[sections.count - 1].attributes = attributes
            }
            attributes = []
        }
        while let line = try lines.next() {
            switch line.type {
            case UInt8(ascii: "o") where sections.isEmpty:
                origin = String(decoding: line.value, as: UTF8.self)
            case UInt8(ascii: "m"):
                guard sections.count < maximumMediaSections else {
                    throw .tooManyMediaSections(maximum: maximumMediaSections)
                }
                guard let section = MediaSection(mediaLine: line.value) else { throw .badMediaLine(line.number) }
                endLevel()
                sections.append(section)
            case UInt8(ascii: "a"):
                guard attributes.count < maximumAttributes else {
                    throw .tooManyAttributes(maximum: maximumAttributes, line: line.number)
                }
                attributes.append(SDPAttribute(line: line.value))
            default:
                // s=, t=, c=, b= and the like say nothing that ICE and BUNDLE don't say better.
                break
            }
        }
        endLevel()
        guard let origin else { throw .missing("o=") }
        self.init(origin: origin, attributes: sessionAttributes ?? [], mediaSections: sections)
    }

    /// The description's text, with CRLF.
    public var text: String {
        var text = "v=0\r\no=\(origin)\r\ns=-\r\nt=0 0\r\n"
        for attribute in attributes { text += attribute.line }
        for section in mediaSections {
            text += "m=\(section.kind) \(section.port) \(section.proto) \(section.formats.joined(separator: " "))\r\n"
            text += "c=IN IP4 0.0.0.0\r\n"
            for attribute in section.attributes { text += attribute.line }
        }
        return text
    }

    /// The value of the first session-level attribute with this name.
    public func value(_ name: String) -> String? { attributes.first { $0.name == name }?.value }
    /// Whether there is a session-level attribute with this name.
    public func has(_ name: String) -> Bool { attributes.contains { $0.name == name } }
}

/// One m-line and what follows it (RFC 8866 §5.14).
public struct MediaSection: Sendable, Hashable {
    /// `audio`, `video`, `application`…
    public var kind: String
    /// 0 when the section is rejected or, in an offer, only to be bundled.
    public var port: Int
    /// Such as `UDP/TLS/RTP/SAVPF`.
    public var proto: String
    /// Payload types, most preferred first.
    public var formats: [String]
    public var attributes: [SDPAttribute]

    public init(kind: String, port: Int, proto: String, formats: [String], attributes: [SDPAttribute] = []) {
        self.kind = kind
        self.port = port
        self.proto = proto
        self.formats = formats
        self.attributes = attributes
    }

    /// Most formats: as many as there are payload types.
    private static let maximumFormats = 128
    private static let maximumFieldBytes = 64

    fileprivate init?(mediaLine: ArraySlice<UInt8>) {
        let fields = mediaLine.split(maxSplits: 3 + Self.maximumFormats, whereSeparator: SDPLines.isBlank)
        guard fields.count >= 4, fields.count <= 3 + Self.maximumFormats,
            fields.allSatisfy({ $0.count <= Self.maximumFieldBytes })
        else { return nil }
        // `<port>/<number of ports>` is allowed by the grammar and used by nobody with BUNDLE.
        let digits = String(decoding: fields[1].prefix { $0 != UInt8(ascii: "/") }.prefix(6), as: UTF8.self)
        guard let port = Int(digits), (0...65535).contains(port) else { return nil }
        self.init(
            kind: String(decoding: fields[0], as: UTF8.self),
            port: port,
            proto: String(decoding: fields[2], as: UTF8.self),
            formats: fields[3...].map { String(decoding: $0, as: UTF8.self) }
        )
    }

    /// The value of the first attribute with this name.
    public func value(_ name: String) -> String? { attributes.first { $0.name == name }?.value }
    /// The values of all attributes with this name.
    public func values(_ name: String) -> [String] { attributes.compactMap { $0.name == name ? $0.value : nil } }
    /// Whether there is an attribute with this name.
    public func has(_ name: String) -> Bool { attributes.contains { $0.name == name } }
}

extension SDPAttribute {
    /// - Parameter line: What follows `a=`.
    init(line: ArraySlice<UInt8>) {
        if let colon = line.firstIndex(of: UInt8(ascii: ":")) {
            self.init(
                String(decoding: line[..<colon], as: UTF8.self),
                String(decoding: line[(colon + 1)...], as: UTF8.self)
            )
        } else {
            self.init(String(decoding: line, as: UTF8.self))
        }
    }

    var line: String {
        guard let value else { return "a=\(name)\r\n" }
        return "a=\(name):\(value)\r\n"
    }
}

/// Steps through `<letter>=<value>` lines, byte by byte: what a character is for people costs far more to find out, and a line may be one
/// of a hundred kilobytes. Empty lines are skipped, as some clients send them at the end, and so are blanks at the end of lines.
struct SDPLines {
    private let bytes: [UInt8]
    private let maximumLines: Int
    private var position = 0
    private var number = 0

    /// - Parameter bytes: Has to be UTF-8 without NUL.
    init(_ bytes: [UInt8], maximumBytes: Int, maximumLines: Int) throws(SDPError) {
        guard bytes.count <= maximumBytes else { throw .tooLong(maximum: maximumBytes) }
        guard !bytes.contains(0), String(validating: bytes, as: UTF8.self) != nil else { throw .notText }
        self.bytes = bytes
        self.maximumLines = maximumLines
    }

    static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

    mutating func next() throws(SDPError) -> (type: UInt8, value: ArraySlice<UInt8>, number: Int)? {
        while position < bytes.count {
            guard number < maximumLines else { throw .tooManyLines(maximum: maximumLines) }
            number += 1
            let start = position
            while position < bytes.count, bytes[position] != 0x0A, bytes[position] != 0x0D { position += 1 }
            var end = position
            // CR LF is one end of a line.
            let isPair = position + 1 < bytes.count && bytes[position] == 0x0D && bytes[position + 1] == 0x0A
            position = min(position + (isPair ? 2 : 1), bytes.count)
            while end > start, Self.isBlank(bytes[end - 1]) { end -= 1 }
            if end == start { continue }
            guard end - start >= 2, bytes[start + 1] == UInt8(ascii: "=") else { throw .badLine(number) }
            return (bytes[start], bytes[(start + 2)..<end], number)
        }
        return nil
    }
}
