import Commands
import Transport
import Wire

/// What changes while a peer is connected: the tracks that it sends and those that it is sent.
extension Engine {
    /// - Returns: False for a peer that is gone, or tracks that can't be fed; nothing changes then.
    func setPublished(_ published: [PublishedTrack], of id: PeerID, now: Instant) -> Bool {
        guard let peer = peers[id], published.allSatisfy({ accepts($0.track, codec: $0.parameters.codec) }) else {
            return false
        }
        let before = peer.incoming.tracks.map(\.track)
        let tracks = published.map { published in
            (track: track(published.track, codec: published.parameters.codec), published: published)
        }
        peer.incoming.update(tracks: tracks, limits: limits)
        for (track, _) in tracks where !track.isFed(by: peer) {
            track.feed = .publisher(peer)
            track.endEncoding()
        }
        for track in before where !tracks.contains(where: { $0.track === track }) { end(track, by: peer) }
        if !peer.incoming.usesTransportFeedback {
            peer.transportFeedback = nil
        } else if peer.transportFeedback == nil {
            peer.transportFeedback = TransportFeedbackRecorder()
        }
        reschedule(peer)
        return true
    }

    /// - Returns: False for a peer that is gone, or tracks that can't be forwarded; nothing changes then.
    func changeSubscriptions(
        of id: PeerID,
        ending: [UInt32],
        beginning: [SubscribedTrack],
        now: Instant
    ) -> Bool {
        guard let peer = peers[id], beginning.allSatisfy({ accepts($0.track, codec: $0.parameters.codec) }) else {
            return false
        }
        for ssrc in ending {
            guard let subscription = peer.subscription(sending: ssrc) else { continue }
            peer.subscriptions.removeAll { $0 === subscription }
            end(subscription)
        }
        for subscribed in beginning {
            let subscription = subscribe(peer, to: subscribed)
            if peer.session != nil, subscription.awaitsKeyframe {
                requestKeyframe(of: subscription.track, for: subscription, now: now)
            }
        }
        if peer.nextEncodingChoice == .distantFuture, peer.session != nil { chooseEncodings(for: peer, now: now) }
        if peer.nextReport == .distantFuture, peer.session != nil { peer.nextReport = now + limits.reportInterval }
        reschedule(peer)
        return true
    }

    func pauseSubscription(_ ssrc: UInt32, of id: PeerID, isPaused: Bool, now: Instant) {
        guard let subscription = peers[id]?.subscription(sending: ssrc), subscription.isPaused != isPaused else {
            return
        }
        subscription.isPaused = isPaused
        if !isPaused { resumeEncoding(of: subscription) }
        if subscription.awaitsKeyframe { requestKeyframe(of: subscription.track, for: subscription, now: now) }
    }

    func takeAudioLevels() -> [AudioLevel] {
        tracks.values.compactMap { track in
            guard let level = track.loudestLevel else { return nil }
            track.loudestLevel = nil
            return AudioLevel(track: track.id, level: level)
        }
    }
}
