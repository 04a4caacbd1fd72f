/// Why bytes are not an RTP packet.
public enum RTPError: Error, Sendable, Hashable {
    /// Shorter than what its own header says: so many bytes were expected, and so many found.
    case truncated(expected: Int, found: Int)
    /// The version field is not 2.
    case badVersion(UInt8)
    /// The padding's length is 0, or more than the payload's.
    case badPadding(UInt8)
}
