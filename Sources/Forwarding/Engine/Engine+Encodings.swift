import Commands
import Transport
import Wire

/// Simulcast: which encoding of a track each of its viewers is sent.
extension Engine {
    /// Subscribes to a simulcast track.
    ///
    /// - Parameter encodings: The lowest first; more than one.
    func subscribe(
        _ peer: Peer,
        to subscribed: SubscribedTrack,
        encodings: ContiguousArray<Track>
    ) -> Subscription {
        let first = EncodingChoice.of(
            encodings,
            current: encodings[0],
            limit: subscribed.highestEncoding,
            silence: limits.encodingSilence
        )
        let subscription = Subscription(subscribed, peer: peer, track: first)
        subscription.encodings = encodings
        for track in encodings {
            if track === first { track.add(subscription) } else { track.addCandidate(subscription) }
        }
        return subscription
    }

    /// A subscription is over: it is no candidate any more.
    func leave(_ subscription: Subscription) {
        let tracks = subscription.encodings
        subscription.encodings = []
        subscription.next = nil
        for track in tracks where track !== subscription.track {
            track.removeCandidate(subscription)
            forgetIfUnused(track)
        }
    }

    /// A viewer wants no encoding above this one.
    func limitSubscription(_ ssrc: UInt32, of id: PeerID, highestEncoding: Int, now: Instant) {
        guard let subscription = peers[id]?.subscription(sending: ssrc), !subscription.encodings.isEmpty else { return }
        subscription.highestWanted = max(0, highestEncoding)
        chooseEncoding(of: subscription)
        requestKeyframe(for: subscription, now: now)
    }

    /// A pause is over: it begins anew anyhow, so with the encoding that suits now.
    func resumeEncoding(of subscription: Subscription) {
        guard !subscription.encodings.isEmpty else { return }
        chooseEncoding(of: subscription)
        guard let next = subscription.next else { return }
        subscription.change(to: next)
        for encoding in subscription.encodings { encoding.sortSubscriptions() }
    }

    /// Asks for the keyframe that a subscription needs for what it is to be sent, if it needs any.
    func requestKeyframe(for subscription: Subscription, now: Instant) {
        subscription.noteSwitchPoint(patience: limits.encodingInterval, now: now)
        if let next = subscription.next, !subscription.isHeld {
            requestKeyframe(of: next, for: subscription, now: now)
        } else if subscription.awaitsLayers {
            requestKeyframe(of: subscription.track, for: subscription, now: now)
        }
    }

    /// A keyframe of a track begins: whoever waits for it, or would rather have this encoding, is sent it from now on.
    func admitCandidates(of track: Track, now: Instant) {
        var encodings: ContiguousArray<Track> = []
        for subscription in track.candidates where !subscription.isHeld && subscription.isAdmitted(to: track) {
            chooseEncoding(of: subscription)
            guard subscription.next === track else { continue }
            // What came of the old encoding in this turn is sent before the keyframe, to this viewer alone: the others' turn may be
            // still to come, and some of them may be on their way to it.
            if let old = subscription.track.encoding, !old.pending.isEmpty {
                _ = forward(old, to: subscription, now: now)
            }
            subscription.change(to: track)
            encodings = subscription.encodings
        }
        // All of them have the same encodings.
        for encoding in encodings { encoding.sortSubscriptions() }
    }

    /// A viewer reports on a track: when there is something to choose for this viewer, that is done from now on.
    func beginChoosing(for peer: Peer, reporting subscription: Subscription, now: Instant) {
        guard peer.nextEncodingChoice == .distantFuture, peer.outlet.bandwidth == nil,
            subscription.isScalable || needsRation(subscription)
        else { return }
        peer.nextEncodingChoice = now + limits.encodingInterval
        for subscription in peer.subscriptions { subscription.beginInterval() }
        noteDeadline(.encodings, of: peer)
    }

    /// Looks at each simulcast or scalable track that a peer is sent, from now on once an interval, while there are any.
    func chooseEncodings(for peer: Peer, now: Instant) {
        peer.nextEncodingChoice = .distantFuture
        if let bandwidth = peer.outlet.bandwidth, bandwidth.isKnown(at: now) {
            guard peer.subscriptions.contains(where: { $0.track.codec.kind == .video }) else { return }
            peer.nextEncodingChoice = now + limits.allocationInterval
            allocate(for: peer, now: now)
            return
        }
        if peer.outlet.bandwidth != nil, !peer.subscriptions.contains(where: { $0.ration != nil }) {
            // What is known no more limits nothing.
            peer.outlet.pacer.limit(to: .infinity, isNarrow: false)
        }
        guard
            peer.outlet.bandwidth != nil || peer.subscriptions.contains(where: { $0.isScalable || needsRation($0) })
        else { return }
        peer.nextEncodingChoice = now + limits.encodingInterval
        gaugeCongestion(of: peer, now: now)
        for subscription in peer.subscriptions where subscription.isScalable {
            if !subscription.encodings.isEmpty { chooseEncoding(of: subscription) }
            requestKeyframe(for: subscription, now: now)
        }
    }

