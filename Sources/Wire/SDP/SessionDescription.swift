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
    public init(
        parsing text: [UInt8],
        maximumBytes: Int = 64 * 1024,
        maximumMediaSections: Int = 16
    ) throws(SDPError) {
        guard text.count <= maximumBytes else { throw .tooLong(maximum: maximumBytes) }
        guard !text.contains(0), let string = String(validating: text, as: UTF8.self) else { throw .notText }
        var lines = SDPLines(string)

        guard let version = try lines.next(), version.type == "v", version.value == "0" else { throw .badVersion }
        var origin: String?
        var attributes: [SDPAttribute] = []
        var sections: [MediaSection] = []
        while let line = try lines.next() {
            switch line.type {
            case "o" where sections.isEmpty:
                origin = String(line.value)
            case "m":
                guard sections.count < maximumMediaSections else {
                    throw .tooManyMediaSections(maximum: maximumMediaSections)
                }
                guard let section = MediaSection(mediaLine: line.value) else { throw .badMediaLine(line.number) }
                sections.append(section)
            case "a":
                let attribute = SDPAttribute(line: line.value)
                if sections.isEmpty {
                    attributes.append(attribute)
                } else {
                    sections[sections.count - 1].attributes.append(attribute)
                }
            default:
                // s=, t=, c=, b= and the like say nothing that ICE and BUNDLE don't say better.
                break
            }
        }
        guard let origin else { throw .missing("o=") }
        self.init(origin: origin, attributes: attributes, mediaSections: sections)
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

    fileprivate init?(mediaLine: Substring) {
        let fields = mediaLine.split(separator: " ")
        guard fields.count >= 4, fields.count <= 3 + 128 else { return nil }
        // `<port>/<number of ports>` is allowed by the grammar and used by nobody with BUNDLE.
        guard let port = fields[1].split(separator: "/").first.flatMap({ Int($0) }), (0...65535).contains(port) else {
            return nil
        }
        self.init(
            kind: String(fields[0]),
            port: port,
            proto: String(fields[2]),
            formats: fields[3...].map(String.init)
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
    init(line: Substring) {
        if let colon = line.firstIndex(of: ":") {
            self.init(String(line[..<colon]), String(line[line.index(after: colon)...]))
        } else {
            self.init(String(line))
        }
    }

    var line: String {
        guard let value else { return "a=\(name)\r\n" }
        return "a=\(name):\(value)\r\n"
    }
}

/// Steps through `<letter>=<value>` lines. Empty lines are skipped: some clients send them at the end.
struct SDPLines {
    private var rest: Substring
    private var number = 0

    init(_ text: String) { rest = text[...] }

    mutating func next() throws(SDPError) -> (type: Character, value: Substring, number: Int)? {
        while !rest.isEmpty {
            number += 1
            // In Swift CR LF is one character, and it is a newline as LF alone is.
            let end = rest.firstIndex(where: \.isNewline) ?? rest.endIndex
            let line = rest[..<end]
            rest = end == rest.endIndex ? rest[end...] : rest[rest.index(after: end)...]
            if line.allSatisfy(\.isWhitespace) { continue }
            guard let type = line.first, line.dropFirst().first == "=" else { throw .badLine(number) }
            return (type, line.dropFirst(2), number)
        }
        return nil
    }
}
