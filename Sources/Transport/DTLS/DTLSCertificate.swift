internal import COpenSSL
public import Wire

/// Our DTLS certificate and its private key: P-256, self-signed, made at start, kept in memory only.
///
/// Owns `certificate` and `key`, which are never null and never change.
///
/// `@unchecked Sendable`: after `init` both are only read, and OpenSSL counts references to them atomically.
public final class DTLSCertificate: @unchecked Sendable {
    /// Peers check the fingerprint and not the dates; a server that runs for a year must not surprise the one that does.
    private static let lifetimeSeconds = 10 * 365 * 24 * 3600

    /// The SHA-256 fingerprint for SDP's `a=fingerprint` (RFC 8122).
    public let fingerprint: CertificateFingerprint

    let certificate: OpaquePointer
    let key: OpaquePointer

    public convenience init() throws(DTLSError) {
        guard let key = sluice_EVP_EC_gen("P-256") else { throw .certificate }
        try self.init(key: key, digest: EVP_sha256())
    }

    /// A certificate of another kind of key, as peers have them.
    ///
    /// - Parameters:
    ///   - key: An `EVP_PKEY`, which the certificate owns from now on.
    ///   - digest: An `EVP_MD`; nil for the kinds of keys that have their own.
    init(key: OpaquePointer, digest: OpaquePointer?) throws(DTLSError) {
        guard let certificate = X509_new() else {
            EVP_PKEY_free(key)
            throw .certificate
        }
        guard Self.fill(certificate, key: key, digest: digest),
            let fingerprint = CertificateFingerprint(of: certificate, algorithm: .sha256)
        else {
            X509_free(certificate)
            EVP_PKEY_free(key)
            throw .certificate
        }
        self.key = key
        self.certificate = certificate
        self.fingerprint = fingerprint
    }

    deinit {
        X509_free(certificate)
        EVP_PKEY_free(key)
    }

    /// A random serial number and the shortest of names: what is in it tells nothing about the server.
    private static func fill(_ certificate: OpaquePointer, key: OpaquePointer, digest: OpaquePointer?) -> Bool {
        var random = SecureRandom()
        let serial = Int(truncatingIfNeeded: random.next() >> 2)
        let commonName = Array("sluice".utf8)
        guard X509_set_version(certificate, 2) == 1,
            ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial) == 1,
            X509_gmtime_adj(X509_getm_notBefore(certificate), -24 * 3600) != nil,
            X509_gmtime_adj(X509_getm_notAfter(certificate), lifetimeSeconds) != nil,
            X509_set_pubkey(certificate, key) == 1,
            let name = X509_get_subject_name(certificate),
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, commonName, Int32(commonName.count), -1, 0) == 1,
            X509_set_issuer_name(certificate, name) == 1
        else { return false }
        return X509_sign(certificate, key, digest) > 0
    }
}

extension CertificateFingerprint {
    /// The digest of a certificate's DER form.
    init?(of certificate: OpaquePointer, algorithm: Algorithm) {
        let hash =
            switch algorithm {
            case .sha256: EVP_sha256()
            case .sha384: EVP_sha384()
            case .sha512: EVP_sha512()
            }
        var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        guard X509_digest(certificate, hash, &digest, &length) == 1 else { return nil }
        self.init(algorithm: algorithm, digest: Array(digest.prefix(Int(length))))
    }
}
