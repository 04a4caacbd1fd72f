/// Writes a STUN message (RFC 8489) behind what a buffer already holds.
public struct STUNBuilder {
    static let fingerprintMask: UInt32 = 0x5354_554E

    /// The message so far, with whatever stood before it in the buffer.
    public private(set) var bytes: [UInt8]
    private let start: Int
    private let transactionID: STUNMessage.TransactionID

    /// Begins a message at the end of `buffer`, which the builder takes over; `finish` gives it back.
    public init(
        _ messageClass: STUNMessage.Class,
        method: UInt16 = STUNMessage.bindingMethod,
        transactionID: STUNMessage.TransactionID,
        buffer: consuming [UInt8] = []
    ) {
        self.transactionID = transactionID
        start = buffer.count
        bytes = buffer
        let spread = method & 0x000F | (method & 0x0070) << 1 | (method & 0x0F80) << 2
        bytes.appendBigEndian(spread | messageClass.rawValue)
        bytes.appendBigEndian(UInt16(0))
        bytes.appendBigEndian(STUNMessage.magicCookie)
        bytes.appendBigEndian(transactionID.high)
        bytes.appendBigEndian(transactionID.low)
    }

    public mutating func addUsername(_ first: String, _ second: String) {
        add(STUNMessage.Attribute.username, value: Array("\(first):\(second)".utf8))
    }

    public mutating func addPriority(_ priority: UInt32) {
        addHeader(STUNMessage.Attribute.priority, length: 4)
        bytes.appendBigEndian(priority)
    }

    public mutating func addUseCandidate() { addHeader(STUNMessage.Attribute.useCandidate, length: 0) }

    public mutating func addControlling(tieBreaker: UInt64) {
        addHeader(STUNMessage.Attribute.iceControlling, length: 8)
        bytes.appendBigEndian(tieBreaker)
    }

    public mutating func addControlled(tieBreaker: UInt64) {
        addHeader(STUNMessage.Attribute.iceControlled, length: 8)
        bytes.appendBigEndian(tieBreaker)
    }

    /// RFC 8489 §14.2.
    public mutating func addXORMappedAddress(_ address: SocketAddress) {
        let port = address.port ^ UInt16(STUNMessage.magicCookie >> 16)
        switch address.ip.family {
        case .v4:
            addHeader(STUNMessage.Attribute.xorMappedAddress, length: 8)
            bytes.appendBigEndian(UInt16(1))
            bytes.appendBigEndian(port)
            bytes.appendBigEndian(UInt32(truncatingIfNeeded: address.ip.low) ^ STUNMessage.magicCookie)
        case .v6:
            addHeader(STUNMessage.Attribute.xorMappedAddress, length: 20)
            bytes.appendBigEndian(UInt16(2))
            bytes.appendBigEndian(port)
            let mask = transactionID.addressMask
            bytes.appendBigEndian(address.ip.high ^ mask.high)
            bytes.appendBigEndian(address.ip.low ^ mask.low)
        }
    }

    /// - Parameter code: 300 to 699; its reason phrase is left empty, as no machine reads it.
    public mutating func addErrorCode(_ code: Int) {
        addHeader(STUNMessage.Attribute.errorCode, length: 4)
        bytes.appendBigEndian(UInt16(0))
        bytes.append(UInt8(clamping: code / 100))
        bytes.append(UInt8(clamping: code % 100))
    }

    public mutating func addUnknownAttribute(_ type: UInt16) {
        addHeader(STUNMessage.Attribute.unknownAttributes, length: 2)
        bytes.appendBigEndian(type)
        bytes.appendBigEndian(UInt16(0))
    }

    /// Adds MESSAGE-INTEGRITY (RFC 8489 §14.5).
    ///
    /// - Parameter hmac: Appends the 20 bytes of HMAC-SHA1 of what it is given.
    public mutating func addMessageIntegrity(_ hmac: (UnsafeRawBufferPointer, inout [UInt8]) -> Void) {
        setLength(adding: 24)
        var tag: [UInt8] = []
        bytes.withUnsafeBytes { hmac(UnsafeRawBufferPointer(rebasing: $0[start...]), &tag) }
        addHeader(STUNMessage.Attribute.messageIntegrity, length: 20)
        bytes.append(contentsOf: tag)
    }

    /// Adds FINGERPRINT (RFC 8489 §14.7): the last attribute.
    public mutating func addFingerprint() {
        setLength(adding: 8)
        let checksum = CRC32.checksum(of: bytes.span.bytes.extracting(start..<bytes.count)) ^ Self.fingerprintMask
        addHeader(STUNMessage.Attribute.fingerprint, length: 4)
        bytes.appendBigEndian(checksum)
    }

    /// The buffer with the whole message at its end.
    public consuming func finish() -> [UInt8] {
        setLength(adding: 0)
        return bytes
    }

    /// Adds an attribute of any type.
    public mutating func add(_ type: UInt16, value: [UInt8]) {
        addHeader(type, length: value.count)
        bytes.append(contentsOf: value)
        while (bytes.count - start) & 3 != 0 { bytes.append(0) }
    }

    private mutating func addHeader(_ type: UInt16, length: Int) {
        bytes.appendBigEndian(type)
        bytes.appendBigEndian(UInt16(clamping: length))
    }

    /// Sets the header's length to what is there and `additional` bytes more.
    private mutating func setLength(adding additional: Int) {
        let length = UInt16(clamping: bytes.count - start - STUNMessage.headerLength + additional)
        bytes[start + 2] = UInt8(truncatingIfNeeded: length >> 8)
        bytes[start + 3] = UInt8(truncatingIfNeeded: length)
    }
}
