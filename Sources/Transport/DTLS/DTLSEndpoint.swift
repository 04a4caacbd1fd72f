internal import COpenSSL
public import Wire

/// One peer's DTLS 1.2 session (RFC 6347) over memory: datagrams go in and come out, and SRTP keys come of it (RFC 5764).
///
/// Sans-IO but for one thing: OpenSSL's retransmission timer reads the system's clock by itself. `nextDeadline` says when
/// to call `advance`, in the caller's time.
///
/// Owns `session`, which is never null and owns `input` and `output`, its memory BIOs. Confined to its worker's thread.
public final class DTLSEndpoint {
    public enum State: Sendable {
        case handshaking
        /// The peer's certificate matches; these are the keys.
        case established(SRTPKeys)
        case failed(Failure)
        /// The peer, or we, ended the session with close_notify.
        case closed
    }

    public enum Failure: Sendable, Hashable {
        case handshake
        case timeout
        /// The peer's certificate is none of those that its SDP named.
        case fingerprintMismatch
        /// No SRTP profile in common.
        case noSRTPProfile
    }

    private static let recordHeaderLength = 13

    public private(set) var state = State.handshaking
    /// When `advance` has to be called next; nil when nothing waits.
    public private(set) var nextDeadline: Instant?
    /// Whether the peer has sent anything.
    public private(set) var wasHeard = false

    private let context: DTLSContext
    let session: OpaquePointer
    private let input: OpaquePointer
    private let output: OpaquePointer
    private let role: DTLSRole
    private let remoteFingerprints: [CertificateFingerprint]
    private let datagramBytes: Int
    private let handshakeDeadline: Instant
    /// Records that wait to be sent, one behind the other.
    private var outgoing: [UInt8] = []
    private var outgoingOffset = 0

    /// - Parameters:
    ///   - role: Whether we wait for the ClientHello or send it.
    ///   - remoteFingerprints: The peer's certificate has to match one of them.
    ///   - datagramBytes: Largest datagram in bytes of UDP payload.
    ///   - retransmission: Wait before the first retransmission; doubles each time.
    ///   - handshakeTimeout: The handshake fails when it is not done by then.
    public init(
        context: DTLSContext,
        role: DTLSRole,
        remoteFingerprints: [CertificateFingerprint],
        datagramBytes: Int,
        retransmission: Duration,
        handshakeTimeout: Duration,
        now: Instant
    ) throws(DTLSError) {
        guard let session = SSL_new(context.context) else { throw .session }
        guard let input = BIO_new(BIO_s_mem()) else {
            SSL_free(session)
            throw .session
        }
        guard let output = BIO_new(BIO_s_mem()) else {
            BIO_free(input)
            SSL_free(session)
            throw .session
        }
        // An empty BIO means "come back later", not "the end".
        _ = sluice_BIO_set_mem_eof_return(input, -1)
        _ = sluice_BIO_set_mem_eof_return(output, -1)
        SSL_set_bio(session, input, output)
        _ = sluice_SSL_set_mtu(session, datagramBytes)
        let microseconds = Int(max(1_000, retransmission.wholeNanoseconds / 1_000))
        SSL_set_ex_data(session, 0, UnsafeMutableRawPointer(bitPattern: microseconds))
        DTLS_set_timer_cb(session, nextRetransmissionTimer)
        switch role {
        case .passive: SSL_set_accept_state(session)
        case .active: SSL_set_connect_state(session)
        }
        self.context = context
        self.session = session
        self.input = input
        self.output = output
        self.role = role
        self.remoteFingerprints = remoteFingerprints
        self.datagramBytes = datagramBytes
        handshakeDeadline = now + handshakeTimeout
        nextDeadline = handshakeDeadline
    }

    deinit { SSL_free(session) }

    /// Begins the handshake: as the active side by queueing the ClientHello.
    public func start(now: Instant) { drive(now: now) }

    /// Takes one datagram in.
    ///
    /// - Returns: False when it holds no whole DTLS record; nothing has changed then.
    public func receive(_ datagram: UnsafeRawBufferPointer, now: Instant) -> Bool {
        guard Self.holdsRecords(datagram), let base = datagram.baseAddress else { return false }
        switch state {
        case .failed, .closed: return true
        case .handshaking, .established: break
        }
        wasHeard = true
        BIO_write(input, base, Int32(truncatingIfNeeded: datagram.count))
        drive(now: now)
        return true
    }

    /// Retransmits what is due and gives up what takes too long.
    public func advance(to now: Instant) {
        guard case .handshaking = state else { return }
        if handshakeDeadline <= now {
            state = .failed(.timeout)
            nextDeadline = nil
            return
        }
        ERR_clear_error()
        if sluice_DTLSv1_handle_timeout(session) < 0 {
            state = .failed(.timeout)
        }
        collectOutput()
        updateDeadline(now: now)
    }

    /// Ends the session with close_notify, which waits in `nextDatagram` then.
    public func close() {
        if case .established = state {
            ERR_clear_error()
            SSL_alloc_buffers(session)
            SSL_shutdown(session)
            collectOutput()
            releaseBuffers()
        }
        state = .closed
        nextDeadline = nil
    }

