import Commands
import Transport
import Wire

/// Step 3 of the data path: what arrives for a peer's transport.
extension Engine {
    func receiveSTUN(_ datagram: UnsafeMutableRawBufferPointer, from pair: AddressPair, now: Instant) {
        let bytes = UnsafeRawBufferPointer(datagram).bytes
        let message: STUNMessage
        do throws(STUNError) {
            message = try STUNMessage(parsing: bytes)
        } catch {
            return count(.stunMalformed)
        }
        guard message.messageClass == .request else { return count(.stunUnexpected) }
        guard let username = message.localUsernameFragment(in: bytes), let peer = peersByUsername[username] else {
            return count(.stunUnknownUser)
        }
        // Somebody with a session of their own must not take over the address of another who is well there.
        if let owner = peersByAddress[pair.remote], owner !== peer,
            owner.ice.wasHeard(
                from: pair.remote,
                checksWithin: Self.addressProtection,
                mediaWithin: Self.addressProtectionByMedia,
                before: now
            )
        {
            return count(.stunUnexpected)
        }

        replyBuffer.removeAll(keepingCapacity: true)
        let result = peer.ice.receive(message, bytes: bytes, from: pair, now: now, reply: &replyBuffer)
        if !replyBuffer.isEmpty { replyBuffer.withUnsafeBytes { send($0, to: pair) } }
        switch result {
        case .rejected(.integrity): return count(.stunIntegrity)
        case .rejected(.malformed): return count(.stunMalformed)
        case .rejected(.unexpected): return count(.stunUnexpected)
        case .handled: break
        }
        guard peer.ice.isValidated(pair.remote) else { return }
        peer.updateOutlet()
        heard(peer, now: now)
        register(pair.remote, for: peer, now: now)
        forgetRetiredUsernames(of: peer)
        if case .checking = peer.phase { startHandshake(peer, now: now) }
        reschedule(peer)
    }

    func receiveDTLS(_ datagram: UnsafeMutableRawBufferPointer, from source: SocketAddress, now: Instant) {
        guard let peer = peersByAddress[source] else { return count(.dtlsUnknownSource) }
        let bytes = UnsafeRawBufferPointer(datagram)
        switch peer.phase {
        case .checking: count(.dtlsUnknownSource)
        case .handshaking(let dtls):
            if handshakesInTurn < limits.handshakesPerTurn, waitingHandshakes.isEmpty {
                handshake(dtls, of: peer, with: bytes, now: now)
            } else {
                keepWaiting(bytes, of: peer)
            }
        case .connected(let session):
            guard session.dtls.receive(bytes, now: now) else { return count(.dtlsMalformed) }
            drain(session.dtls, of: peer)
            switch session.dtls.state {
            case .closed, .failed: close(peer, reason: .closedByPeer, now: now)
            case .handshaking, .established: reschedule(peer)
            }
        }
    }

    private func handshake(_ dtls: DTLSEndpoint, of peer: Peer, with datagram: UnsafeRawBufferPointer, now: Instant) {
        guard dtls.receive(datagram, now: now) else { return count(.dtlsMalformed) }
        handshakesInTurn += 1
        drain(dtls, of: peer)
        continueHandshake(dtls, of: peer, now: now)
    }

    /// Keeps a handshake datagram for a turn with room for it.
    private func keepWaiting(_ datagram: UnsafeRawBufferPointer, of peer: Peer) {
        guard DTLSEndpoint.holdsRecords(datagram), datagram.count <= EgressBatch.slotBytes else {
            return count(.dtlsMalformed)
        }
        guard waitingHandshakeCount < limits.waitingHandshakes,
            peer.waitingHandshake.count < limits.waitingHandshakesPerPeer
        else { return count(.handshakesFull) }
        if peer.waitingHandshake.isEmpty { waitingHandshakes.append(peer) }
        peer.waitingHandshake.append(Array(datagram))
        waitingHandshakeCount += 1
    }

