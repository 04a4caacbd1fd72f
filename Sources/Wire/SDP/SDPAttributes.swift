/// The typed forms of the attributes that JSEP uses. Each is nil when its text is not what its RFC says; callers ignore it
/// then, as RFC 8866 §5.13 has them do with attributes that they don't understand. Fields stand apart by any blanks.

extension Substring {
    /// What stands between separators, none of it empty. By bytes: to find characters in a stranger's text can take the square of its
    /// length.
    func fields(_ separator: UInt8, atMost count: Int = .max) -> [Substring] {
        utf8.split(separator: separator, maxSplits: count - 1).map { Substring($0) }
    }

    /// What stands between blanks.
    func words(atMost count: Int = .max) -> [Substring] {
        utf8.split(maxSplits: count - 1, whereSeparator: SDPLines.isBlank).map { Substring($0) }
    }

    /// The text without blanks around it.
    var trimmed: Substring {
        var rest = utf8[...]
        while let first = rest.first, SDPLines.isBlank(first) { rest.removeFirst() }
        while let last = rest.last, SDPLines.isBlank(last) { rest.removeLast() }
        return Substring(rest)
    }
}

extension String {
    /// What stands between separators, none of it empty.
    func fields(_ separator: UInt8, atMost count: Int = .max) -> [Substring] {
        self[...].fields(separator, atMost: count)
    }
    /// What stands between blanks: as SDP's lists have it.
    public func words(atMost count: Int = .max) -> [Substring] { self[...].words(atMost: count) }
}

/// `a=rtpmap:111 opus/48000/2` (RFC 8866 §6.6).
public struct RTPMap: Sendable, Hashable {
    /// 0 to 127.
    public var payloadType: UInt8
    public var encodingName: String
    public var clockRate: UInt32
    /// Audio channels; 1 when not given.
    public var channels: Int

    public init?(_ value: String) {
        let fields = value.words(atMost: 2)
        guard fields.count == 2, let payloadType = UInt8(fields[0]), payloadType < 128 else { return nil }
        let parts = fields[1].fields(UInt8(ascii: "/"), atMost: 4).map(\.trimmed)
        guard parts.count >= 2, let clockRate = UInt32(parts[1]) else { return nil }
        self.payloadType = payloadType
        encodingName = String(parts[0])
        self.clockRate = clockRate
        channels = parts.count > 2 ? Int(parts[2]) ?? 1 : 1
    }
}

/// `a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1` (RFC 8866 §6.15).
public struct FormatParameters: Sendable, Hashable {
    /// The text behind the payload type.
    public var text: String

    public init(text: String) { self.text = text }

    /// A parameter's value; names are compared without case, and blanks around either are none of it.
    ///
    /// - Parameter name: In lower case.
    public subscript(name: String) -> String? {
        let bytes = Array(text.utf8)
        var start = 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: ";")) ?? bytes.count
            if let value = Self.value(of: name, in: bytes[start..<end]) { return value }
            start = end + 1
        }
        return nil
    }

    /// - Parameter parameter: `name=value`.
    private static func value(of name: String, in parameter: ArraySlice<UInt8>) -> String? {
        guard let equals = parameter.firstIndex(of: UInt8(ascii: "=")) else { return nil }
        let found = trimmed(parameter[..<equals])
        guard found.count == name.utf8.count,
            zip(found, name.utf8).allSatisfy({ $0 == $1 || isLetter($0) && $0 | 0x20 == $1 })
        else { return nil }
        return String(decoding: trimmed(parameter[(equals + 1)...]), as: UTF8.self)
    }

    private static func isLetter(_ byte: UInt8) -> Bool { byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var rest = bytes
        while let first = rest.first, SDPLines.isBlank(first) { rest.removeFirst() }
        while let last = rest.last, SDPLines.isBlank(last) { rest.removeLast() }
        return rest
    }

    /// The same with another value of a parameter, which stands at the end.
    public func setting(_ name: String, to value: String) -> FormatParameters {
        let others = text.fields(UInt8(ascii: ";")).filter {
            $0.fields(UInt8(ascii: "="), atMost: 2).first?.trimmed.lowercased() != name
        }
        return FormatParameters(text: (others.map { String($0.trimmed) } + ["\(name)=\(value)"]).joined(separator: ";"))
    }
}

/// `a=extmap:3/sendonly urn:…` (RFC 8285 §5).
public struct ExtensionMap: Sendable, Hashable {
    /// 1 to 255.
    public var id: UInt8
    /// `sendonly`, `recvonly`, `sendrecv` or `inactive`; nil when not given.
    public var direction: String?
    public var uri: String

    public init?(_ value: String) {
        let fields = value.words(atMost: 3)
        guard fields.count >= 2 else { return nil }
        let parts = fields[0].fields(UInt8(ascii: "/"), atMost: 3)
        guard let first = parts.first, let id = UInt8(first), id > 0 else { return nil }
        self.id = id
        direction = parts.count > 1 ? String(parts[1]) : nil
        uri = String(fields[1])
    }
}

