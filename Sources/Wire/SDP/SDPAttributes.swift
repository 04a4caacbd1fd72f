/// The typed forms of the attributes that JSEP uses. Each is nil when its text is not what its RFC says; callers ignore it
/// then, as RFC 8866 §5.13 has them do with attributes that they don't understand.

/// `a=rtpmap:111 opus/48000/2` (RFC 8866 §6.6).
public struct RTPMap: Sendable, Hashable {
    /// 0 to 127.
    public var payloadType: UInt8
    public var encodingName: String
    public var clockRate: UInt32
    /// Audio channels; 1 when not given.
    public var channels: Int

    public init?(_ value: String) {
        let fields = value.split(separator: " ", maxSplits: 1)
        guard fields.count == 2, let payloadType = UInt8(fields[0]), payloadType < 128 else { return nil }
        let parts = fields[1].split(separator: "/")
        guard parts.count >= 2, let clockRate = UInt32(parts[1].filter { !$0.isWhitespace }) else { return nil }
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

    /// A parameter's value; names are compared without case.
    public subscript(name: String) -> String? {
        for parameter in text.split(separator: ";") {
            let pair = parameter.split(separator: "=", maxSplits: 1)
            guard pair.count == 2 else { continue }
            if pair[0].filter({ !$0.isWhitespace }).lowercased() == name {
                return String(pair[1].drop(while: \.isWhitespace))
            }
        }
        return nil
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
        let fields = value.split(separator: " ")
        guard fields.count >= 2 else { return nil }
        let parts = fields[0].split(separator: "/")
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
        let fields = value.split(separator: " ")
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
        let fields = value.split(separator: " ", maxSplits: 2)
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
            for restriction in fields[2].split(separator: ";") {
                if restriction.hasPrefix("pt=") {
                    payloadTypes = restriction.dropFirst(3).split(separator: ",").compactMap { UInt8($0) }
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
        let fields = value.split(separator: " ")
        guard fields.count == 2 || fields.count == 4 else { return nil }
        for index in stride(from: 0, to: fields.count, by: 2) {
            let streams = fields[index + 1].split(separator: ";").prefix(32).map { stream in
                stream.split(separator: ",").prefix(32).map { item in
                    Alternative(
                        rid: String(item.hasPrefix("~") ? item.dropFirst() : item),
                        isPaused: item.hasPrefix("~")
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
        let fields = value.split(separator: " ")
        guard fields.count == 2, let algorithm = Algorithm(rawValue: fields[0].lowercased()) else { return nil }
        let octets = fields[1].split(separator: ":")
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
