internal import COpenSSL

/// An AES-GCM key in an OpenSSL context: for processors that intel-ipsec-mb is not made for, and what the tests hold it against.
///
/// Owns `context`; every call into it passes lengths that its caller has checked against the buffers.
struct EVPGCMKey: ~Copyable {
    static let tagLength = 16

    private let context: OpaquePointer

    /// - Parameter key: 16 or 32 bytes.
    init(_ key: [UInt8]) throws(SRTPError) {
        guard key.count == 16 || key.count == 32 else { throw .badKeyLength(expected: 16, found: key.count) }
        guard let context = EVP_CIPHER_CTX_new() else { throw .cipherUnavailable }
        let cipher = key.count == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm()
        guard EVP_CipherInit_ex(context, cipher, nil, key, nil, 1) == 1 else {
            EVP_CIPHER_CTX_free(context)
            throw .cipherUnavailable
        }
        self.context = context
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    /// Encrypts `count` bytes and writes the tag behind them.
    ///
    /// - Parameter source: May be `target`, else they must not overlap.
    @inline(__always)
    func seal(
        _ nonce: GCMNonce,
        _ associated: UnsafeRawBufferPointer,
        from source: UnsafeRawPointer,
        to target: UnsafeMutableRawPointer,
        count: Int
    ) -> Bool {
        guard begin(nonce, associated, encrypts: true), count == 0 || update(target, source, count) else {
            return false
        }
        var length: Int32 = 0
        let end = target + count
        return EVP_CipherFinal_ex(context, end.assumingMemoryBound(to: UInt8.self), &length) == 1
            && sluice_EVP_GCM_get_tag(context, end, Int32(Self.tagLength)) == 1
    }

    /// Decrypts `count` bytes in place and checks the tag behind them.
    @inline(__always)
    func open(
        _ nonce: GCMNonce,
        _ associated: UnsafeRawBufferPointer,
        at text: UnsafeMutableRawPointer,
        count: Int
    ) -> Bool {
        guard begin(nonce, associated, encrypts: false), count == 0 || update(text, text, count) else { return false }
        sluice_EVP_GCM_set_tag(context, text + count, Int32(Self.tagLength))
        var length: Int32 = 0
        var nothing = InlineArray<16, UInt8>(repeating: 0)
        return withUnsafeMutableBytes(of: &nothing) {
            EVP_CipherFinal_ex(context, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), &length) == 1
        }
    }

    @inline(__always)
    private func begin(_ nonce: GCMNonce, _ associated: UnsafeRawBufferPointer, encrypts: Bool) -> Bool {
        guard nonce.withBytes({ EVP_CipherInit_ex(context, nil, nil, nil, $0, encrypts ? 1 : 0) }) == 1 else {
            return false
        }
        var length: Int32 = 0
        return EVP_CipherUpdate(
            context,
            nil,
            &length,
            associated.baseAddress?.assumingMemoryBound(to: UInt8.self),
            Int32(truncatingIfNeeded: associated.count)
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
}