/// `a=ssrc-group:FID 1 2` (RFC 5576 §4.2).
public struct SSRCGroup: Sendable, Hashable {
    public var semantics: String
    public var ssrcs: [UInt32]

    public init?(_ value: String) {
        let fields = value.words(atMost: 34)
        guard let semantics = fields.first, fields.count <= 33 else { return nil }
        self.semantics = String(semantics)
        ssrcs = fields.dropFirst().compactMap { UInt32($0) }
        guard ssrcs.count == fields.count - 1 else { return nil }
    }
}

/// `a=rid:hi send pt=96` (RFC 8851 §10).
public struct RestrictionIdentifier: Sendable, Hashable {
    public var id: String
    /// Whether the one who wrote it sends this encoding.
    public var sends: Bool
    /// Payload types it is restricted to; empty for all.
    public var payloadTypes: [UInt8]
    /// Further restrictions, such as `max-width=1280`, as they stand.
    public var restrictions: [String]

    public init?(_ value: String) {
        let fields = value.words(atMost: 3)
        guard fields.count >= 2, fields[0].utf8.count <= 255,
            fields[0].utf8.allSatisfy({
                ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A) || $0 == 0x2D || $0 == 0x5F
            })
        else { return nil }
        id = String(fields[0])
        switch fields[1] {
        case "send": sends = true
        case "recv": sends = false
        default: return nil
        }
        payloadTypes = []
        restrictions = []
        if fields.count == 3 {
            for restriction in fields[2].fields(UInt8(ascii: ";")).map(\.trimmed) {
                let pair = restriction.fields(UInt8(ascii: "="), atMost: 2)
                if pair.count == 2, pair[0] == "pt" {
                    payloadTypes = pair[1].fields(UInt8(ascii: ",")).compactMap { UInt8($0.trimmed) }
                } else {
                    restrictions.append(String(restriction))
                }
            }
        }
    }
}

/// `a=simulcast:send hi;~mid,lo recv x` (RFC 8853 §5.1).
public struct Simulcast: Sendable, Hashable {
    public struct Alternative: Sendable, Hashable {
        public var rid: String
        public var isPaused: Bool
    }

    /// Streams that the writer sends; each with its alternatives, most preferred first.
    public var send: [[Alternative]]
    /// Streams that the writer wants to receive.
    public var receive: [[Alternative]]

    public init?(_ value: String) {
        send = []
        receive = []
        let fields = value.words(atMost: 5)
        guard fields.count == 2 || fields.count == 4 else { return nil }
        for index in stride(from: 0, to: fields.count, by: 2) {
            let streams = fields[index + 1].fields(UInt8(ascii: ";"), atMost: 33).prefix(32).map { stream in
                stream.fields(UInt8(ascii: ","), atMost: 33).prefix(32).map { item in
                    let isPaused = item.utf8.first == UInt8(ascii: "~")
                    return Alternative(
                        rid: String(Substring(item.utf8.dropFirst(isPaused ? 1 : 0))),
                        isPaused: isPaused
                    )
                }
            }
            switch fields[index] {
            case "send" where send.isEmpty: send = streams
            case "recv" where receive.isEmpty: receive = streams
            default: return nil
            }
        }
    }
}

extension CertificateFingerprint {
    /// `sha-256 AB:CD:…` (RFC 8122 §5). Nil for hash functions that are too weak or unknown to us.
    public init?(_ value: String) {
        let fields = value.words(atMost: 3)
        guard fields.count == 2, fields[0].utf8.count <= 16, let algorithm = Algorithm(rawValue: fields[0].lowercased())
        else { return nil }
        let octets = fields[1].fields(UInt8(ascii: ":"), atMost: algorithm.digestLength + 1)
        guard octets.count == algorithm.digestLength, octets.allSatisfy({ $0.utf8.count == 2 }) else { return nil }
        let digest = octets.compactMap { UInt8($0, radix: 16) }
        guard digest.count == octets.count else { return nil }
        self.init(algorithm: algorithm, digest: digest)
    }

    /// `sha-256 AB:CD:…`.
    public var text: String {
        let octets = digest.map { byte in
            let hex = String(byte, radix: 16, uppercase: true)
            return hex.utf8.count == 1 ? "0\(hex)" : hex
        }
        return "\(algorithm.rawValue) \(octets.joined(separator: ":"))"
    }
}

extension CertificateFingerprint.Algorithm {
    /// The digest's length in bytes.
    public var digestLength: Int {
        switch self {
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }
}

extension ICECredentials {
    /// Nil when a length or a character is not what RFC 8839 §5.4 allows.
    public init?(validatingUsernameFragment usernameFragment: String, password: String) {
        func isToken(_ text: String, _ lengths: ClosedRange<Int>) -> Bool {
            lengths.contains(text.utf8.count)
                && text.utf8.allSatisfy { byte in
                    (byte >= 0x30 && byte <= 0x39) || (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A)
                        || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "/")
                        // Not in the grammar, and sent by clients that make their ufrag from base64url or a UUID.
                        || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "=")
                }
        }
        guard isToken(usernameFragment, 4...256), isToken(password, 22...256) else { return nil }
        self.init(usernameFragment: usernameFragment, password: password)
    }
}
