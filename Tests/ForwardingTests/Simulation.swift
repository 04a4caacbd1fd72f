import Commands
import Forwarding
import Testing
import Transport
import Wire

/// An engine, its clients, a virtual clock and a network with a seed: everything that a worker has, without a worker.
final class Simulation: EngineOutput {
    /// SplitMix64.
    struct Random: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
            return value ^ value >> 31
        }
    }

    private(set) var engines: [Engine] = []
    private(set) var events: [Event] = []
    var now = Instant(nanoseconds: 1_000_000_000)
    /// Part of the datagrams that are lost, each way.
    var loss = 0.0
    private var random: Random
    private var clients: [SocketAddress: SimulatedClient] = [:]
    private var nextPort: UInt16 = 10_000
    let certificate: DTLSCertificate
    /// Datagrams that the engines have sent, and their bytes.
    private(set) var sent: [(destination: SocketAddress, bytes: [UInt8])] = []
    var keepsSent = false

    /// - Parameter workers: Engines, joined by relay rings.
    init(seed: UInt64, workers: Int = 1, limits: Limits = Limits()) throws {
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

    func flush(_ batch: EgressBatch) {
        for index in 0..<batch.count {
            let bytes = Array(batch.bytes(at: index))
            let destination = batch.destination(at: index)
            if keepsSent { sent.append((destination, bytes)) }
            if !isLost { clients[destination]?.inbox.append(bytes) }
        }
        batch.removeAll()
    }

    func emit(_ event: Event) { events.append(event) }

    func wake(_ worker: WorkerIndex) {}

    // MARK: Peers

    /// Adds a peer to an engine and a client that is it.
    func connect(
        _ id: UInt64,
        worker: Int = 0,
        published: [PublishedTrack] = [],
        subscribed: [SubscribedTrack] = []
    ) throws -> SimulatedClient {
        nextPort += 1
        let address = SocketAddress(ip: .loopbackV4, port: nextPort)
        let local = ICECredentials(usernameFragment: "server\(id)", password: "serverPassword1234567890")
        let client = try SimulatedClient(
            address: address,
            worker: worker,
            server: local,
            serverFingerprint: certificate.fingerprint,
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
            ) { #expect($0, "the engine takes the peer") },
            worker: worker
        )
        run(for: .milliseconds(300))
        return client
    }

    func apply(_ command: Command, worker: Int = 0) { engines[worker].apply(command, now: now) }

    func snapshot(worker: Int = 0) -> WorkerSnapshot {
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
    func run(for duration: Duration, each: () -> Void = {}) {
        let end = now + duration
        while now < end {
            now = now + .milliseconds(1)
            each()
            for client in clients.values {
                client.advance(now: now)
                for datagram in client.takeOutbox() where !isLost { receive(datagram, from: client) }
            }
            for engine in engines {
                engine.receiveRelayed(now: now)
                engine.advance(to: now)
                engine.endTurn(now: now)
            }
            for client in clients.values { client.takeInbox(now: now) }
        }
    }

    private func receive(_ datagram: [UInt8], from client: SimulatedClient) {
        var bytes = datagram
        bytes.withUnsafeMutableBytes { engines[client.worker].receive($0, from: client.address, now: now) }
    }

    /// A datagram from nowhere.
    func inject(_ datagram: [UInt8], from source: SocketAddress, worker: Int = 0) {
        var bytes = datagram
        bytes.withUnsafeMutableBytes { engines[worker].receive($0, from: source, now: now) }
        engines[worker].endTurn(now: now)
    }

    private var isLost: Bool { loss > 0 && Double(random.next() >> 11) * 0x1p-53 < loss }
}

/// The client role of our own transport: what a load generator is made of.
final class SimulatedClient {
    let address: SocketAddress
    let worker: Int
    let credentials = ICECredentials(usernameFragment: "client", password: "clientPassword1234567890")
    let fingerprint: CertificateFingerprint
    var inbox: [[UInt8]] = []
    private var outbox: [[UInt8]] = []
    private var ice: ICEClient
    private let dtls: DTLSEndpoint
    private var hasStarted = false
    private var sealer: SRTPSealer?
    private var opener: SRTPOpener?
    /// RTP packets as they came, decrypted.
    private(set) var received: [[UInt8]] = []
    /// RTCP compounds as they came, decrypted.
    private(set) var control: [[UInt8]] = []
    private var buffer: [UInt8] = []

    var isConnected: Bool { sealer != nil }

    init(
        address: SocketAddress,
        worker: Int,
        server: ICECredentials,
        serverFingerprint: CertificateFingerprint,
        now: Instant
    ) throws {
        self.address = address
        self.worker = worker
        let certificate = try DTLSCertificate()
        fingerprint = certificate.fingerprint
        ice = ICEClient(local: credentials, remote: server, now: now)
        dtls = try DTLSEndpoint(
            context: DTLSContext(certificate: certificate),
            role: .active,
            remoteFingerprints: [serverFingerprint],
            datagramBytes: 1200,
            retransmission: .milliseconds(50),
            handshakeTimeout: .seconds(30),
            now: now
        )
    }

    func takeOutbox() -> [[UInt8]] {
        defer { outbox = [] }
        return outbox
    }

    func advance(now: Instant) {
        if ice.nextRequest(now: now, into: &buffer) { outbox.append(buffer) }
        if ice.isConnected, !hasStarted {
            hasStarted = true
            dtls.start(now: now)
        }
        while dtls.nextDatagram(into: &buffer) { outbox.append(buffer) }
    }

    func takeInbox(now: Instant) {
        for datagram in inbox { receive(datagram, now: now) }
        inbox = []
    }

    private func receive(_ datagram: [UInt8], now: Instant) {
        guard let first = datagram.first else { return }
        switch DatagramKind(firstByte: first) {
        case .stun: _ = ice.receive(datagram.span.bytes, now: now)
        case .dtls:
            _ = datagram.withUnsafeBytes { dtls.receive($0, now: now) }
            if case .established(let keys) = dtls.state, sealer == nil {
                sealer = try? SRTPSealer(profile: keys.profile, masterKey: keys.localKey, masterSalt: keys.localSalt)
                opener = try? SRTPOpener(
                    profile: keys.profile,
                    masterKey: keys.remoteKey,
                    masterSalt: keys.remoteSalt,
                    maximumSources: 8
                )
            }
        case .srtp:
            guard let opener else { return }
            var bytes = datagram
            if RTCP.isRTCP(secondByte: bytes[1]) {
                if case .opened(let length, _) = bytes.withUnsafeMutableBytes({ opener.openRTCP($0) }) {
                    control.append(Array(bytes.prefix(length)))
                }
            } else if let header = try? RTPHeader(parsing: bytes.span.bytes),
                case .opened(let length, _) = bytes.withUnsafeMutableBytes({ opener.open($0, header: header) })
            {
                received.append(Array(bytes.prefix(length)))
            }
        case .unknown: break
        }
    }

    // MARK: Media

    /// Sends one RTP packet with a header of 12 bytes.
    func send(
        sequence: UInt64,
        timestamp: UInt32,
        ssrc: UInt32,
        payloadType: UInt8 = 96,
        marker: Bool = false,
        payload: [UInt8]
    ) {
        guard let sealer else { return }
        var header: [UInt8] = [0x80, payloadType | (marker ? 0x80 : 0)]
        header += withUnsafeBytes(of: UInt16(truncatingIfNeeded: sequence).bigEndian) { Array($0) }
        header += withUnsafeBytes(of: timestamp.bigEndian) { Array($0) }
        header += withUnsafeBytes(of: ssrc.bigEndian) { Array($0) }
        var output = [UInt8](repeating: 0, count: header.count + payload.count + 32)
        let length = output.withUnsafeMutableBytes { output in
            header.withUnsafeBytes { header in
                payload.withUnsafeBytes { payload in
                    guard let base = output.baseAddress else { return 0 }
                    return sealer.seal(
                        header: header,
                        payload: payload,
                        rolloverCounter: UInt32(truncatingIfNeeded: sequence >> 16),
                        into: base
                    )
                }
            }
        }
        outbox.append(Array(output.prefix(length)))
    }

    /// Sends an RTCP compound packet.
    func send(control packet: [UInt8]) {
        guard let sealer else { return }
        var output = [UInt8](repeating: 0, count: packet.count + 32)
        let length = output.withUnsafeMutableBytes { output in
            packet.withUnsafeBytes { packet in output.baseAddress.map { sealer.sealRTCP(packet, into: $0) } ?? 0 }
        }
        outbox.append(Array(output.prefix(length)))
    }

    func hangUp() {
        dtls.close()
        while dtls.nextDatagram(into: &buffer) { outbox.append(buffer) }
    }

    /// All RTCP packets of one kind that came, read by `select`.
    func controlPackets<Value>(_ select: (RTCPPacket, RawSpan) -> Value?) -> [Value] {
        var values: [Value] = []
        for compound in control {
            var reader = RTCPReader()
            while let packet = try? reader.next(in: compound.span.bytes) {
                if let value = select(packet, compound.span.bytes) { values.append(value) }
            }
        }
        return values
    }

    func headers() -> [RTPHeader] { received.compactMap { try? RTPHeader(parsing: $0.span.bytes) } }

    func payloads() -> [[UInt8]] {
        received.compactMap { packet in
            (try? RTPHeader(parsing: packet.span.bytes)).map { Array(packet[$0.payloadOffset...]) }
        }
    }
}
