public import Wire

/// What Control asks of a worker. Commands of one sender are carried out in the order they were sent.
public enum Command: Sendable {
    /// Start to serve a peer. `reply` is called on the worker's thread with whether it could: false when the worker is
    /// full or the peer's description can't be served.
    case addPeer(PeerDescription, reply: @Sendable (Bool) -> Void)
    /// End a peer: its DTLS session is closed, its subscriptions go, its tracks fall silent until somebody feeds them
    /// again. Unknown peers are ignored.
    case removePeer(PeerID)
    /// ICE restart (RFC 8445 §9): both sides' new credentials. Media keeps its old path until the new one is validated.
    case restartICE(PeerID, local: ICECredentials, remote: ICECredentials, reply: @Sendable (Bool) -> Void)
    /// A renegotiation of what a peer sends to us: all of its tracks, in place of those before. Tracks that it feeds no more fall
    /// silent; what goes on is not disturbed. `reply` gets false for a peer that is gone, or tracks that can't be fed.
    case setPublished(PeerID, [PublishedTrack], reply: @Sendable (Bool) -> Void)
    /// A renegotiation of what we send to a peer: subscriptions by the SSRCs that end, then those that begin. `reply` gets false
    /// for a peer that is gone, or tracks that can't be forwarded; then nothing changes.
    case changeSubscriptions(
        PeerID,
        ending: [UInt32],
        beginning: [SubscribedTrack],
        reply: @Sendable (Bool) -> Void
    )
    /// A subscription, named by the SSRC that we send with, is not forwarded until it is asked for again; video goes on with a
    /// keyframe then.
    case pauseSubscription(PeerID, ssrc: UInt32, isPaused: Bool)
    /// Of a simulcast track, whose subscription is named by the SSRC that we send with, no encoding above this one is wanted: its
    /// place, from 0, the lowest.
    case limitSubscription(PeerID, ssrc: UInt32, highestEncoding: Int)
    /// Ask for the loudest that each audio track was since the last such command (RFC 6464); tracks that were silent are left out.
    case takeAudioLevels(reply: @Sendable ([AudioLevel]) -> Void)
    /// Ends an interval of `limits.qualityInterval`, and asks for whose quality has changed: tracks at their home, and subscriptions.
    case takeQualityChanges(reply: @Sendable (QualityChanges) -> Void)
    /// A track will not be fed again: it and its subscriptions are forgotten.
    case removeTrack(TrackID)
    /// Ask for the worker's counters and the state of its peers, tracks and subscriptions.
    case snapshot(includingPeers: Bool, reply: @Sendable (WorkerSnapshot) -> Void)
    /// Ask how long ago anything authentic came from a peer; nil when the peer is unknown or was never heard.
    case lastHeard(PeerID, reply: @Sendable (Duration?) -> Void)
}

extension Command {
    /// Answers what a command asks as one who serves nobody: what a worker that has stopped says. Nobody waits for ever.
    public func answerForNobody() {
        switch self {
        case .addPeer(_, let reply), .restartICE(_, _, _, let reply), .setPublished(_, _, let reply),
            .changeSubscriptions(_, _, _, let reply):
            reply(false)
        case .takeAudioLevels(let reply): reply([])
        case .takeQualityChanges(let reply): reply(QualityChanges())
        case .snapshot(_, let reply): reply(WorkerSnapshot())
        case .lastHeard(_, let reply): reply(nil)
        case .removePeer, .pauseSubscription, .limitSubscription, .removeTrack: break
        }
    }
}

/// What a worker tells Control. Delivered on the worker's thread, in order for each peer.
public enum Event: Sendable {
    /// ICE and DTLS are done; media can flow.
    case peerConnected(PeerID)
    /// The peer is gone; nothing of it remains on the worker.
    case peerClosed(PeerID, reason: CloseReason)
}

/// Why a peer ended.
public enum CloseReason: String, Sendable, CaseIterable {
    /// Control asked for it.
    case removed
    /// No valid connectivity check came within the first seconds.
    case iceTimeout = "ice_timeout"
    /// Checks came, but nothing of a DTLS handshake: most likely what we send doesn't reach the peer.
    case dtlsNotBegun = "dtls_not_begun"
    /// The DTLS handshake failed or took too long.
    case dtlsFailed = "dtls_failed"
    /// The peer's certificate does not match its SDP's fingerprint.
    case fingerprintMismatch = "fingerprint_mismatch"
    /// Neither a connectivity check nor media on the selected path for the consent time.
    case consentExpired = "consent_expired"
    /// The peer sent a DTLS close_notify.
    case closedByPeer = "closed_by_peer"
    /// The worker is stopping.
    case shutdown
}
