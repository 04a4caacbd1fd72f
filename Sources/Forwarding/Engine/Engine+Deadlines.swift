import Commands
public import Transport

/// What happens by time alone. When something is due and what is done then stand in one list, `PeerDuty`: so what is done can't miss
/// what was due.
extension Engine {
    /// Does what is due by `now`.
    public func advance(to now: Instant) {
        guard earliestDeadline <= now else { return }
        earliestDeadline = .distantFuture
        sendDueRequests(now: now)
        var expired: [(Peer, CloseReason)] = []
        for peer in peers.values {
            if peer.deadline <= now, let reason = advance(peer, to: now) {
                expired.append((peer, reason))
            } else {
                earliestDeadline = min(earliestDeadline, peer.deadline)
            }
        }
        for (peer, reason) in expired { close(peer, reason: reason, now: now) }
    }

    /// A packet may have brought one of the peer's deadlines nearer.
    @inline(__always)
    func noteDeadline(_ duty: PeerDuty, of peer: Peer) {
        let due = peer.deadline(of: duty, limits: limits)
        guard due < peer.deadline else { return }
        peer.deadline = due
        earliestDeadline = min(earliestDeadline, due)
    }

    /// A peer's deadlines changed: the worker's timer follows.
    func reschedule(_ peer: Peer) {
        peer.deadline = peer.nextDeadline(limits: limits)
        earliestDeadline = min(earliestDeadline, peer.deadline)
    }

    /// Does what is due for one peer.
    ///
    /// - Returns: Why the peer has to end, if it has.
    private func advance(_ peer: Peer, to now: Instant) -> CloseReason? {
        for index in PeerDuty.all.indices {
            let duty = PeerDuty.all[index]
            guard peer.deadline(of: duty, limits: limits) <= now else { continue }
            if let reason = perform(duty, for: peer, now: now) { return reason }
            guard peers[peer.id] === peer else { return nil }
        }
        reschedule(peer)
        if peer.deadline <= now {
            // A worker must not wake each millisecond for what it can't do.
            overdueCount += 1
            peer.deadline = now + Self.deadlineGrid
        }
        return nil
    }

    private func perform(_ duty: PeerDuty, for peer: Peer, now: Instant) -> CloseReason? {
        switch duty {
        case .connectivity:
            if peer.ice.isExpired(at: now) { return peer.ice.isValidated ? .consentExpired : .iceTimeout }
        case .handshake:
            switch peer.phase {
            case .checking: break
            case .handshaking(let dtls):
                dtls.advance(to: now)
                drain(dtls, of: peer)
                continueHandshake(dtls, of: peer, now: now)
            case .connected(let session):
                session.dtls.advance(to: now)
                drain(session.dtls, of: peer)
            }
        case .transportFeedback: sendTransportFeedback(to: peer)
        case .nacks: sendDueNacks(to: peer, now: now)
        case .keyframeRequests: sendDueKeyframeRequests(to: peer, now: now)
        case .reports: sendReports(to: peer, now: now)
        case .encodings: chooseEncodings(for: peer, now: now)
        case .probe: continueProbe(of: peer, now: now)
        case .pacing: sendWaiting(to: peer, now: now)
        case .silence: holdVideo(of: peer)
        }
        return nil
    }

    // MARK: Silence

    /// Something authentic came from a peer.
    @inline(__always)
    func heard(_ peer: Peer, now: Instant) {
        peer.lastHeard = now
        if peer.isAway { resumeVideo(of: peer, now: now) }
    }

    /// Nothing came from a viewer for so long that nobody may be there: video is not sent to where nobody is.
    private func holdVideo(of peer: Peer) {
        peer.isAway = true
        for subscription in peer.subscriptions { subscription.isAway = true }
    }

    /// A viewer is there again, and goes on with a keyframe: what it missed would only make it late.
    private func resumeVideo(of peer: Peer, now: Instant) {
        peer.isAway = false
        for subscription in peer.subscriptions {
            subscription.isAway = false
            guard !subscription.isPaused else { continue }
            resumeEncoding(of: subscription)
            if subscription.awaitsKeyframe { requestKeyframe(of: subscription.track, for: subscription, now: now) }
        }
        reschedule(peer)
    }

    // MARK: Tracks of other workers

    /// Asks the home of a relayed track for a keyframe, now or when the interval ends.
    func sendDueRequest(ofRelayed track: Track, now: Instant) {
        guard case .relay(let home) = track.feed else { return }
        if track.relayedRequests.takeDue(now: now) {
            relay(RelayRecord.Head(kind: .keyframeRequest, track: track.id), to: home.rawValue)
        }
        guard let due = track.relayedRequests.deadline else { return }
        if !waitingRequests.contains(where: { $0 === track }) { waitingRequests.append(track) }
        earliestDeadline = min(earliestDeadline, due)
    }

    private func sendDueRequests(now: Instant) {
        guard !waitingRequests.isEmpty else { return }
        let waiting = waitingRequests
        waitingRequests.removeAll(keepingCapacity: true)
        for track in waiting where tracks[track.id] === track { sendDueRequest(ofRelayed: track, now: now) }
    }
}
