import Commands
import Negotiation
import Transport
import Wire
import Worker

/// The two connections of a room's peer: the one that he offers and publishes on, and the one that we offer and he receives on.
extension StreamDirectory {
    enum ConnectionName: String {
        case send
        case receive
    }

    // MARK: Sending

    /// Whether a peer may publish, and now: as much as can be said before its offer is read.
    func checkPublishing(by id: String) throws(Problem) {
        guard let peer = roomPeers[id] else { throw .notInRoom }
        guard peer.rights.contains(.publish) else { throw .forbidden }
        guard !pendingPublishers.contains(id) else {
            throw Problem.conflicting("A publish of yours is under way: wait for its answer.")
        }
    }

    /// Answers a peer's offer: from now on he publishes these streams and no others.
    func publish(
        _ specifications: [ClientMessage.Stream],
        offer: Offer,
        privacy declared: PrivacyMode?,
        by id: String
    ) async throws(Problem) -> JSONValue {
        try checkPublishing(by: id)
        guard let peer = roomPeers[id], let room = rooms[peer.room] else { throw .notInRoom }
        pendingPublishers.insert(id)
        defer { pendingPublishers.remove(id) }
        let declared = try Self.declared(declared, offer.declaredPrivacy)
        // With no stream nothing is said, as nothing is sent.
        if declared != nil || !specifications.isEmpty {
            _ = try privacy(in: peer.room, declared: declared, required: nil)
        }
        let wanted = try keys(of: specifications, in: peer.room, by: id)

        var connection = peer.sending
        var session = connection.flatMap { sessions[$0.session] }
        var replaced: String?
        if session?.remoteFingerprints != offer.fingerprints {
            // Another connection of the client's in place of the one before.
            replaced = session?.id
            connection = nil
            session = nil
            try admit(peer.address, leaving: replaced == nil ? 0 : 1)
            if replaced != nil, !limiter.admits(peer.address) { throw .tooManyRequests }
        }
        let worker =
            session?.worker ?? wanted.lazy.compactMap { self.streams[$0.key]?.home }.first ?? leastLoadedWorker()
        var local = session?.local ?? makeLocalEndpoint(worker, privacy: room.privacy)
        let isRestart = session.map { $0.remoteCredentials != offer.credentials } ?? false
        if isRestart { local.restart(makeCredentials()) }
        let version = (connection?.version ?? 0) + 1
        let answer: PublisherAnswer
        do throws(NegotiationError) {
            answer = try offer.answerPublisher(local: local, version: version, allowsSilence: true)
        } catch {
            throw Problem(error)
        }
        let changes = try assign(answer.sources, to: wanted)

        // Everything is checked: from here on it is entered.
        if let replaced {
            roomPeers[id]?.sending = nil
            endSession(replaced)
        }
        for key in rooms[peer.room]?.streams ?? []
        where streams[key]?.owner == .roomPeer(id) && !wanted.contains(where: { $0.key == key }) {
            endStream(key)
        }
        var published: [PublishedTrack] = []
        for change in changes {
            if let existing = streams[change.key], !existing.fits(change.sources) || existing.home != worker {
                endStream(change.key)
            }
            if streams[change.key] == nil { begin(newStream(change, at: worker, by: id, privacy: room.privacy)) }
            for (track, source) in zip(streams[change.key]?.tracks ?? [], change.sources) {
                published += source.published(as: track.encodings)
            }
        }
        let isNew = session == nil
        var entered =
            session
            ?? makeSession(.roomSending(id), worker: worker, address: peer.address, local: local, answer.remote)
        entered.local = local
        entered.remoteCredentials = answer.remote.credentials
        entered.remoteFingerprints = answer.remote.fingerprints
        if isNew { register(entered) } else { sessions[entered.id] = entered }
        roomPeers[id]?.sending = RoomPeer.Connection(session: entered.id, version: version, isAdded: true)
        for change in changes {
            streams[change.key]?.publisher = entered.id
            streams[change.key]?.kind = change.specification.kind
            streams[change.key]?.height = change.specification.height
            streams[change.key]?.muted = change.specification.muted ?? []
        }
        if isRestart {
            handle(worker).send(
                .restartICE(entered.peer, local: local.credentials, remote: answer.remote.credentials) { _ in }
            )
        }
        let isDone =
            await isNew
            ? addPeer(
                PeerDescription(
                    id: entered.peer,
                    localCredentials: local.credentials,
                    remoteCredentials: answer.remote.credentials,
                    dtlsRole: answer.remote.dtlsRole,
                    remoteFingerprints: answer.remote.fingerprints,
                    published: published
                ),
                to: worker
            ) : setPublished(published, of: entered.peer, on: worker)
        guard isDone, sessions[entered.id] != nil else {
            forget(entered.id)
            throw isNew ? .full : .noSuchSession
        }
        for change in changes {
            guard let stream = streams[change.key] else { continue }
            streams[change.key]?.isAtHome = true
            stream.isAtHome ? announceUpdate(of: change.key) : announceBeginning(of: change.key)
        }
        return ["type": "answer", "connection": "send", "sdp": .string(answer.text)]
    }

