/// A STUN message (RFC 8489) with the attributes that ICE uses (RFC 8445 §16.1). Parsing allocates nothing: attributes with
/// values of their own length are kept as places in the bytes that were parsed.
public struct STUNMessage: Sendable {
    public enum Class: UInt16, Sendable {
        case request = 0x000
        case indication = 0x010
        case success = 0x100
        case error = 0x110
    }

    /// The 96 bits that tie a response to its request.
    public struct TransactionID: Hashable, Sendable, BitwiseCopyable {
        /// The first 8 bytes and the last 4, each as a big-endian number.
        public let high: UInt64
        public let low: UInt32

        public init(high: UInt64, low: UInt32) {
            self.high = high
            self.low = low
        }
    }

    /// A place in the message's bytes.
    public struct Place: Sendable, BitwiseCopyable {
        public let offset: Int
        public let length: Int
    }

    /// Attribute types (RFC 8489 §18.3, RFC 8445 §20.1).
    public enum Attribute {
        public static let username: UInt16 = 0x0006
        public static let messageIntegrity: UInt16 = 0x0008
        public static let errorCode: UInt16 = 0x0009
        public static let unknownAttributes: UInt16 = 0x000A
        public static let realm: UInt16 = 0x0014
        public static let nonce: UInt16 = 0x0015
        public static let xorMappedAddress: UInt16 = 0x0020
        public static let priority: UInt16 = 0x0024
        public static let useCandidate: UInt16 = 0x0025
        public static let software: UInt16 = 0x8022
        public static let fingerprint: UInt16 = 0x8028
        public static let iceControlled: UInt16 = 0x8029
        public static let iceControlling: UInt16 = 0x802A
    }

    /// The Binding method.
    public static let bindingMethod: UInt16 = 0x001
    public static let headerLength = 20
    public static let magicCookie: UInt32 = 0x2112_A442
    /// Attributes that are looked at; no client sends half as many.
    static let maximumAttributes = 32

    public let messageClass: Class
    public let method: UInt16
    public let transactionID: TransactionID
    public private(set) var username: Place?
    public private(set) var software: Place?
    public private(set) var priority: UInt32?
    public private(set) var usesCandidate = false
    /// The tie-breaker of ICE-CONTROLLING.
    public private(set) var controlling: UInt64?
    /// The tie-breaker of ICE-CONTROLLED.
    public private(set) var controlled: UInt64?
    public private(set) var mappedAddress: SocketAddress?
    /// 300 to 699.
    public private(set) var errorCode: Int?
    /// Where MESSAGE-INTEGRITY's 20 bytes lie.
    public private(set) var integrity: Place?
    /// Whether there was a FINGERPRINT; a wrong one is an error.
    public private(set) var hasFingerprint = false
    /// The first attribute below 0x8000 that we don't know: a request with one is answered with error 420 (RFC 8489 §6.3.1).
    public private(set) var unknownRequiredAttribute: UInt16?

    /// The first attribute whose value is not as long as its type has it. It is read no further: a request with one is answered
    /// with error 400 once it is known to be authentic (RFC 8489 §6.3.1).
    public private(set) var malformedAttribute: UInt16?

    /// Parses a datagram that holds one message.
    ///
    /// What follows MESSAGE-INTEGRITY, FINGERPRINT excepted, is ignored (RFC 8489 §14.5).
    public init(parsing bytes: RawSpan) throws(STUNError) {
        let count = bytes.byteCount
        guard count >= Self.headerLength else { throw .truncated(expected: Self.headerLength, found: count) }
        let type = bytes.uint16(at: 0)
        let length = Int(bytes.uint16(at: 2))
        guard type & 0xC000 == 0, length & 3 == 0 else { throw .badHeader }
        guard count == Self.headerLength + length else {
            throw .truncated(expected: Self.headerLength + length, found: count)
        }
        let cookie = bytes.uint32(at: 4)
        guard cookie == Self.magicCookie else { throw .badCookie(cookie) }
        guard let messageClass = Class(rawValue: type & 0x0110) else { throw .badHeader }
        self.messageClass = messageClass
        method = type & 0x000F | (type & 0x00E0) >> 1 | (type & 0x3E00) >> 2
        transactionID = TransactionID(high: bytes.uint64(at: 8), low: bytes.uint32(at: 16))

        var offset = Self.headerLength
        var attributeCount = 0
        while offset + 4 <= count, attributeCount < Self.maximumAttributes, !hasFingerprint {
            let attribute = bytes.uint16(at: offset)
            let place = Place(offset: offset + 4, length: Int(bytes.uint16(at: offset + 2)))
            guard place.offset + place.length <= count else { throw .badAttribute(type: attribute) }
            if attribute == Attribute.fingerprint {
                try checkFingerprint(in: bytes, attributeOffset: offset, place: place)
            } else if integrity == nil {
                note(attribute, at: place, in: bytes)
            }
            offset = place.offset + (place.length + 3) & ~3
            attributeCount += 1
        }
    }

    /// The value of USERNAME.
    @_lifetime(copy bytes)
    public func usernameSpan(in bytes: RawSpan) -> RawSpan? {
        guard let username, username.offset + username.length <= bytes.byteCount else { return nil }
        return bytes.extracting(username.offset..<(username.offset + username.length))
    }

