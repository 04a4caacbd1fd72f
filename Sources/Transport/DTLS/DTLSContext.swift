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
    private static let groups = "X25519:P-256:P-384"

    let context: OpaquePointer
    private let certificate: DTLSCertificate

    /// - Parameter profiles: SRTP profiles that are offered, or chosen from, most preferred first; at least one.
    public init(
        certificate: DTLSCertificate,
        profiles: [SRTPProfile] = SRTPProfile.preferred
    ) throws(DTLSError) {
        guard let context = SSL_CTX_new(DTLS_method()) else { throw .context }
        self.context = context
        self.certificate = certificate
        _ = sluice_SSL_CTX_set_dtls_options(context)
        _ = sluice_SSL_CTX_release_buffers(context)
        _ = sluice_SSL_CTX_set_max_send_fragment(context, Self.recordBytes)
        _ = sluice_SSL_CTX_disable_session_cache(context)
        // The certificate is self-signed by design: what counts is its fingerprint, which the endpoint checks.
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT) { _, _ in 1 }
        guard sluice_SSL_CTX_use_dtls12_only(context) == 1,
            SSL_CTX_set_cipher_list(context, Self.ciphers) == 1,
            sluice_SSL_CTX_set_groups(context, Self.groups) == 1,
            SSL_CTX_use_certificate(context, certificate.certificate) == 1,
            SSL_CTX_use_PrivateKey(context, certificate.key) == 1,
            // RFC 5764 §4.1.2; returns 0 for success.
            SSL_CTX_set_tlsext_use_srtp(context, profiles.map(\.nameInOpenSSL).joined(separator: ":")) == 0
        else { throw .context }
    }

    deinit { SSL_CTX_free(context) }
}