    /// A stream of a `publish` with the m-lines that it is made of.
    private struct PublishedChange {
        let key: StreamKey
        let specification: ClientMessage.Stream
        let sources: [NegotiatedSource]
    }

    private func keys(
        of specifications: [ClientMessage.Stream],
        in room: ResourceIdentifier,
        by id: String
    ) throws(Problem) -> [(key: StreamKey, specification: ClientMessage.Stream)] {
        guard specifications.count <= limits.streamsPerRoomPeer else {
            throw Problem.badMessage("A peer publishes at most \(limits.streamsPerRoomPeer) streams.")
        }
        var keys: [(key: StreamKey, specification: ClientMessage.Stream)] = []
        for specification in specifications {
            guard let stream = ResourceIdentifier(specification.stream) else { throw .badIdentifier }
            let key = StreamKey(room: room, stream: stream)
            guard !keys.contains(where: { $0.key == key }) else {
                throw Problem.badMessage("Each stream is named once.")
            }
            guard roomPeers[id]?.mayUse(key) == true else { throw .tokenForOther("stream") }
            if let other = streams[key], other.owner != .roomPeer(id) { throw .streamTaken }
            guard !isBeingPublished(key) else { throw .streamTaken }
            guard specification.kind?.utf8.count ?? 0 <= 32 else {
                throw Problem.badMessage("kind has at most 32 characters.")
            }
            guard (1...65_535).contains(specification.height ?? 1) else {
                throw Problem.badMessage("height is 1 to 65535.")
            }
            try checkMuted(specification.muted ?? [])
            keys.append((key, specification))
        }
        return keys
    }

    private func assign(
        _ sources: [NegotiatedSource],
        to wanted: [(key: StreamKey, specification: ClientMessage.Stream)]
    ) throws(Problem) -> [PublishedChange] {
        var changes: [PublishedChange] = []
        var taken: Set<String> = []
        for (key, specification) in wanted {
            let mids = Set(specification.mids)
            guard taken.isDisjoint(with: mids) else { throw Problem.badMessage("Each m-line belongs to one stream.") }
            taken.formUnion(mids)
            let own = sources.filter { mids.contains($0.parameters.mid) }
            guard !own.isEmpty else {
                throw Problem.badMessage("A stream's mids have to name m-lines that the offer sends on.")
            }
            do throws(NegotiationError) {
                try own.checkAsStream(limits)
            } catch {
                throw Problem(error)
            }
            changes.append(PublishedChange(key: key, specification: specification, sources: own))
        }
        return changes
    }

    private func newStream(
        _ change: PublishedChange,
        at home: WorkerIndex,
        by id: String,
        privacy: PrivacyMode
    ) -> PublishedStream {
        PublishedStream(
            key: change.key,
            privacy: privacy,
            home: home,
            tracks: change.sources.map { makeTrack(for: $0, at: home) },
            label: RandomText.make(length: 16),
            owner: .roomPeer(id)
        )
    }

    private func setPublished(_ published: [PublishedTrack], of peer: PeerID, on worker: WorkerIndex) async -> Bool {
        await withCheckedContinuation { continuation in
            handle(worker).send(.setPublished(peer, published) { continuation.resume(returning: $0) })
        }
    }

    /// A publisher ends one of his streams.
    func unpublish(_ key: StreamKey, by id: String) throws(Problem) {
        guard streams[key]?.owner == .roomPeer(id) else { throw .noSuchStream }
        endStream(key)
    }

    /// What is muted in a stream, as its publisher tells it to all.
    func setMuted(_ muted: [String], of key: StreamKey, by id: String) throws(Problem) {
        guard streams[key]?.owner == .roomPeer(id) else { throw .noSuchStream }
        try checkMuted(muted)
        streams[key]?.muted = muted
        announceUpdate(of: key)
    }

