import Commands

/// A message of a client on the control WebSocket (`Docs/Protocol.md`), as it came: each type checks the fields that it needs.
struct ClientMessage: Sendable {
    /// One stream of a `publish`.
    struct Stream: Sendable {
        var stream: String
        /// What it shows, such as `camera` or `screen`: passed on.
        var kind: String?
        /// The lines of its picture, in the best encoding: passed on.
        var height: Int?
        /// Its m-lines in the offer.
        var mids: [String]
        /// Which kinds of media are muted: passed on.
        var muted: [String]?
    }

    /// The best encoding of a stream that is wanted, 0 for the lowest.
    struct EncodingLimit: Sendable {
        var stream: String
        var encoding: Int
    }

    /// Why a text is no message.
    enum Refusal: Error, Equatable {
        /// Which WebSockets are closed for (RFC 6455 §8.1).
        case notUTF8
        /// In words for people.
        case wrong(String)
        case tooLarge(maximum: Int)
    }

    /// Longest `id` in bytes: it is sent back.
    private static let longestIdentifier = 64

    var type = ""
    /// Comes back on the reply as it was written.
    var id: JSONValue?
    var room: String?
    var token: String?
    var name: String?
    var role: String?
    var privacy: String?
    var resume: String?
    var policy: String?
    var sdp: String?
    var offer: UInt64?
    var streams: [Stream]?
    var stream: String?
    var muted: [String]?
    var paused: Bool?
    /// Places of tracks in their stream, from 0.
    var tracks: [Int]?
    var encodings: [EncodingLimit]?
    var peer: String?
    var action: String?
    var to: String?
    /// Any JSON, as it was written.
    var data: JSONValue?

    /// Parses one text frame.
    init(parsing text: [UInt8], limits: Limits) throws(Refusal) {
        do throws(JSONReader.Malformed) {
            var reader = try JSONReader(text, maximumDepth: limits.controlMessageDepth)
            try read(&reader, entries: limits.controlListEntries)
        } catch {
            throw Self.refusal(error)
        }
        // Descriptions are long; nothing else has a reason to be.
        guard type == "publish" || type == "answer" || text.count <= limits.controlRequestBytes else {
            throw .tooLarge(maximum: limits.controlRequestBytes)
        }
        guard dataBytes <= limits.peerMessageBytes else { throw .tooLarge(maximum: limits.peerMessageBytes) }
    }

    /// How long `data` is.
    var dataBytes: Int {
        guard case .verbatim(let text)? = data else { return 0 }
        return text.utf8.count
    }

    /// The `id` of what may be no message otherwise, so that its refusal finds whoever waits for the reply.
    static func identifier(in text: [UInt8], limits: Limits) -> JSONValue? {
        var message = ClientMessage()
        do throws(JSONReader.Malformed) {
            var reader = try JSONReader(text, maximumDepth: limits.controlMessageDepth)
            try reader.readObject { name, reader throws(JSONReader.Malformed) in
                if name == "id" { try message.readIdentifier(&reader) } else { try reader.skip() }
            }
        } catch {
            // What was read until then will do.
        }
        return message.id
    }

    private init() {}

    private mutating func read(_ reader: inout JSONReader, entries: Int) throws(JSONReader.Malformed) {
        try reader.readMembers(of: Self.names) { name, reader throws(JSONReader.Malformed) in
            if name == "data" {
                data = .verbatim(try reader.readText())
            } else if try !reader.readNull() {
                try readMember(name, &reader, entries: entries)
            }
        }
        try reader.finish()
        guard !type.isEmpty else { throw reader.malformed(.other("type is missing")) }
    }

    static let names: Set<String> = [
        "type", "id", "room", "token", "name", "role", "privacy", "resume", "policy", "sdp", "offer",
        "streams", "stream", "muted", "paused", "tracks", "encodings", "peer", "action", "to", "data",
    ]

