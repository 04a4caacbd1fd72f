/// A certificate fingerprint from an SDP (RFC 8122).
public struct CertificateFingerprint: Sendable, Hashable {
    public enum Algorithm: String, Sendable, Hashable, CaseIterable {
        case sha256 = "sha-256"
        case sha384 = "sha-384"
        case sha512 = "sha-512"
    }

    public var algorithm: Algorithm
    /// The digest: 32, 48 or 64 bytes.
    public var digest: [UInt8]

    public init(algorithm: Algorithm, digest: [UInt8]) {
        self.algorithm = algorithm
        self.digest = digest
    }
}
