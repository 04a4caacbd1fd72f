/// Steps through the bytes of a payload; nil at its end.
struct PayloadReader: ~Escapable {
    private let bytes: RawSpan
    private(set) var offset = 0

    @_lifetime(copy bytes)
    init(_ bytes: RawSpan) { self.bytes = bytes }

    var remaining: Int { bytes.byteCount - offset }

    mutating func byte() -> UInt8? {
        guard remaining >= 1 else { return nil }
        defer { offset += 1 }
        return bytes.byte(at: offset)
    }

    mutating func uint16() -> UInt16? {
        guard remaining >= 2 else { return nil }
        defer { offset += 2 }
        return bytes.uint16(at: offset)
    }

    /// A picture ID of 7 or, when its first bit says so, 15 bits: the same in VP8 (RFC 7741 §4.2) and VP9 (RFC 9628 §4.2).
    mutating func pictureID() -> (value: UInt16, isLong: Bool)? {
        guard let high = byte() else { return nil }
        guard high & 0x80 != 0 else { return (UInt16(high), false) }
        guard let low = byte() else { return nil }
        return (UInt16(high & 0x7F) << 8 | UInt16(low), true)
    }

    /// Steps over `count` bytes, 0 or more.
    mutating func skip(_ count: Int) -> Bool {
        guard count >= 0, remaining >= count else { return false }
        offset += count
        return true
    }
}
