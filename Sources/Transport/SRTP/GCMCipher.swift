/// One direction's session keys of an AEAD profile for RTP or for RTCP (RFC 7714).
struct GCMCipher: ~Copyable {
    private let key: GCMKey
    /// The salt's 12 bytes as two big-endian numbers.
    private let saltHigh: UInt64
    private let saltLow: UInt32

    init(_ keys: SRTPKeyDerivation) throws(SRTPError) {
        try self.init(sessionKey: try keys.encryptionKey(), sessionSalt: try keys.salt())
    }

    /// - Parameters:
    ///   - sessionKey: 16 or 32 bytes.
    ///   - sessionSalt: 12 bytes.
    init(sessionKey: [UInt8], sessionSalt: [UInt8]) throws(SRTPError) {
        guard sessionSalt.count == 12 else { throw .badKeyLength(expected: 12, found: sessionSalt.count) }
        key = try GCMKey(sessionKey)
        saltHigh = sessionSalt[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
        saltLow = sessionSalt[8..<12].reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// RFC 7714 §8.1 and §9.1: two zeros, the SSRC, and the packet's index in 48 bits, XORed with the salt.
    ///
    /// - Parameter index: SRTP's 48-bit or SRTCP's 31-bit packet index.
    @inline(__always)
    private func nonce(ssrc: UInt32, index: UInt64) -> GCMNonce {
        GCMNonce(
            high: saltHigh ^ UInt64(ssrc) << 16 ^ index >> 32,
            low: saltLow ^ UInt32(truncatingIfNeeded: index)
        )
    }

    /// Encrypts `count` bytes and then `padding` bytes of RTP padding, and writes the 16 bytes of tag behind them.
    ///
    /// - Parameters:
    ///   - associated: Authenticated, not encrypted.
    ///   - source: May be `target`, else they must not overlap.
    @inline(__always)
    func seal(
        ssrc: UInt32,
        index: UInt64,
        _ associated: UnsafeRawBufferPointer,
        from source: UnsafeRawPointer,
        to target: UnsafeMutableRawPointer,
        count: Int,
        padding: Int = 0
    ) -> Bool {
        let nonce = nonce(ssrc: ssrc, index: index)
        guard padding > 0 else { return key.seal(nonce, associated, from: source, to: target, count: count) }
        // One call for both is cheaper than one for each, although the payload is copied.
        if source != UnsafeRawPointer(target) { target.copyMemory(from: source, byteCount: count) }
        RTPPadding.write(padding, at: target + count)
        return key.seal(nonce, associated, from: target, to: target, count: count + padding)
    }

    /// Decrypts `count` bytes in place and checks the 16 bytes of tag behind them.
    @inline(__always)
    func open(
        ssrc: UInt32,
        index: UInt64,
        _ associated: UnsafeRawBufferPointer,
        at text: UnsafeMutableRawPointer,
        count: Int
    ) -> Bool {
        key.open(nonce(ssrc: ssrc, index: index), associated, at: text, count: count)
    }
}

/// A nonce of 12 bytes.
struct GCMNonce: BitwiseCopyable {
    /// Its first eight bytes and its last four, big-endian.
    private var words: (UInt32, UInt32, UInt32)

    @inline(__always)
    init(high: UInt64, low: UInt32) {
        words = (
            UInt32(truncatingIfNeeded: high >> 32).bigEndian, UInt32(truncatingIfNeeded: high).bigEndian, low.bigEndian
        )
    }

    @inline(__always)
    func withBytes<Result>(_ body: (UnsafePointer<UInt8>) -> Result) -> Result {
        withUnsafePointer(to: words) { words in
            words.withMemoryRebound(to: UInt8.self, capacity: 12) { body($0) }
        }
    }
}

// A kept key of AES-GCM (NIST SP 800-38D). Decision 005 says why there are two.
#if arch(x86_64)
typealias GCMKey = IPsecMBKey
#else
typealias GCMKey = EVPGCMKey
#endif
