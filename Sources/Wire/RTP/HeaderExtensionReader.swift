/// One header extension element (RFC 8285): its identifier and where its value lies.
public struct HeaderExtensionElement: BitwiseCopyable, Sendable {
    /// 1 to 14 in the one-byte form, 1 to 255 in the two-byte form.
    public var id: UInt8
    /// Offset of the value from the packet's first byte.
    public var offset: Int
    /// The value's length: 1 to 16 bytes in the one-byte form, 0 to 255 in the two-byte form.
    public var length: Int

    @inlinable
    public init(id: UInt8, offset: Int, length: Int) {
        self.id = id
        self.offset = offset
        self.length = length
    }
}

/// Steps through the header extension elements of a packet. Elements that reach beyond the extension end it.
public struct HeaderExtensionReader: BitwiseCopyable, Sendable {
    @usableFromInline var offset: Int
    @usableFromInline let end: Int
    @usableFromInline let usesTwoBytes: Bool

    /// - Parameter header: The header of the packet that `next` is given.
    @inlinable
    public init(_ header: RTPHeader) {
        offset = header.extensionOffset
        let isOneByte = header.extensionProfile == 0xBEDE
        usesTwoBytes = header.extensionProfile & 0xFFF0 == 0x1000
        end = isOneByte || usesTwoBytes ? offset + header.extensionLength : offset
    }

    /// The next element, or nil at the extension's end.
    @inlinable
    public mutating func next(in bytes: RawSpan) -> HeaderExtensionElement? {
        let end = min(end, bytes.byteCount)
        while offset < end {
            let prefix = bytes.byte(at: offset)
            if prefix == 0 {
                // RFC 8285 §4.1.2: padding, one byte in both forms.
                offset += 1
                continue
            }
            let id: UInt8
            let length: Int
            let value: Int
            if usesTwoBytes {
                guard offset + 2 <= end else { break }
                id = prefix
                length = Int(bytes.byte(at: offset + 1))
                value = offset + 2
            } else {
                id = prefix >> 4
                // RFC 8285 §4.2: identifier 15 ends the extension, and so does identifier 0 with a length. Of the two-byte form
                // any identifier but 0 is an element's.
                guard id != 15, id != 0 else { break }
                length = Int(prefix & 0x0F) + 1
                value = offset + 1
            }
            guard value + length <= end else { break }
            offset = value + length
            return HeaderExtensionElement(id: id, offset: value, length: length)
        }
        offset = end
        return nil
    }
}
