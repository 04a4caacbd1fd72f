internal import COpenSSL

/// One direction's session keys of AES_CM_128_HMAC_SHA1_80 for RTP or for RTCP (RFC 3711), in an OpenSSL context that is kept: only
/// the IV changes from packet to packet.
///
/// Owns `context`; every call into it passes lengths that its caller has checked against the buffers.
struct CounterModeCipher: ~Copyable {
    /// Bytes of a packet's authentication tag.
    static let tagLength = 10

    let authenticator: HMACSHA1
    private let context: OpaquePointer
    /// The salt's 14 bytes and two zeros, as two big-endian numbers.
    private let saltHigh: UInt64
    private let saltLow: UInt64

    init(_ keys: SRTPKeyDerivation, encrypts: Bool) throws(SRTPError) {
        let salt = try keys.salt()
        let key = try keys.encryptionKey()
        let authenticator = HMACSHA1(key: try keys.authenticationKey())
        guard let context = EVP_CIPHER_CTX_new() else { throw .cipherUnavailable }
        guard EVP_CipherInit_ex(context, EVP_aes_128_ctr(), nil, key, nil, encrypts ? 1 : 0) == 1 else {
            EVP_CIPHER_CTX_free(context)
            throw .cipherUnavailable
        }
        self.context = context
        self.authenticator = authenticator
        saltHigh = salt[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
        saltLow = salt[8..<14].reduce(0) { $0 << 8 | UInt64($1) } << 16
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    /// En- or decrypts `count` bytes and then, behind them at `target`, `padding` bytes of RTP padding (RFC 3711 §4.1.1).
    ///
    /// - Parameter index: SRTP's 48-bit or SRTCP's 31-bit packet index.
    @inline(__always)
    func transform(
        ssrc: UInt32,
        index: UInt64,
        from source: UnsafeRawPointer,
        to target: UnsafeMutableRawPointer,
        count: Int,
        padding: Int = 0
    ) -> Bool {
        var iv = ((saltHigh ^ UInt64(ssrc)).bigEndian, (saltLow ^ index << 16).bigEndian)
        let hasIV = withUnsafeBytes(of: &iv) {
            EVP_CipherInit_ex(context, nil, nil, nil, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), -1) == 1
        }
        guard hasIV, count == 0 || update(target, source, count) else { return false }
        guard padding > 0 else { return true }
        RTPPadding.write(padding, at: target + count)
        return update(target + count, target + count, padding)
    }

    @inline(__always)
    private func update(_ target: UnsafeMutableRawPointer, _ source: UnsafeRawPointer, _ count: Int) -> Bool {
        var length: Int32 = 0
        return EVP_CipherUpdate(
            context,
            target.assumingMemoryBound(to: UInt8.self),
            &length,
            source.assumingMemoryBound(to: UInt8.self),
            Int32(truncatingIfNeeded: count)
        ) == 1
    }
}

/// RTP padding (RFC 3550 §5.1).
enum RTPPadding {
    /// Writes zeros, and their number in the last byte.
    ///
    /// - Parameter count: 1 to 255 bytes.
    static func write(_ count: Int, at target: UnsafeMutableRawPointer) {
        target.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        target.storeBytes(of: UInt8(truncatingIfNeeded: count), toByteOffset: count - 1, as: UInt8.self)
    }
}