    /// Whether USERNAME begins with `fragment` and a colon: in a request to us, our ufrag (RFC 8445 §7.2.2).
    public func hasUsernamePrefix(_ fragment: String, in bytes: RawSpan) -> Bool {
        guard let span = usernameSpan(in: bytes), span.byteCount > fragment.utf8.count else { return false }
        var offset = 0
        for byte in fragment.utf8 {
            guard span.byte(at: offset) == byte else { return false }
            offset += 1
        }
        return span.byte(at: offset) == UInt8(ascii: ":")
    }

    /// Appends the bytes that MESSAGE-INTEGRITY is computed over: all before it, with the header's length counting up to its
    /// end (RFC 8489 §14.5).
    ///
    /// - Returns: The 20 bytes that the message carries as MESSAGE-INTEGRITY; nil when it has none.
    @_lifetime(copy bytes)
    public func integrityInput(in bytes: RawSpan, into buffer: inout [UInt8]) -> RawSpan? {
        guard let integrity, integrity.length == 20, integrity.offset + 20 <= bytes.byteCount else { return nil }
        let end = integrity.offset - 4
        bytes.extracting(0..<end).withUnsafeBytes { buffer.append(contentsOf: $0) }
        let length = UInt16(truncatingIfNeeded: integrity.offset + 20 - Self.headerLength)
        let start = buffer.count - end
        buffer[start + 2] = UInt8(truncatingIfNeeded: length >> 8)
        buffer[start + 3] = UInt8(truncatingIfNeeded: length)
        return bytes.extracting(integrity.offset..<(integrity.offset + 20))
    }

    private mutating func note(_ attribute: UInt16, at place: Place, in bytes: RawSpan) {
        var isWellFormed = true
        switch attribute {
        case Attribute.username: username = place
        case Attribute.software: software = place
        case Attribute.priority:
            isWellFormed = place.length == 4
            if isWellFormed { priority = bytes.uint32(at: place.offset) }
        case Attribute.useCandidate: usesCandidate = true
        case Attribute.iceControlling:
            isWellFormed = place.length == 8
            if isWellFormed { controlling = bytes.uint64(at: place.offset) }
        case Attribute.iceControlled:
            isWellFormed = place.length == 8
            if isWellFormed { controlled = bytes.uint64(at: place.offset) }
        case Attribute.messageIntegrity:
            isWellFormed = place.length == 20
            if isWellFormed { integrity = place }
        case Attribute.xorMappedAddress:
            mappedAddress = xorMappedAddress(at: place, in: bytes)
            isWellFormed = mappedAddress != nil
        case Attribute.errorCode:
            isWellFormed = place.length >= 4
            if isWellFormed {
                errorCode = Int(bytes.byte(at: place.offset + 2) & 7) * 100 + Int(bytes.byte(at: place.offset + 3))
            }
        case Attribute.unknownAttributes, Attribute.realm, Attribute.nonce: break
        default:
            if attribute < 0x8000, unknownRequiredAttribute == nil { unknownRequiredAttribute = attribute }
        }
        if !isWellFormed, malformedAttribute == nil { malformedAttribute = attribute }
    }

    /// RFC 8489 §14.2.
    private func xorMappedAddress(at place: Place, in bytes: RawSpan) -> SocketAddress? {
        let family = place.length >= 2 ? bytes.byte(at: place.offset + 1) : 0
        if family == 1, place.length == 8 {
            let port = bytes.uint16(at: place.offset + 2) ^ UInt16(Self.magicCookie >> 16)
            let address = bytes.uint32(at: place.offset + 4) ^ Self.magicCookie
            return SocketAddress(ip: IPAddress(v4: address), port: port)
        }
        if family == 2, place.length == 20 {
            let port = bytes.uint16(at: place.offset + 2) ^ UInt16(Self.magicCookie >> 16)
            let mask = transactionID.addressMask
            let high = bytes.uint64(at: place.offset + 4) ^ mask.high
            let low = bytes.uint64(at: place.offset + 12) ^ mask.low
            return SocketAddress(ip: IPAddress(v6High: high, low: low), port: port)
        }
        return nil
    }

    /// RFC 8489 §14.7: the CRC-32 of all before it, XORed with 0x5354554E; it has to be the last attribute.
    private mutating func checkFingerprint(
        in bytes: RawSpan,
        attributeOffset: Int,
        place: Place
    ) throws(STUNError) {
        guard place.length == 4, place.offset + 4 == bytes.byteCount else { throw .badFingerprint }
        let expected = CRC32.checksum(of: bytes.extracting(0..<attributeOffset)) ^ STUNBuilder.fingerprintMask
        guard bytes.uint32(at: place.offset) == expected else { throw .badFingerprint }
        hasFingerprint = true
    }
}

extension STUNMessage.TransactionID {
    /// The magic cookie and the transaction id, which IPv6 addresses are XORed with.
    var addressMask: (high: UInt64, low: UInt64) {
        (
            UInt64(STUNMessage.magicCookie) << 32 | high >> 32,
            high << 32 | UInt64(low)
        )
    }
}
