import Commands
import Transport
import Wire

/// Peers and tracks as they come and go.
extension Engine {
    /// An address that a peer has checked within this time is nobody else's: long enough to bridge the pauses between two checks, so
    /// that nobody with a session of their own takes over another's address.
    static let addressProtection = Duration.seconds(5)
    /// The same, since its last authentic media. A viewer that sends no checks gives no other sign of life than reports, of which two
    /// are up to 6.2 s apart (RFC 3550 §6.3.1: 5 s · 1.5 / 1.21828): long enough for one of them to be lost. It could never claim its
    /// address back, as it doesn't check again.
    static let addressProtectionByMedia = Duration.seconds(15)

    func addPeer(_ description: PeerDescription, now: Instant) -> Bool {
        guard peers[description.id] == nil, !description.remoteFingerprints.isEmpty,
            let usernameKey = UsernameKey(description.localCredentials.usernameFragment),
            peersByUsername[usernameKey] == nil,
            description.published.allSatisfy({ accepts($0.track, codec: $0.parameters.codec) }),
            description.subscribed.allSatisfy({ accepts($0.track, codec: $0.parameters.codec) })
        else { return false }

        var random = SecureRandom()
        let published = description.published.map { published in
            (track: track(published.track, codec: published.parameters.codec), published: published)
        }
        let peer = Peer(
            description,
            usernameKey: usernameKey,
            ice: ICEAgent(
                local: description.localCredentials,
                localAddresses: localAddresses,
                tieBreaker: random.next(),
                now: now,
                connectTimeout: limits.iceConnect,
                consentTimeout: limits.consent
            ),
            incoming: IncomingMedia(tracks: published, limits: limits),
            historyBudget: HistoryBudget(limit: limits.historyBytesPerPeer)
        )
        for (track, _) in published {
            // Whoever fed the track before has been taken over.
            track.feed = .publisher(peer)
            track.endEncoding()
        }
        for subscribed in description.subscribed { subscribe(peer, to: subscribed) }
        peers[peer.id] = peer
        peersByUsername[usernameKey] = peer
        reschedule(peer)
        return true
    }

    /// - Returns: False for a peer that is not here, or a ufrag that is in use.
    func restartICE(_ id: PeerID, local: ICECredentials) -> Bool {
        guard let peer = peers[id], let key = UsernameKey(local.usernameFragment), peersByUsername[key] == nil else {
            return false
        }
        forgetRetiredUsernames(of: peer)
        peer.ice.restart(local: local)
        // A restart that comes before the one before was used takes its place.
        for old in peer.usernameKeys.dropFirst() { peersByUsername[old] = nil }
        peer.usernameKeys = [peer.usernameKeys[0], key]
        peersByUsername[key] = peer
        return true
    }

    /// Forgets a track, its subscriptions and whatever history there is of it.
    func removeTrack(_ id: TrackID) {
        guard let track = tracks.removeValue(forKey: id) else { return }
        packetsLostBefore += track.packetsLost
        // Control removes its other encodings as well.
        for subscription in track.subscriptions + track.candidates {
            subscription.peer.subscriptions.removeAll { $0 === subscription }
            end(subscription)
        }
        track.endEncoding()
        track.feed = .none
    }

    /// Ends a peer and forgets all of it.
    func close(_ peer: Peer, reason: CloseReason, now: Instant) {
        guard peers.removeValue(forKey: peer.id) != nil else { return }
        // It may end while what is due is done.
        peer.deadline = .distantFuture
        switch peer.phase {
        case .checking: break
        case .handshaking(let dtls): dtls.close()
        case .connected(let session):
            session.dtls.close()
            drain(session.dtls, of: peer)
        }
        for key in peer.usernameKeys { peersByUsername[key] = nil }
        for address in peer.addresses where peersByAddress[address] === peer { peersByAddress[address] = nil }
        for incoming in peer.incoming.tracks { end(incoming.track, by: peer) }
        for subscription in peer.subscriptions { end(subscription) }
        peer.subscriptions.removeAll()
        leaveAddressBudget(peer)
        output.emit(.peerClosed(peer.id, reason: reason))
    }

    /// The track is not forwarded to the subscription's peer any more.
    func end(_ subscription: Subscription) {
        let track = subscription.track
        leave(subscription)
        track.remove(subscription)
        subscriptionCount -= 1
        forgetIfUnused(track)
    }

    /// The publisher is gone: the track falls silent until somebody feeds it again.
    func end(_ track: Track, by peer: Peer) {
        guard track.isFed(by: peer) else { return }
        track.feed = .none
        track.endEncoding()
        for worker in outgoingRelays.indices where track.relayTargets & (1 << UInt64(worker)) != 0 {
            relay(RelayRecord.Head(kind: .ended, track: track.id), to: worker)
        }
    }

    /// A relayed track without subscribers is not relayed any longer. A track at its home stays until Control removes it.
    func forgetIfUnused(_ track: Track) {
        guard case .relay(let home) = track.feed, track.isUnused, tracks[track.id] === track else { return }
        relay(RelayRecord.Head(kind: .detach, track: track.id), to: home.rawValue)
        tracks[track.id] = nil
    }

