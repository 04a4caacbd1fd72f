/// Why bytes are not a STUN message that we read (RFC 8489).
public enum STUNError: Error, Sendable, Hashable {
    /// Fewer bytes than the header needs or says.
    case truncated(expected: Int, found: Int)
    /// The first two bits are not 0, the length is no multiple of 4, or it differs from the datagram's.
    case badHeader
    /// The magic cookie is not 0x2112A442.
    case badCookie(UInt32)
    /// An attribute reaches beyond the message's end.
    case badAttribute(type: UInt16)
    /// FINGERPRINT is there and wrong, or not the last attribute.
    case badFingerprint
}
