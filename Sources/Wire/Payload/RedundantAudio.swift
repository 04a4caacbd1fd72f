/// The headers of redundant audio data (RFC 2198 §3): a packet that carries frames of the packets before it once more begins with one for
/// each of them, and a last one for its own frame.
public enum RedundantAudio {
    /// Bytes of an earlier frame's header, and of the last header.
    public static let headerBytes = 4
    public static let lastHeaderBytes = 1
    /// Longest frame in bytes that can be carried once more, and how much earlier it may be in units of the RTP timestamp.
    private static let maximumFrameBytes = 1023
    private static let maximumTimestampOffset: UInt32 = 16_383

    /// The header of an earlier frame, to be written in network byte order.
    ///
    /// - Parameters:
    ///   - payloadType: The frame's, 0 to 127.
    ///   - timestampOffset: How much earlier it is than the packet, with wrapping.
    ///   - byteCount: Its length.
    /// - Returns: Nil where such a frame can't be carried.
    public static func header(payloadType: UInt8, timestampOffset: UInt32, byteCount: Int) -> UInt32? {
        guard (1...maximumFrameBytes).contains(byteCount), (1...maximumTimestampOffset).contains(timestampOffset) else {
            return nil
        }
        return 1 << 31 | UInt32(payloadType & 0x7F) << 24 | timestampOffset << 10 | UInt32(byteCount)
    }

    /// The last header.
    public static func lastHeader(payloadType: UInt8) -> UInt8 { payloadType & 0x7F }
}
