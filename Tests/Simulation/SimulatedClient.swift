package import Transport
package import Wire

/// The client role of our own transport: what a load generator is made of.
package final class SimulatedClient {
    package let address: SocketAddress
    package let worker: Int
    package let credentials = ICECredentials(usernameFragment: "client", password: "clientPassword1234567890")
    package let fingerprint: CertificateFingerprint
    package var inbox: [(bytes: [UInt8], arrivedAt: Instant)] = []
    private var outbox: [[UInt8]] = []
    private var ice: ICEClient
    private let dtls: DTLSEndpoint
    private var hasStarted = false
    private var sealer: SRTPSealer?
    private var opener: SRTPOpener?
    /// Opens what is sent to it before the network has it.
    private var inspector: SRTPOpener?
    /// What was sent before the keys were known.
    private var uninspected: [[UInt8]] = []
    /// Looks at each RTP packet that is sent to it, decrypted, in the order in which they were sent, whether it arrives or not.
    package var inspect: ((RTPHeader, [UInt8]) -> Void)?
    /// RTP packets as they came, decrypted.
    package private(set) var received: [[UInt8]] = []
    /// When each of them came.
    package private(set) var arrivals: [Instant] = []
    /// RTCP compounds as they came, decrypted.
    package private(set) var control: [[UInt8]] = []
    private var buffer: [UInt8] = []
    /// Whether it sends connectivity checks: some clients stop when media flows.
    package var sendsChecks = true
    /// Whether it begins the DTLS handshake once ICE has a path.
    package var beginsHandshake = true

    /// The identifier of transport-wide sequence numbers, where it tells what arrives.
    package var transportSequenceExtension: UInt8?
    private var reporter = ArrivalReporter()

    package var isConnected: Bool { sealer != nil }

    package init(
        address: SocketAddress,
        worker: Int,
        server: ICECredentials,
        serverFingerprint: CertificateFingerprint,
        retransmission: Duration,
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
            retransmission: retransmission,
            handshakeTimeout: .seconds(30),
            now: now
        )
    }

    package func takeOutbox() -> [[UInt8]] {
        defer { outbox = [] }
        return outbox
    }

    package func advance(now: Instant) {
        if sendsChecks, ice.nextRequest(now: now, into: &buffer) { outbox.append(buffer) }
        if ice.isConnected, beginsHandshake, !hasStarted {
            hasStarted = true
            dtls.start(now: now)
        }
        if hasStarted, let due = dtls.nextDeadline, due <= now { dtls.advance(to: now) }
        while dtls.nextDatagram(into: &buffer) { outbox.append(buffer) }
        for report in reporter.takeReports(now: now) { send(control: report) }
    }

    package func takeInbox(now: Instant) {
        for (datagram, arrivedAt) in inbox { receive(datagram, arrivedAt: arrivedAt, now: now) }
        inbox = []
    }

    /// A datagram is sent to it.
    func isSent(_ datagram: [UInt8]) {
        guard inspect != nil, let first = datagram.first, DatagramKind(firstByte: first) == .srtp,
            !RTCP.isRTCP(secondByte: datagram[1])
        else { return }
        uninspected.append(datagram)
        guard let inspector else { return }
        for var bytes in uninspected {
            if let header = try? RTPHeader(parsing: bytes.span.bytes),
                case .opened(let length, _) = bytes.withUnsafeMutableBytes({ inspector.open($0, header: header) })
            {
                inspect?(header, Array(bytes.prefix(length)))
            }
        }
        uninspected = []
    }

    private func receive(_ datagram: [UInt8], arrivedAt: Instant, now: Instant) {
        guard let first = datagram.first else { return }
        switch DatagramKind(firstByte: first) {
        case .stun: _ = ice.receive(datagram.span.bytes, now: now)
        case .dtls:
            _ = datagram.withUnsafeBytes { dtls.receive($0, now: now) }
            if case .established(let keys) = dtls.state, sealer == nil {
                sealer = try? SRTPSealer(profile: keys.profile, masterKey: keys.localKey, masterSalt: keys.localSalt)
                func makeOpener() -> SRTPOpener? {
                    try? SRTPOpener(
                        profile: keys.profile,
                        masterKey: keys.remoteKey,
                        masterSalt: keys.remoteSalt,
                        maximumSources: 8
                    )
                }
                opener = makeOpener()
                inspector = makeOpener()
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
                if let id = transportSequenceExtension {
                    var elements = HeaderExtensionReader(header)
                    while let element = elements.next(in: bytes.span.bytes) {
                        guard element.id == id, element.length == 2 else { continue }
                        let number = UInt16(bytes[element.offset]) << 8 | UInt16(bytes[element.offset + 1])
                        reporter.note(number, arrivedAt: arrivedAt)
                    }
                }
                received.append(Array(bytes.prefix(length)))
                arrivals.append(arrivedAt)
            }
        case .unknown: break
        }
    }

    // MARK: Media

    /// Sends one RTP packet with a header of 12 bytes, and behind it whatever header extension elements of the one-byte form.
    package func send(
        sequence: UInt64,
        timestamp: UInt32,
        ssrc: UInt32,
        payloadType: UInt8 = 96,
        marker: Bool = false,
        elements: [UInt8] = [],
        payload: [UInt8]
    ) {
        guard let sealer else { return }
        var header: [UInt8] = [elements.isEmpty ? 0x80 : 0x90, payloadType | (marker ? 0x80 : 0)]
        header += withUnsafeBytes(of: UInt16(truncatingIfNeeded: sequence).bigEndian) { Array($0) }
        header += withUnsafeBytes(of: timestamp.bigEndian) { Array($0) }
        header += withUnsafeBytes(of: ssrc.bigEndian) { Array($0) }
        if !elements.isEmpty {
            let padded = elements + [UInt8](repeating: 0, count: -elements.count & 3)
            header += [0xBE, 0xDE, 0, UInt8(padded.count / 4)] + padded
        }
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
    package func send(control packet: [UInt8]) {
        guard let sealer else { return }
        var output = [UInt8](repeating: 0, count: packet.count + 32)
        let length = output.withUnsafeMutableBytes { output in
            packet.withUnsafeBytes { packet in output.baseAddress.map { sealer.sealRTCP(packet, into: $0) } ?? 0 }
        }
        outbox.append(Array(output.prefix(length)))
    }

    /// Reports how a source that it is sent arrives (RFC 3550 §6.4.2).
    package func report(on ssrc: UInt32, fractionLost: UInt8, lastSenderReport: UInt32 = 0) {
        var packet: [UInt8] = []
        let block = RTCPPacket.ReportBlock(
            ssrc: ssrc,
            fractionLost: fractionLost,
            packetsLost: 0,
            highestSequence: 0,
            jitter: 0,
            lastSenderReport: lastSenderReport,
            delaySinceLastSenderReport: 0
        )
        RTCPWriter.receiverReport(sender: 9, blocks: [block], to: &packet)
        send(control: packet)
    }

    package func hangUp() {
        dtls.close()
        while dtls.nextDatagram(into: &buffer) { outbox.append(buffer) }
    }

    /// All RTCP packets of one kind that came, read by `select`.
    package func controlPackets<Value>(_ select: (RTCPPacket, RawSpan) -> Value?) -> [Value] {
        var values: [Value] = []
        for compound in control {
            var reader = RTCPReader()
            while let packet = try? reader.next(in: compound.span.bytes) {
                if let value = select(packet, compound.span.bytes) { values.append(value) }
            }
        }
        return values
    }

    package func headers() -> [RTPHeader] { received.compactMap { try? RTPHeader(parsing: $0.span.bytes) } }

    package func payloads() -> [[UInt8]] {
        received.compactMap { packet in
            (try? RTPHeader(parsing: packet.span.bytes)).map { Array(packet[$0.payloadOffset...]) }
        }
    }
}
