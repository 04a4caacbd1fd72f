/// ICE short-term credentials of one side (RFC 8445 §5.3): 4 to 256 characters of ufrag, 22 to 256 of password.
public struct ICECredentials: Sendable, Hashable {
    public var usernameFragment: String
    public var password: String

    public init(usernameFragment: String, password: String) {
        self.usernameFragment = usernameFragment
        self.password = password
    }
}