    func checkMuted(_ muted: [String]) throws(Problem) {
        guard muted.allSatisfy({ MediaKind(rawValue: $0) != nil }), muted.count <= 2 else {
            throw Problem.badMessage("muted holds audio, video or both.")
        }
    }

    // MARK: Receiving

    /// The m-lines of a receiving connection that begins: its keys are new, so it may send with any SSRC.
    func makeOutgoingMedia(privacy: PrivacyMode) -> OutgoingMedia {
        OutgoingMedia(
            privacy: privacy,
            maximumLines: limits.roomMediaSections,
            maximumLinesPerPublisher: limits.roomMediaSectionsPerPublisher,
            ssrcs: makeSSRCs()
        )
    }

    /// Gives a peer the m-lines of a stream, or of those of its tracks that he has chosen; `offerIfNeeded` offers them.
    ///
    /// - Parameter anew: Whether those that he has already may not be the ones that he has chosen.
    func subscribe(_ id: String, to key: StreamKey, anew: Bool = false) {
        // In place: a copy of the peer's m-lines for each stream would grow with the square of the streams.
        guard let stream = streams[key], roomPeers[id] != nil, anew || roomPeers[id]?.subscribed[key] == nil else {
            return
        }
        let chosen = roomPeers[id]?.chosenTracks[key]
        let wanted = stream.tracks.enumerated().filter { chosen?.contains($0.offset) ?? true }
        let before = roomPeers[id]?.subscribed[key] ?? []
        let ending = before.filter { track in !wanted.contains { $0.element.track == track } }
        stopSending(ending, to: id)
        for track in ending where roomPeers[id]?.quality[key]?.removeValue(forKey: track) != nil {
            qualityDue.insert(id)
        }
        var tracks: [TrackID] = []
        for (place, track) in wanted {
            if before.contains(track.track) {
                tracks.append(track.track)
                continue
            }
            do throws(NegotiationError) {
                _ = try roomPeers[id]?.outgoing.add(
                    track,
                    of: stream.publisherName,
                    place: place,
                    label: stream.label,
                    cname: stream.label
                )
                tracks.append(track.track)
            } catch {
                roomPeers[id]?.socket?.send(Problem(error).json(replyingTo: nil, stream: key))
            }
        }
        roomPeers[id]?.subscribed[key] = tracks
    }

    /// A peer doesn't want a stream any more, whatever his policy.
    func refuse(_ key: StreamKey, by id: String) {
        // What there is not is not remembered, whoever names it.
        guard streams[key] != nil else { return }
        roomPeers[id]?.chosen.remove(key)
        roomPeers[id]?.refused.insert(key)
        unsubscribe(id, from: key)
        offerIfNeeded(id)
    }

    func unsubscribe(_ id: String, from key: StreamKey) {
        guard let tracks = roomPeers[id]?.subscribed.removeValue(forKey: key) else { return }
        roomPeers[id]?.paused[key] = nil
        if roomPeers[id]?.quality.removeValue(forKey: key) != nil { qualityDue.insert(id) }
        stopSending(tracks, to: id)
    }

    /// Frees the m-lines of tracks.
    private func stopSending(_ tracks: [TrackID], to id: String) {
        let ending = tracks.compactMap { roomPeers[id]?.outgoing.remove($0) }
        guard !ending.isEmpty, let receiving = roomPeers[id]?.receiving, receiving.isAdded,
            let session = sessions[receiving.session]
        else { return }
        handle(session.worker).send(.changeSubscriptions(session.peer, ending: ending, beginning: []) { _ in })
    }

    /// Subscribes by name, or changes what comes by itself.
    ///
    /// - Parameter tracks: The places of those tracks of the stream that are wanted; nil for all.
    func subscribe(_ id: String, to key: StreamKey?, tracks: [Int]?, policy: RoomPeer.Policy?) throws(Problem) {
        guard let peer = roomPeers[id] else { throw .notInRoom }
        if let key {
            guard peer.mayUse(key) else { throw .tokenForOther("stream") }
            guard isLive(key) else { throw .noSuchStream }
            let places = try places(tracks, of: key)
            roomPeers[id]?.chosenTracks[key] = tracks == nil ? nil : places
            roomPeers[id]?.chosen.insert(key)
            roomPeers[id]?.refused.remove(key)
        }
        if let policy { roomPeers[id]?.policy = policy }
        let wanted = wantedStreams(of: id)
        for key in (roomPeers[id]?.subscribed ?? [:]).keys where !wanted.contains(key) { unsubscribe(id, from: key) }
        for other in wanted { subscribe(id, to: other, anew: other == key) }
        offerIfNeeded(id)
    }

