/// An RTP header (RFC 3550 §5.1) and where the parts behind it lie.
public struct RTPHeader: BitwiseCopyable, Sendable {
    /// The fixed header's length in bytes.
    public static let minimumLength = 12

    public var marker: Bool
    /// The P bit. In SRTP the padding's length is encrypted: ask `paddingLength` after opening.
    public var hasPadding: Bool
    /// 0 to 127.
    public var payloadType: UInt8
    public var sequenceNumber: UInt16
    public var timestamp: UInt32
    public var ssrc: UInt32
    /// Contributing sources, 0 to 15.
    public var csrcCount: Int
    /// 0xBEDE for one-byte elements, 0x1000 to 0x100F for two-byte elements (RFC 8285 §4), 0 without an extension.
    public var extensionProfile: UInt16
    /// Offset of the first byte behind the extension's own 4-byte header.
    public var extensionOffset: Int
    /// The extension's length in bytes without its own header; 0 without one.
    public var extensionLength: Int
    /// Offset of the payload from the packet's first byte.
    public var payloadOffset: Int

    /// Parses a packet's header and checks every length in it against the packet's.
    ///
    /// - Throws: When the packet is shorter than its header says, or its version isn't 2.
    @inlinable
    public init(parsing bytes: RawSpan) throws(RTPError) {
        let count = bytes.byteCount
        guard count >= Self.minimumLength else {
            throw .truncated(expected: Self.minimumLength, found: count)
        }
        let first = bytes.byte(at: 0)
        guard first >> 6 == 2 else { throw .badVersion(first >> 6) }
        let second = bytes.byte(at: 1)
        marker = second & 0x80 != 0
        hasPadding = first & 0x20 != 0
        payloadType = second & 0x7F
        sequenceNumber = bytes.uint16(at: 2)
        timestamp = bytes.uint32(at: 4)
        ssrc = bytes.uint32(at: 8)
        csrcCount = Int(first & 0x0F)
        extensionProfile = 0
        extensionOffset = 0
        extensionLength = 0

        var offset = Self.minimumLength + csrcCount * 4
        if first & 0x10 != 0 {
            guard count >= offset + 4 else { throw .truncated(expected: offset + 4, found: count) }
            extensionProfile = bytes.uint16(at: offset)
            extensionLength = Int(bytes.uint16(at: offset + 2)) * 4
            extensionOffset = offset + 4
            offset = extensionOffset + extensionLength
        }
        guard count >= offset else { throw .truncated(expected: offset, found: count) }
        payloadOffset = offset
    }

    /// The padding's length in a decrypted packet, its own count byte included; 0 without the P bit (RFC 3550 §5.1).
    ///
    /// - Throws: When it is 0 or reaches into the header.
    @inlinable
    public func paddingLength(in bytes: RawSpan) throws(RTPError) -> Int {
        guard hasPadding else { return 0 }
        guard bytes.byteCount > payloadOffset else { throw .badPadding(0) }
        let length = bytes.byte(at: bytes.byteCount - 1)
        guard length > 0, Int(length) <= bytes.byteCount - payloadOffset else { throw .badPadding(length) }
        return Int(length)
    }
}