    @discardableResult
    func subscribe(_ peer: Peer, to subscribed: SubscribedTrack) -> Subscription {
        let lowest = feed(subscribed.track, for: subscribed)
        let subscription: Subscription
        if subscribed.higherEncodings.isEmpty {
            subscription = Subscription(subscribed, peer: peer, track: lowest)
            lowest.add(subscription)
        } else {
            let encodings = [lowest] + subscribed.higherEncodings.map { feed($0, for: subscribed) }
            subscription = subscribe(peer, to: subscribed, encodings: ContiguousArray(encodings))
        }
        subscription.isAway = peer.isAway
        if peer.outlet.bandwidth == nil, subscription.canSendPadding { peer.outlet.bandwidth = ViewerBandwidth() }
        peer.subscriptions.append(subscription)
        subscriptionCount += 1
        return subscription
    }

    /// A track that somebody here subscribes to, relayed from its home where that is another worker.
    private func feed(_ id: TrackID, for subscribed: SubscribedTrack) -> Track {
        let track = track(id, codec: subscribed.parameters.codec)
        if subscribed.home != index, case .none = track.feed {
            track.feed = .relay(from: subscribed.home)
            relay(RelayRecord.Head(kind: .attach, track: track.id), to: subscribed.home.rawValue)
        }
        return track
    }

    /// Whether a track of this id can carry this codec.
    func accepts(_ id: TrackID, codec: Codec) -> Bool { tracks[id].map { $0.codec == codec } ?? true }

    func track(_ id: TrackID, codec: Codec) -> Track {
        if let track = tracks[id] { return track }
        let track = Track(id: id, codec: codec, keyframeRequestInterval: limits.keyframeRequestInterval)
        tracks[id] = track
        return track
    }

    // MARK: Memory

    /// A peer's histories count with those of its address from now on, and these with the worker's. They have nothing yet: packets come
    /// only once a peer is connected.
    func joinAddressBudget(_ peer: Peer) {
        guard peer.historyBudget.whole == nil, let address = peer.ice.selected?.remote.ip.network else { return }
        let budget =
            addressBudgets[address] ?? HistoryBudget(limit: limits.historyBytesPerAddress, whole: workerBudget)
        addressBudgets[address] = budget
        budget.peerCount += 1
        peer.historyBudget.whole = budget
        peer.network = address
    }

    private func leaveAddressBudget(_ peer: Peer) {
        guard let address = peer.network, let budget = addressBudgets[address] else { return }
        budget.peerCount -= 1
        if budget.peerCount == 0 { addressBudgets[address] = nil }
    }

    // MARK: Look-up

    /// The engine finds the peer under the addresses that its ICE agent knows, `source` among them.
    func register(_ source: SocketAddress, for peer: Peer, now: Instant) {
        let owner = peersByAddress[source]
        if owner !== peer {
            if let owner {
                owner.addresses.removeAll { $0 == source }
                owner.ice.forget(source, now: now)
                owner.updateOutlet()
            }
            peersByAddress[source] = peer
            peer.addresses.append(source)
        }
        let known = peer.ice.addresses
        guard peer.addresses.count > known.count else { return }
        for address in peer.addresses where !known.contains(address) && peersByAddress[address] === peer {
            peersByAddress[address] = nil
        }
        peer.addresses.removeAll { !known.contains($0) }
    }

    /// After an ICE restart's first check the old ufrag leads nowhere.
    func forgetRetiredUsernames(of peer: Peer) {
        guard peer.usernameKeys.count > 1 else { return }
        let valid = peer.ice.usernameFragments.compactMap { UsernameKey($0) }
        for key in peer.usernameKeys where !valid.contains(key) { peersByUsername[key] = nil }
        peer.usernameKeys.removeAll { !valid.contains($0) }
    }

    // MARK: Snapshot

    func snapshot(includingPeers: Bool) -> WorkerSnapshot {
        var counters = counters
        counters.packetsLost = packetsLostBefore
        for track in tracks.values { counters.packetsLost += track.packetsLost }
        return WorkerSnapshot(
            worker: index,
            counters: counters,
            peerCount: peers.count,
            subscriptionCount: subscriptionCount,
            peers: includingPeers ? peers.values.map(snapshot) : []
        )
    }

    private func snapshot(_ peer: Peer) -> PeerSnapshot {
        PeerSnapshot(
            peer: peer.id,
            state: peer.session == nil ? .connecting : .connected,
            srtpProfile: peer.session?.profile.name,
            tracks: peer.incoming.tracks.map { snapshot($0.track, rid: $0.rid) },
            subscriptions: peer.subscriptions.map(\.snapshot),
            bandwidth: peer.outlet.bandwidth?.snapshot
        )
    }

    private func snapshot(_ track: Track, rid: String?) -> TrackSnapshot {
        var snapshot = TrackSnapshot(track: track.id, codec: track.codec)
        snapshot.rid = rid
        if let statistics = track.encoding?.statistics {
            snapshot.packetsReceived = statistics.received
            snapshot.bytesReceived = statistics.bytes
            snapshot.packetsLost = statistics.lost
            snapshot.jitterSeconds = statistics.jitterSeconds
            snapshot.bitsPerSecond = statistics.bitsPerSecond
        }
        snapshot.nacksSent = track.nacksSent
        snapshot.packetsRecovered = track.packetsRecovered
        snapshot.keyframeRequestsSent = track.keyframeRequestsSent
        snapshot.keyframesReceived = track.keyframesReceived
        snapshot.subscriptionCount = track.subscriptions.count
        return snapshot
    }
}

extension WorkerCounters {
    /// Counts one drop.
    @inline(__always)
    mutating func count(_ reason: DropReason) { drops[reason.rawValue] += 1 }
}

extension IPAddress {
    /// Whoever has one IPv6 address has all of its network of 64 bits (RFC 6177 §2).
    fileprivate var network: IPAddress { family == .v4 ? self : IPAddress(v6High: high, low: 0) }
}
