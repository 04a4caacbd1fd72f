internal import COpenSSL

/// One direction's session keys for RTP or for RTCP, in OpenSSL contexts that are kept: only the IV changes from packet to
/// packet.
///
/// Owns `context`; every call into it passes lengths that its caller has checked against the buffers.
final class SRTPCipher {
    /// Key derivation labels (RFC 3711 §4.3.1): encryption, authentication and salt follow each other.
    enum Purpose: UInt8 {
        case rtp = 0
        case rtcp = 3
    }

    private let context: OpaquePointer
    private let salt: InlineArray<16, UInt8>
    private let encrypts: Bool
    /// Present in the profiles that are no AEAD.
    let authenticator: HMACSHA1?

    /// Derives the session keys (RFC 3711 §4.3) and sets them up.
    convenience init(
        _ profile: SRTPProfile,
        _ purpose: Purpose,
        masterKey: [UInt8],
        masterSalt: [UInt8],
        encrypts: Bool
    ) throws(SRTPError) {
        guard masterKey.count == profile.keyLength else {
            throw .badKeyLength(expected: profile.keyLength, found: masterKey.count)
        }
        guard masterSalt.count == profile.saltLength else {
            throw .badKeyLength(expected: profile.saltLength, found: masterSalt.count)
        }
        func derive(_ label: UInt8, _ count: Int) throws(SRTPError) -> [UInt8] {
            try Self.derive(label: label, count: count, masterKey: masterKey, masterSalt: masterSalt)
        }
        try self.init(
            profile,
            sessionKey: try derive(purpose.rawValue, profile.keyLength),
            sessionSalt: try derive(purpose.rawValue + 2, profile.saltLength),
            authenticator: profile.isAEAD
                ? nil : HMACSHA1(key: try derive(purpose.rawValue + 1, HMACSHA1.tagLength)),
            encrypts: encrypts
        )
    }

    /// Sets session keys up, which have the profile's lengths.
    init(
        _ profile: SRTPProfile,
        sessionKey: [UInt8],
        sessionSalt: [UInt8],
        authenticator: HMACSHA1?,
        encrypts: Bool
    ) throws(SRTPError) {
        var padded = InlineArray<16, UInt8>(repeating: 0)
        for (index, byte) in sessionSalt.prefix(14).enumerated() { padded[index] = byte }
        salt = padded
        self.authenticator = authenticator
        self.encrypts = encrypts

        guard let context = EVP_CIPHER_CTX_new() else { throw .cipherUnavailable }
        let cipher =
            switch profile {
            case .aes128CounterModeHMACSHA1Tag80: EVP_aes_128_ctr()
            case .aeadAES128GCM: EVP_aes_128_gcm()
            case .aeadAES256GCM: EVP_aes_256_gcm()
            }
        guard EVP_CipherInit_ex(context, cipher, nil, sessionKey, nil, encrypts ? 1 : 0) == 1 else {
            EVP_CIPHER_CTX_free(context)
            throw .cipherUnavailable
        }
        self.context = context
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    // MARK: Counter mode

    /// En- or decrypts `count` bytes and then `padding` bytes of RTP padding (RFC 3711 §4.1.1).
    @inline(__always)
    func transformCounterMode(
        ssrc: UInt32,
        index: UInt64,
        from source: UnsafeRawPointer,
        to target: UnsafeMutableRawPointer,
        count: Int,
        padding: Int = 0
    ) -> Bool {
        var iv = salt
        Self.mix(UInt64(ssrc), bytes: 4, at: 4, into: &iv)
        Self.mix(index, bytes: 6, at: 8, into: &iv)
        return setIV(&iv) && (count == 0 || update(target, source, count)) && pad(target + count, padding)
    }

    // MARK: AEAD

    /// Encrypts `count` bytes and then `padding` bytes of RTP padding, and writes the 16 bytes of tag behind them.
    @inline(__always)
    func seal(
        iv: inout InlineArray<16, UInt8>,
        _ associated: UnsafeRawBufferPointer,
        _ moreAssociated: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        from source: UnsafeRawPointer,
        to target: UnsafeMutableRawPointer,
        count: Int,
        padding: Int = 0
    ) -> Bool {
        guard setIV(&iv), authenticate(associated), moreAssociated.isEmpty || authenticate(moreAssociated),
            count == 0 || update(target, source, count), pad(target + count, padding)
        else { return false }
        var length: Int32 = 0
        let end = target + count + padding
        return EVP_CipherFinal_ex(context, end.assumingMemoryBound(to: UInt8.self), &length) == 1
            && sluice_EVP_GCM_get_tag(context, end, 16) == 1
    }

    /// Decrypts `count` bytes in place and checks the tag of 16 bytes at `tag`.
    @inline(__always)
    func open(
        iv: inout InlineArray<16, UInt8>,
        _ associated: UnsafeRawBufferPointer,
        _ moreAssociated: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        at text: UnsafeMutableRawPointer,
        count: Int,
        tag: UnsafeMutableRawPointer
    ) -> Bool {
        guard setIV(&iv), authenticate(associated), moreAssociated.isEmpty || authenticate(moreAssociated),
            count == 0 || update(text, text, count)
        else { return false }
        sluice_EVP_GCM_set_tag(context, tag, 16)
        var length: Int32 = 0
        var nothing = InlineArray<16, UInt8>(repeating: 0)
        return withUnsafeMutableBytes(of: &nothing) {
            EVP_CipherFinal_ex(context, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), &length) == 1
        }
    }

