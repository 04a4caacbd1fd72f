#if arch(x86_64)
internal import CIPsecMB
internal import COpenSSL

/// An AES-GCM key with its schedule and its powers of the hash key, for intel-ipsec-mb.
///
/// Owns `schedule`, which is written once, here, and wiped before it is freed; every call passes lengths that its caller has
/// checked against the buffers.
struct IPsecMBKey: ~Copyable {
    static let tagLength = 16

    private let schedule: UnsafeMutablePointer<gcm_key_data>
    private let encrypt: aes_gcm_enc_dec_t
    private let decrypt: aes_gcm_enc_dec_t

    /// - Parameter key: 16 or 32 bytes.
    init(_ key: [UInt8]) throws(SRTPError) {
        guard key.count == 16 || key.count == 32 else { throw .badKeyLength(expected: 16, found: key.count) }
        let is256: Int32 = key.count == 32 ? 1 : 0
        guard let manager = IPsecMBManager.shared.pointer, let encrypt = sluice_gcm_enc(manager, is256),
            let decrypt = sluice_gcm_dec(manager, is256)
        else { throw .cipherUnavailable }
        self.encrypt = encrypt
        self.decrypt = decrypt
        let memory = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<gcm_key_data>.size, alignment: 64)
        schedule = memory.bindMemory(to: gcm_key_data.self, capacity: 1)
        if is256 == 1 {
            sluice_gcm256_pre(manager, key, schedule)
        } else {
            sluice_gcm128_pre(manager, key, schedule)
        }
    }

    deinit {
        OPENSSL_cleanse(schedule, MemoryLayout<gcm_key_data>.size)
        UnsafeMutableRawPointer(schedule).deallocate()
    }

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
        run(encrypt, nonce, associated, from: source, to: target, count: count, tag: target + count)
        return true
    }

    /// Decrypts `count` bytes in place and checks the tag behind them.
    @inline(__always)
    func open(
        _ nonce: GCMNonce,
        _ associated: UnsafeRawBufferPointer,
        at text: UnsafeMutableRawPointer,
        count: Int
    ) -> Bool {
        var tag = InlineArray<16, UInt8>(repeating: 0)
        return withUnsafeMutableBytes(of: &tag) { tag in
            guard let base = tag.baseAddress else { return false }
            // Should the library write no tag, the one that is there is wrong.
            for index in tag.indices { tag[index] = ~text.load(fromByteOffset: count + index, as: UInt8.self) }
            run(decrypt, nonce, associated, from: text, to: text, count: count, tag: base)
            return CRYPTO_memcmp(base, text + count, Self.tagLength) == 0
        }
    }

    @inline(__always)
    private func run(
        _ function: aes_gcm_enc_dec_t,
        _ nonce: GCMNonce,
        _ associated: UnsafeRawBufferPointer,
        from source: UnsafeRawPointer,
        to target: UnsafeMutableRawPointer,
        count: Int,
        tag: UnsafeMutableRawPointer
    ) {
        // Room for what the function keeps while it runs.
        var context = gcm_context_data()
        nonce.withBytes { nonce in
            function(
                schedule,
                &context,
                target.assumingMemoryBound(to: UInt8.self),
                source.assumingMemoryBound(to: UInt8.self),
                UInt64(count),
                nonce,
                associated.baseAddress?.assumingMemoryBound(to: UInt8.self),
                UInt64(associated.count),
                tag.assumingMemoryBound(to: UInt8.self),
                UInt64(Self.tagLength)
            )
        }
    }
}

/// intel-ipsec-mb's table of the functions for the processor that this runs on.
///
/// `@unchecked Sendable`: it is filled once, before anybody has it, and only read after that: the functions that are taken from
/// it keep nothing in it.
private struct IPsecMBManager: @unchecked Sendable {
    static let shared = IPsecMBManager()

    let pointer: UnsafeMutablePointer<IMB_MGR>?

    private init() {
        pointer = alloc_mb_mgr(0)
        if let pointer { init_mb_mgr_auto(pointer, nil) }
    }
}
#endif