    /// Looks at some of the handshake datagrams that wait, once the turn's media is on its way: one of each peer in turn, so that
    /// nobody who sends many keeps others waiting.
    func continueWaitingHandshakes(now: Instant) {
        defer { handshakesInTurn = 0 }
        var taken = 0
        while taken < waitingHandshakes.count, handshakesInTurn < limits.handshakesPerTurn {
            let peer = waitingHandshakes[taken]
            taken += 1
            guard peers[peer.id] === peer, case .handshaking(let dtls) = peer.phase else {
                waitingHandshakeCount -= peer.waitingHandshake.count
                peer.waitingHandshake = []
                continue
            }
            let datagram = peer.waitingHandshake.removeFirst()
            waitingHandshakeCount -= 1
            datagram.withUnsafeBytes { handshake(dtls, of: peer, with: $0, now: now) }
            if !peer.waitingHandshake.isEmpty { waitingHandshakes.append(peer) }
        }
        waitingHandshakes.removeFirst(taken)
    }

    /// Starts DTLS on the address that ICE has just validated: never before (RFC 8842 §5.2 allows it only then).
    private func startHandshake(_ peer: Peer, now: Instant) {
        let description = peer.description
        do throws(DTLSError) {
            let dtls = try DTLSEndpoint(
                context: dtlsContext,
                role: description.dtlsRole,
                remoteFingerprints: description.remoteFingerprints,
                datagramBytes: limits.dtlsDatagramBytes,
                retransmission: limits.dtlsRetransmission,
                handshakeTimeout: limits.dtlsHandshake,
                now: now
            )
            peer.phase = .handshaking(dtls)
            dtls.start(now: now)
            drain(dtls, of: peer)
        } catch {
            counters.dtlsHandshakesFailed += 1
            close(peer, reason: .dtlsFailed, now: now)
        }
    }

    /// Looks at how far the handshake came.
    func continueHandshake(_ dtls: DTLSEndpoint, of peer: Peer, now: Instant) {
        switch dtls.state {
        case .handshaking:
            reschedule(peer)
        case .established(let keys):
            do throws(SRTPError) {
                let sealer = try SRTPSealer(
                    profile: keys.profile,
                    masterKey: keys.localKey,
                    masterSalt: keys.localSalt
                )
                let opener = try SRTPOpener(
                    profile: keys.profile,
                    masterKey: keys.remoteKey,
                    masterSalt: keys.remoteSalt,
                    maximumSources: limits.sourcesPerPeer
                )
                let session = Peer.SecureSession(dtls: dtls, profile: keys.profile, sealer: sealer, opener: opener)
                peer.phase = .connected(session)
                peer.updateOutlet()
                counters.dtlsHandshakesCompleted += 1
                connected(peer, now: now)
            } catch {
                counters.dtlsHandshakesFailed += 1
                close(peer, reason: .dtlsFailed, now: now)
            }
        case .failed(let failure):
            counters.dtlsHandshakesFailed += 1
            let reason: CloseReason =
                switch failure {
                case .fingerprintMismatch: .fingerprintMismatch
                case .timeout where !dtls.wasHeard: .dtlsNotBegun
                case .timeout, .handshake, .noSRTPProfile: .dtlsFailed
                }
            close(peer, reason: reason, now: now)
        case .closed:
            counters.dtlsHandshakesFailed += 1
            close(peer, reason: .closedByPeer, now: now)
        }
    }

    /// Sends what DTLS has to send.
    func drain(_ dtls: DTLSEndpoint, of peer: Peer) {
        guard let destination = peer.ice.selected else { return }
        while dtls.nextDatagram(into: &replyBuffer) {
            replyBuffer.withUnsafeBytes { send($0, to: destination) }
        }
    }

    /// Media can flow from now on.
    private func connected(_ peer: Peer, now: Instant) {
        // Reports are spread over the interval, so that a thousand viewers who joined together don't report together.
        let offset = limits.reportInterval / 16 * Int(peer.id.rawValue % 16)
        peer.nextReport = now + (peer.subscriptions.isEmpty ? limits.reportInterval / 4 : offset)
        chooseEncodings(for: peer, now: now)
        heard(peer, now: now)
        joinAddressBudget(peer)
        output.emit(.peerConnected(peer.id))
        for subscription in peer.subscriptions where subscription.awaitsKeyframe {
            requestKeyframe(of: subscription.track, for: subscription, now: now)
        }
        for incoming in peer.incoming.tracks where incoming.track.wantsKeyframe {
            requestKeyframe(of: incoming.track, now: now)
        }
        reschedule(peer)
    }
}
