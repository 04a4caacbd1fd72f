/// Which side of the DTLS handshake we take (`a=setup`, RFC 8842).
public enum DTLSRole: Sendable, Hashable {
    /// We wait for the ClientHello: our answer says `passive`.
    case passive
    /// We send the ClientHello: our answer says `active`.
    case active
}
