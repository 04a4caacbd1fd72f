/// What OpenSSL refused while DTLS was set up. None of it depends on what a peer sends.
public enum DTLSError: Error, Sendable, Hashable {
    /// The key or the certificate could not be made.
    case certificate
    /// The context could not be set up.
    case context
    /// A session could not be made.
    case session
}
