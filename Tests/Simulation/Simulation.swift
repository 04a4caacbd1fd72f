package import Commands
package import Forwarding
import Glibc
package import Transport
package import Wire

/// An engine, its clients, a virtual clock and a network with a seed: everything that a worker has, without a worker.
package final class Simulation: EngineOutput {
    /// SplitMix64.
    package struct Random: RandomNumberGenerator {
        var state: UInt64

        package init(state: UInt64) { self.state = state }

        package mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
            return value ^ value >> 31
        }
    }

    /// Where links take what is for a worker: whichever has the client.
    private static let server = SocketAddress(ip: .loopbackV4, port: 1)

    package private(set) var engines: [Engine] = []
    package private(set) var events: [Event] = []
    package var now = Instant(nanoseconds: 1_000_000_000)
    /// Part of the datagrams that are lost, each way.
    package var loss = 0.0
    private var random: Random
    private var clients: [SocketAddress: SimulatedClient] = [:]
    private var nextPort: UInt16 = 10_000
    private var unreachable: Set<SocketAddress> = []
    /// The networks of clients that have one. All others are next door.
    private var paths: [SocketAddress: (up: Link, down: Link)] = [:]
    private var links: [Link] = []
    package let certificate: DTLSCertificate
    private let limits: Limits
    /// Datagrams that the engines have sent, and their bytes.
    package private(set) var sent: [(destination: SocketAddress, bytes: [UInt8])] = []
    package var keepsSent = false
    /// How many datagrams each message held that the engines handed over together, while `keepsSent`.
    package private(set) var messageSizes: [Int] = []
    /// How long datagrams wait before the engines read them.
    package var lag: Duration?
    /// Workers that don't look at what others relay to them.
    package var stalledWorkers: Set<Int> = []
    /// Whether the kernel takes nothing: what engines send waits.
    package var isBlocked = false
    /// Whether what engines send goes nowhere, for benchmarks.
    package var discardsSent = false
    /// Is told of each message that goes nowhere: to whom, how many datagrams, and the first of them.
    package var willDiscard: ((SocketAddress, Int, UnsafeRawBufferPointer) -> Void)?

    /// - Parameter workers: Engines, joined by relay rings.
    package init(seed: UInt64, workers: Int = 1, limits: Limits = Limits()) throws {
        self.limits = limits
        random = Random(state: seed)
        certificate = try DTLSCertificate()
        let rings = (0..<workers).map { from in
            (0..<workers).map { to in from == to ? nil : RelayRing(capacity: 1 << 18) }
        }
        for index in 0..<workers {
            engines.append(
                try Engine(
                    index: WorkerIndex(rawValue: index),
                    limits: limits,
                    certificate: certificate,
                    outgoingRelays: rings[index],
                    incomingRelays: rings.map { $0[index] },
                    output: self
                )
            )
        }
    }

    // MARK: EngineOutput

    package func flush(_ batch: EgressBatch) {
        if isBlocked { return }
        if discardsSent {
            if let willDiscard {
                for index in 0..<batch.messageCount {
                    let message = batch.message(at: index)
                    willDiscard(message.destination.remote, message.segmentCount, batch.bytes(of: message))
                }
            }
            batch.removeAll()
            return
        }
        for index in 0..<batch.messageCount {
            let message = batch.message(at: index)
            if keepsSent { messageSizes.append(message.segmentCount) }
            var rest = batch.bytes(of: message)[...]
            while !rest.isEmpty {
                let bytes = Array(rest.prefix(message.segmentBytes))
                rest = rest.dropFirst(message.segmentBytes)
                if keepsSent { sent.append((message.destination.remote, bytes)) }
                send(bytes, to: message.destination.remote)
            }
        }
        batch.removeAll()
    }

    package func emit(_ event: Event) { events.append(event) }

    package func wake(_ worker: WorkerIndex) {}

    // MARK: Peers

    /// Adds a peer to an engine and a client that is it.
    ///
    /// - Parameter settles: Whether time goes by until it is connected.
    package func connect(
        _ id: UInt64,
        worker: Int = 0,
        published: [PublishedTrack] = [],
        subscribed: [SubscribedTrack] = [],
        settles: Bool = true
    ) throws -> SimulatedClient {
        nextPort += 1
        let address = SocketAddress(ip: .loopbackV4, port: nextPort)
        let local = ICECredentials(usernameFragment: "server\(id)", password: "serverPassword1234567890")
        let client = try SimulatedClient(
            address: address,
            worker: worker,
            server: local,
            serverFingerprint: certificate.fingerprint,
            retransmission: limits.dtlsRetransmission,
            now: now
        )
        clients[address] = client
        apply(
            .addPeer(
                PeerDescription(
                    id: PeerID(rawValue: id),
                    localCredentials: local,
                    remoteCredentials: client.credentials,
                    dtlsRole: .passive,
                    remoteFingerprints: [client.fingerprint],
                    published: published,
                    subscribed: subscribed
                )
            ) { precondition($0, "the engine takes the peer") },
            worker: worker
        )
        if settles {
            run(for: .milliseconds(300))
            // OpenSSL's timers run by the system's clock: on a busy machine both sides may send again what was not lost.
            var rounds = 0
            while !client.isConnected, loss == 0, rounds < 2000 {
                usleep(2000)
                run(for: .milliseconds(1))
                rounds += 1
            }
        }
        return client
    }

    package func apply(_ command: Command, worker: Int = 0) { engines[worker].apply(command, now: now) }

    package func snapshot(worker: Int = 0) -> WorkerSnapshot {
        let box = Box()
        engines[worker].apply(.snapshot(includingPeers: true) { box.value = $0 }, now: now)
        return box.value
            ?? WorkerSnapshot(
                worker: WorkerIndex(rawValue: worker),
                counters: WorkerCounters(),
                peerCount: 0,
                subscriptionCount: 0,
                peers: []
            )
    }

    private final class Box: @unchecked Sendable {
        // Written and read by the test's thread only.
        var value: WorkerSnapshot?
    }

    // MARK: Time

    /// Lets time go by in steps of a millisecond; `each` is called in each.
    package func run(for duration: Duration, each: () -> Void = {}) {
        let end = now + duration
        while now < end {
            now = now + .milliseconds(1)
            each()
            for client in clients.values {
                client.advance(now: now)
                for datagram in client.takeOutbox() where !isLost && !unreachable.contains(client.address) {
                    if let path = paths[client.address] {
                        path.up.send(datagram, from: client.address, to: Self.server, now: now)
                    } else {
                        receive(datagram, from: client, arrivedAt: now)
                    }
                }
            }
            for link in links {
                for packet in link.receive(now: now) {
                    if packet.destination != Self.server {
                        clients[packet.destination]?.inbox.append((packet.bytes, packet.arrivedAt))
                    } else if let client = clients[packet.source] {
                        receive(packet.bytes, from: client, arrivedAt: packet.arrivedAt)
                    }
                }
            }
            for engine in engines {
                if !stalledWorkers.contains(engine.worker) { while engine.receiveRelayed(now: now) {} }
                engine.advance(to: now)
                engine.endTurn(now: now, lag: lag)
            }
            for client in clients.values { client.takeInbox(now: now) }
        }
    }

    private func receive(_ datagram: [UInt8], from client: SimulatedClient, arrivedAt: Instant) {
        var bytes = datagram
        bytes.withUnsafeMutableBytes {
            engines[client.worker].receive(
                $0,
                from: AddressPair(remote: client.address),
                arrivedAt: arrivedAt,
                now: now
            )
        }
    }

    private func send(_ datagram: [UInt8], to address: SocketAddress) {
        clients[address]?.isSent(datagram)
        guard !isLost, !unreachable.contains(address) else { return }
        if let path = paths[address] {
            path.down.send(datagram, from: Self.server, to: address, now: now)
        } else {
            clients[address]?.inbox.append((datagram, now))
        }
    }

    /// Puts a network between a client and its worker. Several clients may share one.
    ///
    /// - Parameters:
    ///   - up: What the client sends over.
    ///   - down: What it is sent over.
    package func connect(_ client: SimulatedClient, up: Link, down: Link) {
        paths[client.address] = (up, down)
        for link in [up, down] where !links.contains(where: { $0 === link }) { links.append(link) }
    }

    /// A datagram from nowhere.
    ///
    /// - Parameter wait: How long it lay in the socket.
    package func inject(
        _ datagram: [UInt8],
        from source: SocketAddress,
        worker: Int = 0,
        afterWaiting wait: Duration = .zero
    ) {
        var bytes = datagram
        bytes.withUnsafeMutableBytes {
            engines[worker].receive($0, from: AddressPair(remote: source), arrivedAt: now + (.zero - wait), now: now)
        }
        engines[worker].endTurn(now: now)
    }

    /// Whether nothing gets through between a client and its worker, either way.
    package func setUnreachable(_ client: SimulatedClient, _ isUnreachable: Bool) {
        if isUnreachable { unreachable.insert(client.address) } else { unreachable.remove(client.address) }
    }

    private var isLost: Bool { loss > 0 && Double(random.next() >> 11) * 0x1p-53 < loss }
}