    /// RFC 7714 §8.1.
    @inline(__always)
    func rtpIV(ssrc: UInt32, index: UInt64) -> InlineArray<16, UInt8> {
        var iv = salt
        Self.mix(UInt64(ssrc), bytes: 4, at: 2, into: &iv)
        Self.mix(index, bytes: 6, at: 6, into: &iv)
        return iv
    }

    /// RFC 7714 §9.1.
    @inline(__always)
    func rtcpIV(ssrc: UInt32, index: UInt32) -> InlineArray<16, UInt8> {
        var iv = salt
        Self.mix(UInt64(ssrc), bytes: 4, at: 2, into: &iv)
        Self.mix(UInt64(index), bytes: 4, at: 8, into: &iv)
        return iv
    }

    // MARK: OpenSSL

    @inline(__always)
    private func setIV(_ iv: inout InlineArray<16, UInt8>) -> Bool {
        withUnsafeBytes(of: &iv) {
            EVP_CipherInit_ex(
                context,
                nil,
                nil,
                nil,
                $0.baseAddress?.assumingMemoryBound(to: UInt8.self),
                encrypts ? 1 : 0
            ) == 1
        }
    }

    @inline(__always)
    private func authenticate(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var length: Int32 = 0
        return EVP_CipherUpdate(
            context,
            nil,
            &length,
            bytes.baseAddress?.assumingMemoryBound(to: UInt8.self),
            Int32(truncatingIfNeeded: bytes.count)
        ) == 1
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

    /// Writes RTP padding (RFC 3550 §5.1: zeros, and its length in the last byte) and encrypts it behind what came before.
    @inline(__always)
    private func pad(_ target: UnsafeMutableRawPointer, _ count: Int) -> Bool {
        guard count > 0 else { return true }
        target.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        target.storeBytes(of: UInt8(truncatingIfNeeded: count), toByteOffset: count - 1, as: UInt8.self)
        return update(target, target, count)
    }

    /// XORs the lowest `bytes` bytes of a number, big-endian, into an IV.
    @inline(__always)
    private static func mix(_ value: UInt64, bytes: Int, at offset: Int, into iv: inout InlineArray<16, UInt8>) {
        for index in 0..<bytes {
            iv[offset + index] ^= UInt8(truncatingIfNeeded: value >> UInt64((bytes - 1 - index) * 8))
        }
    }

    /// The key derivation function with a key derivation rate of 0 (RFC 3711 §4.3.1; with AES-256, RFC 6188 §3; the shorter
    /// salt of GCM is padded behind, RFC 7714 §11).
    static func derive(
        label: UInt8,
        count: Int,
        masterKey: [UInt8],
        masterSalt: [UInt8]
    ) throws(SRTPError) -> [UInt8] {
        var iv = masterSalt + [UInt8](repeating: 0, count: 16 - masterSalt.count)
        iv[7] ^= label
        guard let context = EVP_CIPHER_CTX_new() else { throw .cipherUnavailable }
        defer { EVP_CIPHER_CTX_free(context) }
        let cipher = masterKey.count == 32 ? EVP_aes_256_ctr() : EVP_aes_128_ctr()
        let zeros = [UInt8](repeating: 0, count: count)
        var output = [UInt8](repeating: 0, count: count)
        var length: Int32 = 0
        guard EVP_EncryptInit_ex(context, cipher, nil, masterKey, iv) == 1,
            EVP_EncryptUpdate(context, &output, &length, zeros, Int32(count)) == 1, length == Int32(count)
        else { throw .cipherUnavailable }
        return output
    }
}
