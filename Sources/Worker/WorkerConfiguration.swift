public import Commands
public import Transport
public import Wire

/// What the workers need to start.
public struct WorkerConfiguration: Sendable {
    /// The address that the UDP sockets are bound to. `::` takes IPv4 as well.
    public var listen: IPAddress
    /// The addresses that clients are told, the most preferred first.
    public var announced: [IPAddress]
    /// The first worker's port; each further one has the next. 0 lets the system choose each.
    public var firstPort: UInt16
    /// 1 to 64.
    public var workerCount: Int
    public var limits: Limits
    public var certificate: DTLSCertificate

    public init(
        listen: IPAddress,
        announced: [IPAddress],
        firstPort: UInt16,
        workerCount: Int,
        limits: Limits,
        certificate: DTLSCertificate
    ) {
        self.listen = listen
        self.announced = announced
        self.firstPort = firstPort
        self.workerCount = workerCount
        self.limits = limits
        self.certificate = certificate
    }
}

/// Why the workers did not start.
public enum WorkerError: Error, Sendable, Hashable {
    /// A UDP socket could not be bound. `reason` is the system's.
    case bind(address: SocketAddress, reason: String)
    /// DTLS could not be set up.
    case dtls(DTLSError)
    /// An event loop or a thread could not be made.
    case loop(reason: String)
}
