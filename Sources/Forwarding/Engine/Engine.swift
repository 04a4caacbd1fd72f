public import Commands
public import Transport
public import Wire

/// One worker's media state: peers, tracks and subscriptions, without sockets, threads or a clock.
///
/// Confined to its worker's thread. A turn is: `receive` for each datagram that was readable, `receiveRelayed`, `apply` for
/// each command, `advance`, then `endTurn`.
public final class Engine {
    /// This worker's counters. The worker adds what only it can see: send failures, loop time, latency.
    public var counters = WorkerCounters()

    /// - Parameters:
    ///   - index: This worker's position.
    ///   - limits: The server's limits.
    ///   - certificate: The certificate that every DTLS handshake presents.
    ///   - outgoingRelays: One ring to each worker, by worker index; nil at our own.
    ///   - incomingRelays: One ring from each worker, by worker index; nil at our own.
    ///   - output: Where outputs go. Kept unowned: it must outlive the engine.
    public init(
        index: WorkerIndex,
        limits: Limits,
        certificate: DTLSCertificate,
        outgoingRelays: [RelayRing?],
        incomingRelays: [RelayRing?],
        output: any EngineOutput
    ) {
    }

    /// Takes one datagram in. Its bytes are decrypted in place and not kept.
    public func receive(_ datagram: UnsafeMutableRawBufferPointer, from source: SocketAddress, now: Instant) {
    }

    /// Takes in what other workers relayed to this one.
    public func receiveRelayed(now: Instant) {
    }

    /// Carries out a command.
    public func apply(_ command: Command, now: Instant) {
    }

    /// Does what is due by `now`.
    public func advance(to now: Instant) {
    }

    /// Flushes what the turn produced.
    public func endTurn(now: Instant) {
    }

    /// Ends all peers with a DTLS close_notify.
    public func shutdown(now: Instant) {
    }

    /// When `advance` has to be called next; nil while nothing waits.
    public var nextDeadline: Instant? { nil }
}
