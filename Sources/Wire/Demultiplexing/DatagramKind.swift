/// Which protocol a datagram speaks, told by its first byte (RFC 7983 §7).
public enum DatagramKind: Sendable {
    case stun
    case dtls
    /// SRTP or SRTCP; `RTCP.isRTCP` tells them apart.
    case srtp
    case unknown

    @inlinable
    public init(firstByte: UInt8) {
        switch firstByte {
        case 0...3: self = .stun
        case 20...63: self = .dtls
        case 128...191: self = .srtp
        default: self = .unknown
        }
    }
}

/// RTP and RTCP on one port (RFC 5761).
public enum RTCP {
    /// Whether the packet with this second byte is RTCP (RFC 5761 §4): packet types 192 to 223.
    @inlinable
    public static func isRTCP(secondByte: UInt8) -> Bool { secondByte >= 192 && secondByte <= 223 }
}