    private mutating func readMember(
        _ name: String,
        _ reader: inout JSONReader,
        entries: Int
    ) throws(JSONReader.Malformed) {
        switch name {
        case "id": try readIdentifier(&reader)
        case "offer": offer = try reader.readUnsigned()
        case "paused": paused = try reader.readBool()
        case "tracks":
            tracks = try reader.readArray(atMost: entries) { reader throws(JSONReader.Malformed) in
                Int(clamping: try reader.readUnsigned())
            }
        case "encodings":
            encodings = try reader.readArray(atMost: entries) { reader throws(JSONReader.Malformed) in
                try EncodingLimit(&reader)
            }
        case "muted": muted = try Self.readStrings(&reader, atMost: entries)
        case "streams":
            streams = try reader.readArray(atMost: entries) { reader throws(JSONReader.Malformed) in
                try Stream(&reader, entries: entries)
            }
        default: readText(name, try reader.readString())
        }
    }

    private mutating func readText(_ name: String, _ text: String) {
        switch name {
        case "type": type = text
        case "room": room = text
        case "token": token = text
        case "name": self.name = text
        case "role": role = text
        case "privacy": privacy = text
        case "resume": resume = text
        case "policy": policy = text
        case "sdp": sdp = text
        case "stream": stream = text
        case "peer": peer = text
        case "action": action = text
        case "to": to = text
        default: break
        }
    }

    private mutating func readIdentifier(_ reader: inout JSONReader) throws(JSONReader.Malformed) {
        guard reader.isStringOrNumber() else {
            guard try !reader.readNull() else { return }
            throw reader.malformed(.otherType("a string or a number"))
        }
        let text = try reader.readText()
        guard text.utf8.count <= Self.longestIdentifier + 2 else {
            throw reader.malformed(.other("has at most \(Self.longestIdentifier) bytes"))
        }
        id = .verbatim(text)
    }

    fileprivate static func readStrings(
        _ reader: inout JSONReader,
        atMost count: Int
    ) throws(JSONReader.Malformed) -> [String] {
        try reader.readArray(atMost: count) { reader throws(JSONReader.Malformed) in try reader.readString() }
    }

    private static func refusal(_ error: JSONReader.Malformed) -> Refusal {
        let path = error.path.prefix(4).map { String($0.prefix(32)) }.joined(separator: ".")
        let place = path.isEmpty ? "The message" : path
        switch error.reason {
        case .notUTF8: return .notUTF8
        case .notJSON: return .wrong("The message is not JSON.")
        case .tooDeep(let maximum): return .wrong("The message is nested more than \(maximum) deep.")
        case .otherType(let type): return .wrong("\(place) has to be \(type).")
        case .other(let text): return .wrong(path.isEmpty ? "\(text)." : "\(path) \(text).")
        }
    }
}

extension ClientMessage.Stream {
    private static let names: Set<String> = ["stream", "mids", "kind", "height", "muted"]

    fileprivate init(_ reader: inout JSONReader, entries: Int) throws(JSONReader.Malformed) {
        var stream: String?
        var mids: [String]?
        var kind: String?
        var height: UInt64?
        var muted: [String]?
        try reader.readMembers(of: Self.names) { name, reader throws(JSONReader.Malformed) in
            guard try !reader.readNull() else { return }
            switch name {
            case "stream": stream = try reader.readString()
            case "mids": mids = try ClientMessage.readStrings(&reader, atMost: entries)
            case "kind": kind = try reader.readString()
            case "height": height = try reader.readUnsigned()
            default: muted = try ClientMessage.readStrings(&reader, atMost: entries)
            }
        }
        guard let stream else { throw reader.malformed(.other("has no stream")) }
        guard let mids else { throw reader.malformed(.other("has no mids")) }
        self.init(stream: stream, kind: kind, height: height.map { Int(clamping: $0) }, mids: mids, muted: muted)
    }
}

extension ClientMessage.EncodingLimit {
    private static let names: Set<String> = ["stream", "encoding"]

    fileprivate init(_ reader: inout JSONReader) throws(JSONReader.Malformed) {
        var stream: String?
        var encoding: UInt64?
        try reader.readMembers(of: Self.names) { name, reader throws(JSONReader.Malformed) in
            guard try !reader.readNull() else { return }
            switch name {
            case "stream": stream = try reader.readString()
            default: encoding = try reader.readUnsigned()
            }
        }
        guard let stream else { throw reader.malformed(.other("has no stream")) }
        guard let encoding else { throw reader.malformed(.other("has no encoding")) }
        self.init(stream: stream, encoding: Int(clamping: encoding))
    }
}
