internal import COpenSSL

/// What all DTLS sessions of one worker share: certificate, ciphers, SRTP profiles. Confined to its worker's thread.
///
/// Owns `context`, which is never null.
public final class DTLSContext {
    /// Forward secret AEAD suites; browsers' certificates are ECDSA, other peers' may be RSA.
    private static let ciphers = """
        ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:\
        ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384
        """
    /// Longest record that we write, in bytes: a datagram holds no more, and OpenSSL's buffer is as long as its longest record.
    private static let recordBytes = 1536
    /// Curves for the key exchange, the cheapest first, and for peers' certificates, which have to be on one of them (RFC 8422
    /// §5.1). The last two are there for those: GnuTLS makes keys on both.
    static let groups = "X25519:P-256:P-384:P-521:P-224"
    /// The same by their numbers (RFC 8422 §5.1.1).
    fileprivate static let groupNumbers: [UInt16] = [0x1D, 0x17, 0x18, 0x19, 0x15]

    let context: OpaquePointer
    private let certificate: DTLSCertificate

    /// - Parameter profiles: SRTP profiles that are offered, or chosen from, most preferred first; at least one.
    public convenience init(
        certificate: DTLSCertificate,
        profiles: [SRTPProfile] = SRTPProfile.preferred
    ) throws(DTLSError) {
        try self.init(certificate: certificate, profiles: profiles, groups: Self.groups)
    }

    /// - Parameter groups: Curves, most preferred first, separated by colons.
    init(certificate: DTLSCertificate, profiles: [SRTPProfile], groups: String) throws(DTLSError) {
        guard let context = SSL_CTX_new(DTLS_method()) else { throw .context }
        self.context = context
        self.certificate = certificate
        _ = sluice_SSL_CTX_set_dtls_options(context)
        _ = sluice_SSL_CTX_release_buffers(context)
        _ = sluice_SSL_CTX_set_max_send_fragment(context, Self.recordBytes)
        _ = sluice_SSL_CTX_disable_session_cache(context)
        // The certificate is self-signed by design: what counts is its fingerprint, which the endpoint checks.
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT) { _, _ in 1 }
        SSL_CTX_set_client_hello_cb(context, allowOwnCurves, nil)
        guard sluice_SSL_CTX_use_dtls12_only(context) == 1,
            SSL_CTX_set_cipher_list(context, Self.ciphers) == 1,
            sluice_SSL_CTX_set_groups(context, groups) == 1,
            SSL_CTX_use_certificate(context, certificate.certificate) == 1,
            SSL_CTX_use_PrivateKey(context, certificate.key) == 1,
            // RFC 5764 §4.1.2; returns 0 for success.
            SSL_CTX_set_tlsext_use_srtp(context, profiles.map(\.nameInOpenSSL).joined(separator: ":")) == 0
        else { throw .context }
    }

    deinit { SSL_CTX_free(context) }
}

/// Has OpenSSL take a client's certificate on any of our curves.
///
/// RFC 8422 §5.6 wants that certificate on a curve that the server has. OpenSSL wants it among those that the client has for the
/// key exchange as well, and GnuTLS presents P-224 without having it there. So numbers in the client's list that are none of ours
/// give way to ours that it lacks, in the buffer from which OpenSSL reads the list once this returns; the handshake's hash has been
/// taken by then. Only such as come after one that both do have, so that none of them is ever chosen for the key exchange.
private func allowOwnCurves(
    session: OpaquePointer?,
    alert: UnsafeMutablePointer<Int32>?,
    argument: UnsafeMutableRawPointer?
) -> Int32 {
    var list: UnsafePointer<UInt8>?
    var length = 0
    guard SSL_client_hello_get0_ext(session, UInt32(TLSEXT_TYPE_supported_groups), &list, &length) == 1, let list,
        length >= 4, length % 2 == 0, Int(list[0]) << 8 | Int(list[1]) == length - 2
    else { return SSL_CLIENT_HELLO_SUCCESS }
    let bytes = UnsafeMutableBufferPointer(start: UnsafeMutablePointer(mutating: list), count: length)
    func number(at place: Int) -> UInt16 { UInt16(bytes[place]) << 8 | UInt16(bytes[place + 1]) }
    let places = stride(from: 2, to: length, by: 2)
    let ours = DTLSContext.groupNumbers
    guard let best = ours.firstIndex(where: { group in places.contains { number(at: $0) == group } }) else {
        return SSL_CLIENT_HELLO_SUCCESS
    }
    var missing = ours[(best + 1)...].filter { group in !places.contains { number(at: $0) == group } }
    for place in places.reversed() where !ours.contains(number(at: place)) {
        guard let group = missing.popLast() else { break }
        bytes[place] = UInt8(truncatingIfNeeded: group >> 8)
        bytes[place + 1] = UInt8(truncatingIfNeeded: group)
    }
    return SSL_CLIENT_HELLO_SUCCESS
}
