/// CRC-32 as STUN's FINGERPRINT uses it (ITU V.42, RFC 8489 §14.7).
enum CRC32 {
    private static let table: [UInt32] = (0..<256).map { index in
        var remainder = UInt32(index)
        for _ in 0..<8 { remainder = remainder & 1 == 1 ? remainder >> 1 ^ 0xEDB8_8320 : remainder >> 1 }
        return remainder
    }

    static func checksum(of bytes: RawSpan) -> UInt32 {
        var checksum = UInt32.max
        for offset in 0..<bytes.byteCount {
            let index = UInt8(truncatingIfNeeded: checksum) ^ bytes.byte(at: offset)
            checksum = checksum >> 8 ^ table[Int(index)]
        }
        return ~checksum
    }
}