    private func chooseEncoding(of subscription: Subscription) {
        let choice = EncodingChoice.of(
            subscription.encodings,
            current: subscription.track,
            limit: min(subscription.highestWanted, subscription.highestCarried),
            silence: limits.encodingSilence
        )
        subscription.next = choice === subscription.track ? nil : choice
    }

    // MARK: Congestion

    /// Lowers what a peer is sent when it is too much for his network, and raises it again in time.
    private func gaugeCongestion(of peer: Peer, now: Instant) {
        var reports = 0
        var lost = 0.0
        var roundTrip: Duration?
        for subscription in peer.subscriptions where subscription.track.codec.kind == .video {
            guard subscription.endInterval(), !subscription.isHeld else { continue }
            reports += 1
            lost += subscription.fractionLost
            if let trip = subscription.roundTrip { roundTrip = min(roundTrip ?? trip, trip) }
        }
        guard reports > 0 else { return }
        let step = peer.congestion.observe(
            fractionLost: lost / Double(reports),
            roundTrip: roundTrip,
            isLimited: peer.subscriptions.contains { $0.isLimited },
            now: now,
            limits: limits
        )
        switch step {
        case .stay:
            let loss = lost / Double(reports)
            // More than that was lost before it was lowered.
            if loss < limits.congestionLoss, peer.subscriptions.contains(where: { $0.ration != nil }) {
                let isClear = loss < Self.rationTolerance && peer.congestion.delay < limits.rationDelay / 2
                ration(peer, to: isClear ? 1 : 1 - max(loss, Self.rationStep), now: now)
            }
        case .lower(let isSevere):
            if peer.subscriptions.contains(where: \.canBeLowered) {
                lower(peer, isSevere: isSevere)
            } else if isSevere || peer.congestion.delay >= limits.rationDelay
                || peer.subscriptions.contains(where: { $0.ration != nil })
            {
                // Fewer losses without a queue may be the path's own, and less would not end them.
                ration(peer, to: 1 - lost / Double(reports), now: now)
            }
        case .raise: raise(peer)
        }
    }

    /// Whether a track is sent that does not fit, or is not known to fit.
    private func needsRation(_ subscription: Subscription) -> Bool {
        subscription.track.codec.kind == .video
            && (subscription.ration != nil || subscription.fractionLost >= limits.congestionLoss)
    }

    /// What a peer is sent has nothing lower: it is sent in runs of frames, as much as comes through.
    ///
    /// - Parameter share: What came through of what was sent in the last interval; 1 where nothing to speak of was lost.
    private func ration(_ peer: Peer, to share: Double, now: Instant) {
        var total = 0.0
        for subscription in peer.subscriptions where subscription.track.codec.kind == .video && !subscription.isHeld {
            let needed = subscription.track.encoding?.rates.bitsPerSecond(upTo: .none, now: now) ?? 0
            if subscription.ration == nil {
                let sent = Double(subscription.recentBytes * 8) / limits.encodingInterval.seconds
                // What was sent again has taken the place of what is reported as lost.
                subscription.ration(to: max(sent * share, needed * Self.firstRation), now: now)
            } else {
                subscription.ration?.adapt(to: share, now: now)
            }
            let rate = (subscription.ration?.bytesPerSecond ?? 0) * 8
            guard rate < needed else {
                subscription.ration(to: nil, now: now)
                continue
            }
            total += rate
        }
        peer.outlet.pacer.limit(to: total > 0 ? total : .infinity, isNarrow: total > 0)
    }

    /// The largest of what a peer is sent, or all of it, goes down by one encoding or layer.
    private func lower(_ peer: Peer, isSevere: Bool) {
        var largest: Subscription?
        for subscription in peer.subscriptions where subscription.canBeLowered {
            if isSevere { subscription.lower(isSevere: true) }
            if subscription.recentBytes >= largest?.recentBytes ?? 0 { largest = subscription }
        }
        if !isSevere { largest?.lower(isSevere: false) }
    }

    /// The lowest of the tracks that a peer gets less of than it wants goes up by one encoding or layer.
    private func raise(_ peer: Peer) {
        peer.subscriptions.filter(\.isLimited).min { $0.highestCarried < $1.highestCarried }?.raise()
    }
}