    /// The places of tracks in their stream.
    ///
    /// - Parameter tracks: As a client names them; nil for all.
    private func places(_ tracks: [Int]?, of key: StreamKey) throws(Problem) -> Set<Int> {
        let count = streams[key]?.tracks.count ?? 0
        guard let tracks else { return Set(0..<count) }
        guard tracks.allSatisfy({ $0 < count }) else {
            throw Problem.badMessage("tracks has places in the stream's tracks: this one has \(count).")
        }
        return Set(tracks)
    }

    /// Holds a stream back, or some of its tracks, or lets them go on.
    ///
    /// - Parameter tracks: Their places in the stream; nil for all.
    func pause(_ id: String, _ key: StreamKey, tracks: [Int]?, isPaused: Bool) throws(Problem) {
        guard var peer = roomPeers[id], peer.subscribed[key] != nil else { throw .noSuchStream }
        let places = try places(tracks, of: key)
        if isPaused {
            peer.paused[key, default: []].formUnion(places)
        } else {
            peer.paused[key]?.subtract(places)
        }
        roomPeers[id] = peer
        sendPauses(of: key, to: peer)
    }

    /// Has no better encodings of these streams forwarded, now and whenever the peer is sent them. Streams that have ended meanwhile
    /// are left out.
    func limitEncodings(_ limits: [StreamKey: Int], of id: String) {
        for (key, highest) in limits where streams[key] != nil && roomPeers[id]?.mayUse(key) == true {
            roomPeers[id]?.highestEncodings[key] = highest
            if let peer = roomPeers[id] { sendLimits(of: key, to: peer) }
        }
    }

    private func sendLimits(of key: StreamKey, to peer: RoomPeer) {
        guard let highest = peer.highestEncodings[key] else { return }
        send(to: peer, ofEachTrackOf: key) { peerID, ssrc, _ in
            .limitSubscription(peerID, ssrc: ssrc, highestEncoding: highest)
        }
    }

    private func sendPauses(of key: StreamKey, to peer: RoomPeer) {
        send(to: peer, ofEachTrackOf: key) { peerID, ssrc, place in
            .pauseSubscription(peerID, ssrc: ssrc, isPaused: peer.paused[key]?.contains(place) == true)
        }
    }

    /// - Parameter command: Makes one for a track that the peer is sent, of its peer, its SSRC and its place in the stream.
    private func send(to peer: RoomPeer, ofEachTrackOf key: StreamKey, _ command: (PeerID, UInt32, Int) -> Command) {
        guard let receiving = peer.receiving, let session = sessions[receiving.session] else { return }
        for (place, track) in (streams[key]?.tracks ?? []).enumerated() {
            guard let ssrc = peer.outgoing.ssrc(of: track.track) else { continue }
            handle(session.worker).send(command(session.peer, ssrc, place))
        }
    }

    /// Offers what has changed, unless an offer waits for its answer: then what has changed waits for that.
    func offerIfNeeded(_ id: String, restarts: Bool = false) {
        guard var peer = roomPeers[id], let socket = peer.socket, let room = rooms[peer.room] else { return }
        if peer.receiving == nil {
            guard peer.outgoing.lineCount > 0 else { return }
            do throws(Problem) {
                try admit(peer.address)
            } catch {
                return socket.send(error.json(replyingTo: nil))
            }
            let worker = leastLoadedWorker()
            let local = makeLocalEndpoint(worker, privacy: room.privacy)
            let session = makeSession(.roomReceiving(id), worker: worker, address: peer.address, local: local, nil)
            register(session)
            peer.receiving = RoomPeer.Connection(session: session.id)
        }
        guard let receiving = peer.receiving, let session = sessions[receiving.session] else { return }
        let offer = peer.outgoing.nextOffer(local: session.local, restarts: restarts)
        roomPeers[id] = peer
        guard let offer else { return }
        let subscribed = peer.subscribed.map { key, tracks -> JSONValue in
            [
                "stream": .string(key.stream.text),
                "mids": .array(tracks.compactMap { peer.outgoing.mid(of: $0).map { .string($0) } }),
            ]
        }
        socket.send([
            "type": "offer", "connection": "receive", "offer": .number(Double(peer.outgoing.version)),
            "sdp": .string(offer), "streams": .array(subscribed),
        ])
    }

