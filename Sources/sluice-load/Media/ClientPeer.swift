import Transport
import Wire

/// What signalling found out about a peer of ours, for the media thread.
struct PeerPlan: Sendable {
    enum Role: Sendable {
        /// By index; its sources are those of `PublisherSources`.
        case publisher(Int)
        /// By index, with the monotonic time in nanoseconds at which it asked for its first stream.
        case viewer(Int, startedAt: UInt64)
    }

    enum Media: Sendable {
        case audio, video, retransmission
    }

    var role: Role
    var server: SocketAddress
    var local: ICECredentials
    var remote: ICECredentials
    var fingerprints: [CertificateFingerprint]
    /// Whether we are ICE's controlling side: we offered, or the server is a lite one.
    var isControlling: Bool
    /// What each payload type carries.
    var payloadTypes: [UInt8: Media]
}

/// One client of the server: ICE's controlling side, DTLS's active side and SRTP, over a socket of its own.
///
/// Confined to the media thread.
final class ClientPeer {
    /// What a datagram was, to whoever owns the peer.
    enum Event {
        /// Nothing that its owner cares for.
        case none
        /// SRTP or SRTCP, as it came.
        case media
    }

    let socket: ClientSocket
    private let server: SocketAddress
    private(set) var sealer: SRTPSealer?
    private(set) var opener: SRTPOpener?
    private(set) var profile: SRTPProfile?
    private(set) var connectedAt: Instant?

    private var ice: ICEClient
    private let dtls: DTLSEndpoint
    private var hasStarted = false
    private var buffer: [UInt8] = []

    init(_ plan: PeerPlan, context: DTLSContext, now: Instant) throws(LoadError) {
        socket = try ClientSocket(server: plan.server)
        server = plan.server
        ice = ICEClient(local: plan.local, remote: plan.remote, isControlling: plan.isControlling, now: now)
        do throws(DTLSError) {
            dtls = try DTLSEndpoint(
                context: context,
                role: .active,
                remoteFingerprints: plan.fingerprints,
                datagramBytes: 1200,
                retransmission: .milliseconds(50),
                handshakeTimeout: .seconds(60),
                now: now
            )
        } catch {
            throw LoadError("DTLS can't be set up: \(error)")
        }
    }

    /// Whether media can flow.
    var isConnected: Bool { sealer != nil }

    /// Why the handshake failed, when it has.
    var failure: DTLSEndpoint.Failure? {
        if case .failed(let failure) = dtls.state { failure } else { nil }
    }

    /// Does what is due.
    func advance(now: Instant) {
        if ice.nextRequest(now: now, into: &buffer) { sendBuffer() }
        if ice.isConnected, !hasStarted {
            hasStarted = true
            dtls.start(now: now)
        } else if let due = dtls.nextDeadline, due <= now {
            dtls.advance(to: now)
        }
        drain()
    }

    /// Takes a datagram in.
    func receive(_ datagram: UnsafeMutableRawBufferPointer, now: Instant) -> Event {
        guard let first = datagram.first else { return .none }
        switch DatagramKind(firstByte: first) {
        case .srtp:
            return isConnected ? .media : .none
        case .stun:
            let bytes = UnsafeRawBufferPointer(datagram).bytes
            if ice.answer(bytes, from: server, reply: &buffer) {
                sendBuffer()
            } else {
                _ = ice.receive(bytes, now: now)
            }
            if !hasStarted { advance(now: now) }
        case .dtls:
            _ = dtls.receive(UnsafeRawBufferPointer(datagram), now: now)
            drain()
            if sealer == nil, case .established(let keys) = dtls.state { establish(keys, now: now) }
        case .unknown: break
        }
        return .none
    }

    /// Seals and sends an RTCP compound packet.
    func sendRTCP(_ packet: [UInt8]) {
        guard let sealer, let profile else { return }
        buffer.removeAll(keepingCapacity: true)
        buffer.append(contentsOf: repeatElement(0, count: packet.count + profile.rtcpOverhead))
        let length = buffer.withUnsafeMutableBytes { output in
            packet.withUnsafeBytes { packet in output.baseAddress.map { sealer.sealRTCP(packet, into: $0) } ?? 0 }
        }
        buffer.removeLast(buffer.count - length)
        sendBuffer()
    }

    /// Ends the session with a close_notify.
    func hangUp() {
        dtls.close()
        drain()
    }

    private func establish(_ keys: SRTPKeys, now: Instant) {
        connectedAt = now
        sealer = try? SRTPSealer(profile: keys.profile, masterKey: keys.localKey, masterSalt: keys.localSalt)
        opener = try? SRTPOpener(
            profile: keys.profile,
            masterKey: keys.remoteKey,
            masterSalt: keys.remoteSalt,
            maximumSources: 1024
        )
        profile = keys.profile
    }

    private func drain() {
        while dtls.nextDatagram(into: &buffer) { sendBuffer() }
    }

    private func sendBuffer() {
        buffer.withUnsafeBytes { socket.send($0, segmentBytes: $0.count) }
    }
}