    /// Puts the next datagram to send into `buffer`, whose content it replaces.
    ///
    /// - Returns: False when nothing waits.
    public func nextDatagram(into buffer: inout [UInt8]) -> Bool {
        var end = outgoingOffset
        while end + Self.recordHeaderLength <= outgoing.count {
            let length = Int(outgoing[end + 11]) << 8 | Int(outgoing[end + 12])
            let next = end + Self.recordHeaderLength + length
            guard next <= outgoing.count, end == outgoingOffset || next - outgoingOffset <= datagramBytes else { break }
            end = next
        }
        guard end > outgoingOffset else {
            outgoing.removeAll(keepingCapacity: false)
            outgoingOffset = 0
            return false
        }
        buffer.removeAll(keepingCapacity: true)
        buffer.append(contentsOf: outgoing[outgoingOffset..<end])
        outgoingOffset = end
        return true
    }

    // MARK: OpenSSL

    private func drive(now: Instant) {
        ERR_clear_error()
        switch state {
        case .handshaking:
            let result = SSL_do_handshake(session)
            collectOutput()
            if result == 1 {
                establish()
                if case .established = state {
                    readApplicationData()
                    releaseBuffers()
                }
            } else if SSL_get_error(session, result) != SSL_ERROR_WANT_READ {
                state = .failed(.handshake)
            }
        case .established:
            SSL_alloc_buffers(session)
            readApplicationData()
            collectOutput()
            releaseBuffers()
        case .failed, .closed:
            break
        }
        updateDeadline(now: now)
    }

    /// Checks the certificate before any key leaves OpenSSL (RFC 5763 §5).
    private func establish() {
        guard let certificate = sluice_SSL_get1_peer_certificate(session) else {
            state = .failed(.fingerprintMismatch)
            return
        }
        defer { X509_free(certificate) }
        let matches = remoteFingerprints.contains { expected in
            CertificateFingerprint(of: certificate, algorithm: expected.algorithm) == expected
        }
        guard matches else {
            state = .failed(.fingerprintMismatch)
            return
        }
        guard let selected = SSL_get_selected_srtp_profile(session),
            let profile = SRTPProfile(rawValue: UInt16(truncatingIfNeeded: selected.pointee.id))
        else {
            state = .failed(.noSRTPProfile)
            return
        }
        let label = "EXTRACTOR-dtls_srtp"
        var exported = [UInt8](repeating: 0, count: 2 * (profile.keyLength + profile.saltLength))
        let result = SSL_export_keying_material(
            session,
            &exported,
            exported.count,
            label,
            label.utf8.count,
            nil,
            0,
            0
        )
        guard result == 1,
            let keys = SRTPKeys(profile: profile, exported: exported, isClient: role == .active)
        else {
            state = .failed(.handshake)
            return
        }
        OPENSSL_cleanse(&exported, exported.count)
        state = .established(keys)
    }

    /// Nothing is spoken over DTLS but alerts; what else comes is read and forgotten.
    private func readApplicationData() {
        var scratch = [UInt8](repeating: 0, count: 2048)
        while true {
            let result = SSL_read(session, &scratch, Int32(scratch.count))
            if result > 0 { continue }
            switch SSL_get_error(session, result) {
            case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
                if SSL_get_shutdown(session) & SSL_RECEIVED_SHUTDOWN != 0 { state = .closed }
            case SSL_ERROR_ZERO_RETURN:
                // RFC 5246 §7.2.1: a close_notify is answered with one.
                SSL_shutdown(session)
                state = .closed
            default:
                state = .closed
            }
            return
        }
    }

    /// Gives back what only a session that is talking needs: 33 KB of record buffers, which `SSL_MODE_RELEASE_BUFFERS` leaves
    /// alone in DTLS, and the memory of the queues between us and OpenSSL.
    private func releaseBuffers() {
        SSL_free_buffers(session)
        if outgoing.isEmpty { outgoing = [] }
    }

    /// Moves what OpenSSL wrote behind what waits.
    private func collectOutput() {
        let pending = sluice_BIO_pending(output)
        guard pending > 0 else { return }
        let start = outgoing.count
        outgoing.append(contentsOf: repeatElement(0, count: pending))
        let read = outgoing.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { BIO_read(output, $0 + start, Int32(truncatingIfNeeded: pending)) } ?? 0
        }
        outgoing.removeLast(pending - max(0, Int(read)))
    }

    private func updateDeadline(now: Instant) {
        guard case .handshaking = state else {
            nextDeadline = nil
            return
        }
        var left = timeval()
        if sluice_DTLSv1_get_timeout(session, &left) == 1 {
            let wait = Duration.seconds(Int64(left.tv_sec)) + .microseconds(Int64(left.tv_usec))
            nextDeadline = min(handshakeDeadline, now + wait)
        } else {
            nextDeadline = handshakeDeadline
        }
    }

    /// Whether the datagram is a row of whole DTLS 1.x records (RFC 6347 §4.1).
    public static func holdsRecords(_ datagram: UnsafeRawBufferPointer) -> Bool {
        var offset = 0
        while offset < datagram.count {
            guard offset + recordHeaderLength <= datagram.count, datagram[offset + 1] == 0xFE,
                (20...63).contains(datagram[offset])
            else { return false }
            offset += recordHeaderLength + Int(datagram[offset + 11]) << 8 + Int(datagram[offset + 12])
        }
        return offset == datagram.count && offset > 0
    }
}

/// OpenSSL asks how long to wait before a flight's next retransmission, in microseconds: the session's first wait, doubled
/// each time up to a second. RFC 6347 §4.2.4.1 starts at a second; browsers start at 50 ms, as one lost ClientHello would
/// otherwise cost a viewer's whole first second.
private func nextRetransmissionTimer(session: OpaquePointer?, previous: UInt32) -> UInt32 {
    guard previous > 0 else {
        return UInt32(clamping: Int(bitPattern: SSL_get_ex_data(session, 0)))
    }
    return min(previous &* 2, 1_000_000)
}