    /// Whether a peer's answer is one to our last offer: what can be said before it is read.
    ///
    /// - Parameter number: The offer's; an answer to one before the last is ignored.
    func awaitsAnswer(to number: UInt64?, from id: String) throws(Problem) -> Bool {
        guard let peer = roomPeers[id] else { throw .notInRoom }
        if let number, number != peer.outgoing.version { return false }
        guard peer.outgoing.awaitsAnswer, let receiving = peer.receiving, sessions[receiving.session] != nil else {
            throw Problem.conflicting("No offer waits for an answer.")
        }
        return true
    }

    /// Takes a peer's answer to our offer in.
    func accept(answer: Offer, to number: UInt64?, from id: String) async throws(Problem) {
        guard try awaitsAnswer(to: number, from: id) else { return }
        guard var peer = roomPeers[id], let receiving = peer.receiving, var session = sessions[receiving.session] else {
            throw .notInRoom
        }
        var accepted: OutgoingMedia.Accepted
        do throws(NegotiationError) {
            accepted = try peer.outgoing.accept(answer: answer)
        } catch {
            throw Problem(error)
        }
        for (key, highest) in peer.highestEncodings {
            let tracks = peer.subscribed[key] ?? []
            for place in accepted.beginning.indices where tracks.contains(accepted.beginning[place].track) {
                accepted.beginning[place].highestEncoding = highest
            }
        }
        session.remoteCredentials = accepted.remote.credentials
        sessions[session.id] = session
        let isNew = !receiving.isAdded
        peer.receiving?.isAdded = true
        roomPeers[id] = peer
        if isNew {
            let isAdded = await addPeer(
                PeerDescription(
                    id: session.peer,
                    localCredentials: session.local.credentials,
                    remoteCredentials: accepted.remote.credentials,
                    dtlsRole: accepted.remote.dtlsRole,
                    remoteFingerprints: accepted.remote.fingerprints,
                    subscribed: accepted.beginning
                ),
                to: session.worker
            )
            guard isAdded else {
                forget(session.id)
                throw .full
            }
        } else if !accepted.beginning.isEmpty {
            handle(session.worker).send(
                .changeSubscriptions(session.peer, ending: [], beginning: accepted.beginning) { _ in }
            )
        }
        guard let now = roomPeers[id] else { return }
        for key in now.paused.keys { sendPauses(of: key, to: now) }
        offerIfNeeded(id)
    }

    /// An ICE restart of the connection that we offer: new credentials, and an offer that has them.
    func restartReceiving(_ id: String) throws(Problem) {
        guard var peer = roomPeers[id], let receiving = peer.receiving, receiving.isAdded,
            var session = sessions[receiving.session]
        else { throw .noSuchSession }
        if peer.outgoing.awaitsAnswer { peer.outgoing.abandonOffer() }
        session.local.restart(makeCredentials())
        sessions[session.id] = session
        roomPeers[id] = peer
        handle(session.worker).send(
            .restartICE(
                session.peer,
                local: session.local.credentials,
                remote: session.remoteCredentials ?? session.local.credentials
            ) { _ in }
        )
        offerIfNeeded(id, restarts: true)
    }

    // MARK: Ends

    /// A connection's peer is gone from its worker, or going.
    func connectionIsGone(_ name: ConnectionName, session: String, of id: String) {
        guard var peer = roomPeers[id] else { return }
        switch name {
        case .send:
            guard peer.sending?.session == session else { return }
            peer.sending = nil
        case .receive:
            guard peer.receiving?.session == session else { return }
            peer.receiving = nil
            // The client makes its connection anew, with m-lines from the first.
            peer.outgoing = makeOutgoingMedia(privacy: peer.outgoing.privacy)
            peer.subscribed = [:]
            peer.quality = [:]
            qualityDue.insert(id)
        }
        roomPeers[id] = peer
        peer.socket?.send(["type": "connection-lost", "connection": .string(name.rawValue)])
    }

    /// The client has made its receiving connection anew, and wants to be offered everything again.
    func renewReceiving(_ id: String) throws(Problem) {
        guard let peer = roomPeers[id] else { throw .notInRoom }
        guard limiter.admits(peer.address) else { throw .tooManyRequests }
        roomPeers[id]?.receiving = nil
        roomPeers[id]?.outgoing = makeOutgoingMedia(privacy: peer.outgoing.privacy)
        roomPeers[id]?.subscribed = [:]
        roomPeers[id]?.quality = [:]
        qualityDue.insert(id)
        if let receiving = peer.receiving { endSession(receiving.session) }
        for key in wantedStreams(of: id) { subscribe(id, to: key) }
        offerIfNeeded(id)
    }
}
