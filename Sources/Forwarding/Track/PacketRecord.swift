import Transport
import Wire

/// What is known of one received RTP packet, so that no subscription has to parse it again.
struct PacketRecord: BitwiseCopyable {
    /// One header extension element that may be of use to viewers.
    struct Extension: BitwiseCopyable {
        /// `HeaderExtension.rawValue`.
        var meaning: UInt8 = 0
        /// The value's length in bytes.
        var length: UInt8 = 0
        /// The value's offset from the packet's first byte.
        var offset: UInt16 = 0
    }

    /// Most header extension elements that are kept of a packet.
    static let maximumExtensions = 8

    /// The packet as it was received, in a `PacketChunk`; nil until it is kept there.
    var bytes: UnsafeRawPointer?
    /// The sequence number, extended to 64 bits; no packet has 0.
    var sequence: UInt64 = 0
    var receivedAt = Instant(nanoseconds: 0)
    var timestamp: UInt32 = 0
    /// Where the payload begins and ends in the packet's bytes; padding is left out, RTX's original sequence number too.
    var payloadOffset: UInt16 = 0
    var payloadEnd: UInt16 = 0
    var marker = false
    /// Whether a decoder can start with this packet.
    var startsKeyframe = false
    /// Whether packets before it were let go: viewers go on with it without a gap in their numbers.
    var followsInterruption = false
    /// Whether that decoder has to have parameter sets already.
    var isBare = false
    /// Which layer it is of, and what it is to that layer's frames.
    var layer = LayerInfo()
    var extensionCount: UInt8 = 0
    var extensions = InlineArray<8, Extension>(repeating: Extension())

    /// The payload's length in bytes; 0 for a packet that only carries padding.
    var payloadLength: Int { Int(payloadEnd) - Int(payloadOffset) }

    /// Where in the packet the value of a header extension element of this meaning lies; nil where it has none.
    func place(of meaning: HeaderExtension) -> Range<Int>? {
        for index in 0..<Int(extensionCount) where extensions[index].meaning == meaning.rawValue {
            let offset = Int(extensions[index].offset)
            return offset..<(offset + Int(extensions[index].length))
        }
        return nil
    }

    /// Notes an element, when there is room for it.
    mutating func append(_ meaning: HeaderExtension, offset: Int, length: Int) {
        guard Int(extensionCount) < Self.maximumExtensions, length <= Int(UInt8.max) else { return }
        extensions[Int(extensionCount)] = Extension(
            meaning: meaning.rawValue,
            length: UInt8(length),
            offset: UInt16(truncatingIfNeeded: offset)
        )
        extensionCount += 1
    }
}
