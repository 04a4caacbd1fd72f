/// The two ends of a path over UDP: a peer's endpoint, and the address of ours that it talks to. Our port is the worker's.
public struct AddressPair: Hashable, Sendable, BitwiseCopyable {
    /// The peer's endpoint.
    public let remote: SocketAddress
    /// Unspecified where the socket has but one address, or the system may choose one.
    public let local: IPAddress

    @inlinable
    public init(remote: SocketAddress, local: IPAddress = .unspecified) {
        self.remote = remote
        self.local = local
    }
}
