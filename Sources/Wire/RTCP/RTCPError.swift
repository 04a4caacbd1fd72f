/// Why bytes are not an RTCP compound packet (RFC 3550 §6.4, RFC 5506).
public enum RTCPError: Error, Sendable, Hashable {
    /// A packet says that it is longer than what is left.
    case truncated(expected: Int, found: Int)
    /// The version field is not 2.
    case badVersion(UInt8)
    /// A packet of this type is shorter than its fixed part, or holds fewer items than it says.
    case badLength(packetType: UInt8)
    /// The padding's length is 0 or more than the packet's; or a packet other than the last has padding.
    case badPadding
}
