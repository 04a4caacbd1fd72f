import Commands
import Foundation
import Logging
import Negotiation
import Transport
import Wire
import Worker

/// All sessions and streams of the server: who publishes what, who watches it, and on which worker.
///
/// Every change goes through this actor, so that two requests for one stream id can't both win.
actor StreamDirectory {
    let workers: [WorkerHandle]
    let limits: Limits
    let defaultPrivacy: PrivacyMode
    let limiter: RateLimiter
    private let fingerprint: CertificateFingerprint
    private let announce: [IPAddress]
    let logger: Logger
    private let clock = ContinuousClock()

    var streams: [StreamKey: PublishedStream] = [:]
    /// The rooms that somebody is in, that have streams, or that wait for their host.
    var rooms: [ResourceIdentifier: Room] = [:]
    /// Everybody in a room, by id; and by what resumes his stay.
    var roomPeers: [String: RoomPeer] = [:]
    var roomPeersByResumption: [String: String] = [:]
    var sessions: [String: Session] = [:]
    private(set) var sessionsByPeer: [PeerID: String] = [:]
    private var peersByWorker: [Int]
    private var peersByAddress: [String: Int] = [:]
    private var lastIdentifier: UInt64 = 0
    /// Stream ids for which a publisher is being set up: a second one has to wait.
    private var pendingKeys: Set<StreamKey> = []
    /// Room peers whose offer is being answered.
    var pendingPublishers: Set<String> = []
    /// Room peers for whom the quality of some stream may not be what they were told.
    var qualityDue: Set<String> = []
    /// What waits for a token's expiry, by the id of the session or room peer that ends then.
    private var expiries: [String: Task<Void, Never>] = [:]
    private(set) var isDraining = false

    init(
        workers: [WorkerHandle],
        limits: Limits,
        defaultPrivacy: PrivacyMode,
        limiter: RateLimiter,
        fingerprint: CertificateFingerprint,
        announce: [IPAddress],
        logger: Logger
    ) {
        self.workers = workers
        self.limits = limits
        self.defaultPrivacy = defaultPrivacy
        self.limiter = limiter
        self.fingerprint = fingerprint
        self.announce = announce
        self.logger = logger
        peersByWorker = Array(repeating: 0, count: workers.count)
    }

    // MARK: Publishing

    /// Starts a publisher, or lets it take its stream over again.
    func publish(
        _ key: StreamKey,
        offer: Offer,
        privacy requested: PrivacyMode?,
        access: Access,
        address: String
    ) async throws(Problem) -> CreatedSession {
        let owner = access.owner
        guard pendingKeys.insert(key).inserted else { throw .streamTaken }
        defer {
            pendingKeys.remove(key)
            // The stream's linger may have ended unheeded meanwhile, and this publisher may have been refused.
            if let stream = streams[key], stream.publisher == nil { linger(key, departure: stream.departures) }
        }
        try await checkIsFree(key, owner: owner)
        try admit(address)
        let privacy = try privacy(
            in: key.room,
            declared: try Self.declared(requested, offer.declaredPrivacy),
            required: access.privacy
        )

        if rooms[key.room]?.isLocked == true, streams[key] == nil { throw .roomLocked }
        let existing = streams[key]
        var worker = existing?.home ?? leastLoadedWorker()
        var local = makeLocalEndpoint(worker, privacy: privacy)
        var answer: PublisherAnswer
        do throws(NegotiationError) {
            answer = try offer.answerPublisher(local: local)
            try answer.sources.checkAsStream(limits)
            if let existing, !existing.fits(answer.sources) {
                // Other codecs: nobody who watches now could follow.
                endStream(key)
                worker = leastLoadedWorker()
                local = makeLocalEndpoint(worker, privacy: privacy)
                answer = try offer.answerPublisher(local: local)
            }
        } catch {
            throw Problem(error)
        }
        let tracks =
            streams[key]?.tracks
            ?? answer.sources.map { source in
                makeTrack(for: source, at: worker)
            }
        let published = zip(tracks, answer.sources).flatMap { $1.published(as: $0.encodings) }
        var session = makeSession(.whip(key), worker: worker, address: address, local: local, answer.remote)
        session.access = access
        // All of it is entered before the worker is asked, so that nobody who comes meanwhile counts on what is taken.
        if streams[key] == nil {
            begin(
                PublishedStream(
                    key: key,
                    privacy: privacy,
                    home: worker,
                    tracks: tracks,
                    label: RandomText.make(length: 16),
                    owner: owner
                )
            )
        }
        let previous = streams[key]?.publisher
        streams[key]?.publisher = session.id
        register(session)
        let isAdded = await addPeer(
            PeerDescription(
                id: session.peer,
                localCredentials: local.credentials,
                remoteCredentials: answer.remote.credentials,
                dtlsRole: answer.remote.dtlsRole,
                remoteFingerprints: answer.remote.fingerprints,
                published: published
            ),
            to: worker
        )
        guard isAdded, sessions[session.id] != nil else {
            if let previous, sessions[previous] != nil { streams[key]?.publisher = previous }
            forget(session.id)
            throw .full
        }
        let wasAtHome = streams[key]?.isAtHome ?? true
        streams[key]?.isAtHome = true
        wasAtHome ? announceUpdate(of: key) : announceBeginning(of: key)
        if let previous { endSession(previous) }
        logger.debug("A publisher was accepted", metadata: ["peer": "\(session.peer.rawValue)"])
        return CreatedSession(id: session.id, tag: session.tag, answer: answer.text, privacy: privacy)
    }

    /// A stream id is free when nobody publishes under it, or when its publisher has lost its connection and comes back.
    func checkIsFree(_ key: StreamKey, owner: Owner) async throws(Problem) {
        guard let stream = streams[key], let publisher = stream.publisher, let session = sessions[publisher] else {
            if let stream = streams[key], stream.owner != owner { throw .streamTaken }
            return
        }
        guard stream.owner == owner else { throw .streamTaken }
        let silence = await lastHeard(session.peer, on: session.worker) ?? session.createdAt.duration(to: clock.now)
        guard silence >= limits.publisherSilence else { throw .streamTaken }
    }

    /// The mode in which somebody takes part in a room: as who publishes, watches, joins or comes back. The one place that decides it.
    ///
    /// - Parameters:
    ///   - declared: What the client says of itself. Nobody else says it for it: a token doesn't encrypt frames.
    ///   - required: The mode that the room has to be in for its token.
    func privacy(
        in room: ResourceIdentifier,
        declared: PrivacyMode?,
        required: PrivacyMode?
    ) throws(Problem) -> PrivacyMode {
        if let declared, let required, declared != required { throw .tokenForOther("privacy mode") }
        let existing = rooms[room]?.privacy
        let mode = existing ?? declared ?? defaultPrivacy
        if let declared, declared != mode { throw .privacy(mode) }
        if let required, required != mode { throw .privacy(existing ?? required) }
        // Fail secure: who doesn't say that it encrypts would publish in the clear, or take what it can't read for sound and pictures.
        if mode == .endToEnd, declared == nil { throw .privacy(mode) }
        return mode
    }

    /// What a client declares in one way and in another, which have to agree.
    static func declared(_ one: PrivacyMode?, _ other: PrivacyMode?) throws(Problem) -> PrivacyMode? {
        if let one, let other, one != other { throw .privacyTwice }
        return one ?? other
    }

    // MARK: Watching

    /// Whether somebody publishes the stream now: what those who poll are told, without looking at their offer.
    func isLive(_ key: StreamKey) -> Bool { streams[key].map { $0.publisher != nil && $0.isAtHome } ?? false }

    /// Whether somebody is being set up as its publisher right now.
    func isBeingPublished(_ key: StreamKey) -> Bool { pendingKeys.contains(key) }

    /// The mode of the room that a stream is in; nil while the room has no stream.
    func privacy(of key: StreamKey) -> PrivacyMode? {
        rooms[key.room]?.privacy
    }

    /// The mode that answers about a stream tell, whether it is there or not.
    func announcedPrivacy(of key: StreamKey) -> PrivacyMode { privacy(of: key) ?? defaultPrivacy }

    /// Starts a viewer.
    func watch(
        _ key: StreamKey,
        offer: Offer,
        privacy requested: PrivacyMode?,
        access: Access,
        address: String
    ) async throws(Problem) -> CreatedSession {
        guard let stream = streams[key], isLive(key) else { throw .noSuchStream }
        if rooms[key.room]?.isLocked == true { throw .roomLocked }
        try admit(address)
        _ = try privacy(
            in: key.room,
            declared: try Self.declared(requested, offer.declaredPrivacy),
            required: access.privacy
        )

        let worker = leastLoadedWorker()
        let local = makeLocalEndpoint(worker, privacy: stream.privacy)
        let answer: ViewerAnswer
        do throws(NegotiationError) {
            answer = try offer.answerViewer(
                tracks: stream.tracks,
                streamLabel: stream.label,
                cname: stream.label,
                local: local,
                ssrcs: makeSSRCs()
            )
        } catch {
            throw Problem(error)
        }
        var session = makeSession(.whep(key), worker: worker, address: address, local: local, answer.remote)
        session.access = access
        register(session)
        streams[key]?.viewers.insert(session.id)
        let isAdded = await addPeer(
            PeerDescription(
                id: session.peer,
                localCredentials: local.credentials,
                remoteCredentials: answer.remote.credentials,
                dtlsRole: answer.remote.dtlsRole,
                remoteFingerprints: answer.remote.fingerprints,
                subscribed: answer.subscriptions
            ),
            to: worker
        )
        guard isAdded else {
            forget(session.id)
            throw .full
        }
        // The stream may have ended while the worker was asked.
        guard sessions[session.id] != nil else { throw .noSuchStream }
        logger.debug("A viewer was accepted", metadata: ["peer": "\(session.peer.rawValue)"])
        return CreatedSession(id: session.id, tag: session.tag, answer: answer.text, privacy: stream.privacy)
    }

    // MARK: Sessions

    /// Both sides' ICE credentials, by which a PATCH is understood.
    func credentials(
        of id: String,
        key: StreamKey,
        role: Session.Role
    ) throws(Problem) -> (local: ICECredentials, remote: ICECredentials) {
        guard let session = sessions[id], session.purpose == .init(role, key), let remote = session.remoteCredentials
        else { throw .noSuchSession }
        return (session.local.credentials, remote)
    }

    /// Trickle ICE and ICE restart.
    ///
    /// - Parameter ifMatch: The request's `If-Match`.
    func patch(
        _ id: String,
        key: StreamKey,
        role: Session.Role,
        _ request: PatchRequest,
        ifMatch: String?
    ) async throws(Problem) -> PatchedSession {
        guard var session = sessions[id], session.purpose == .init(role, key) else { throw .noSuchSession }
        if let ifMatch, ifMatch != "*", ifMatch != session.tag { throw .differentETag }
        switch request {
        case .trickle:
            return .trickled(privacy: session.local.privacy)
        case .restart(let remote, let mid):
            guard ifMatch != nil else { throw .missingETag }
            session.local.restart(makeCredentials())
            session.remoteCredentials = remote
            session.tag = makeTag()
            let local = session.local
            let isRestarted = await withCheckedContinuation { continuation in
                handle(session.worker).send(
                    .restartICE(session.peer, local: local.credentials, remote: remote) {
                        continuation.resume(returning: $0)
                    }
                )
            }
            guard isRestarted, sessions[id] != nil else { throw .noSuchSession }
            sessions[id] = session
            return .restarted(fragment: local.restartAnswer(mid: mid), tag: session.tag, privacy: local.privacy)
        }
    }

    /// What the request that began a session was allowed; nil when there is none.
    func access(of id: String, key: StreamKey, role: Session.Role) -> Access? {
        guard let session = sessions[id], session.purpose == .init(role, key) else { return nil }
        return session.access
    }

    /// Hangs up.
    func delete(_ id: String, key: StreamKey, role: Session.Role) throws(Problem) -> PrivacyMode {
        guard let session = sessions[id], session.purpose == .init(role, key) else { throw .noSuchSession }
        endSession(id)
        return session.local.privacy
    }

    /// Hangs up when the token that began a session expires, if it says so.
    func end(_ id: String, at date: Date) {
        guard sessions[id] != nil else { return }
        setExpiry(of: id, to: date) { $0.endSession(id) }
    }

    /// Has something ended at a date, in place of any that was set for it before.
    ///
    /// - Parameter id: The session's or room peer's.
    func setExpiry(of id: String, to date: Date?, _ end: @escaping @Sendable (isolated StreamDirectory) -> Void) {
        expiries.removeValue(forKey: id)?.cancel()
        guard let date else { return }
        expiries[id] = Task {
            await WallClock.wait(until: date, lookingEach: limits.expiryInterval)
            if !Task.isCancelled { end(self) }
        }
    }

    /// What was to end at a date is over.
    func forgetExpiry(of id: String) { expiries.removeValue(forKey: id)?.cancel() }

    /// What a worker tells.
    func handle(_ event: Event) {
        switch event {
        case .peerConnected(let peer):
            logger.debug("A peer connected", metadata: ["peer": "\(peer.rawValue)"])
        case .peerClosed(let peer, let reason):
            logger.debug("A peer closed", metadata: ["peer": "\(peer.rawValue)", "reason": "\(reason.rawValue)"])
            if let id = sessionsByPeer[peer] { forget(id) }
        }
    }

    /// New sessions are refused from now on.
    func drain() { isDraining = true }

    /// Whether nobody would miss the server: nobody has a session, or is in a room.
    var isEmpty: Bool { sessions.isEmpty && roomPeers.values.allSatisfy { $0.socket == nil } }

    // MARK: Statistics

    /// What the server is doing, without the workers' part.
    var census: Census {
        var census = Census()
        for session in sessions.values { census.peers[session.purpose.role, default: 0] += 1 }
        census.streamCount = streams.values.count { $0.publisher != nil }
        for room in rooms.values { census.rooms[room.privacy, default: 0] += 1 }
        return census
    }

    /// The streams with their sessions' peers, for the operator.
    var roster: [RosterEntry] {
        var inRooms: [StreamKey: [PeerID]] = [:]
        for peer in roomPeers.values {
            guard let receiving = peer.receiving, receiving.isAdded, let session = sessions[receiving.session] else {
                continue
            }
            for key in peer.receivedStreams { inRooms[key, default: []].append(session.peer) }
        }
        return streams.values.map { stream in
            RosterEntry(
                room: stream.key.room.text,
                stream: stream.key.stream.text,
                privacy: stream.privacy,
                publisher: stream.publisher.flatMap { sessions[$0]?.peer },
                viewers: stream.viewers.compactMap { sessions[$0]?.peer } + inRooms[stream.key, default: []]
            )
        }
    }

    // MARK: Ends

    /// Ends a session and its peer.
    func endSession(_ id: String) {
        guard let session = sessions[id] else { return }
        handle(session.worker).send(.removePeer(session.peer))
        forget(id)
    }

    /// Forgets a session whose peer is gone or going.
    func forget(_ id: String) {
        guard let session = sessions.removeValue(forKey: id) else { return }
        forgetExpiry(of: id)
        sessionsByPeer[session.peer] = nil
        peersByWorker[session.worker.rawValue] -= 1
        let left = (peersByAddress[session.address] ?? 1) - 1
        peersByAddress[session.address] = left > 0 ? left : nil
        switch session.purpose {
        case .whep(let key): streams[key]?.viewers.remove(id)
        case .whip(let key): publisherIsGone(id, from: key)
        case .roomSending(let peer):
            let keys = roomPeers[peer].flatMap { rooms[$0.room]?.streams } ?? []
            for key in keys { publisherIsGone(id, from: key) }
            connectionIsGone(.send, session: id, of: peer)
        case .roomReceiving(let peer): connectionIsGone(.receive, session: id, of: peer)
        }
    }

    /// The stream waits for its publisher to come back, if this was he.
    private func publisherIsGone(_ id: String, from key: StreamKey) {
        guard var stream = streams[key], stream.publisher == id else { return }
        stream.publisher = nil
        stream.departures += 1
        streams[key] = stream
        announceUpdate(of: key)
        linger(key, departure: stream.departures)
    }

    /// Keeps a stream without a publisher for a while, with its viewers, for him to come back.
    func linger(_ key: StreamKey, departure: Int) {
        Task {
            try? await Task.sleep(for: limits.streamLinger)
            if let stream = streams[key], stream.publisher == nil, stream.departures == departure,
                !pendingKeys.contains(key)
            {
                endStream(key)
            }
        }
    }

    /// A stream that was not there before, in a room that it may be the first of.
    func begin(_ stream: PublishedStream) {
        streams[stream.key] = stream
        rooms[stream.key.room, default: makeRoom(privacy: stream.privacy)].streams.append(stream.key)
    }

    /// Ends a stream with all its sessions.
    func endStream(_ key: StreamKey) {
        guard let stream = streams.removeValue(forKey: key) else { return }
        rooms[key.room]?.streams.removeAll { $0 == key }
        announceEnd(of: stream)
        for id in stream.viewers { endSession(id) }
        if let publisher = stream.publisher, case .whip? = sessions[publisher]?.purpose { endSession(publisher) }
        forgetRoomIfEmpty(key.room)
        for worker in workers {
            for track in stream.tracks.flatMap(\.encodings) { worker.send(.removeTrack(track)) }
        }
    }

    // MARK: Parts

    /// - Parameter leaving: Sessions of the address that the new one takes the place of.
    func admit(_ address: String, leaving: Int = 0) throws(Problem) {
        if isDraining { throw .draining }
        if sessions.count - leaving >= limits.peers { throw .full }
        if peersByAddress[address, default: 0] - leaving >= limits.peersPerAddress { throw .tooManyPeers }
    }

    /// A track for what a publisher sends on one m-line.
    func makeTrack(for source: NegotiatedSource, at home: WorkerIndex) -> ForwardableTrack {
        ForwardableTrack(
            track: TrackID(rawValue: nextIdentifier()),
            higherEncodings: source.encodings.dropFirst().map { _ in TrackID(rawValue: nextIdentifier()) },
            home: home,
            codec: source.parameters.codec,
            formatParameters: source.parameters.formatParameters
        )
    }

    func makeSession(
        _ purpose: Session.Purpose,
        worker: WorkerIndex,
        address: String,
        local: LocalEndpoint,
        _ remote: RemoteEndpoint?
    ) -> Session {
        Session(
            id: RandomText.make(length: 24),
            peer: PeerID(rawValue: nextIdentifier()),
            purpose: purpose,
            worker: worker,
            address: address,
            createdAt: clock.now,
            local: local,
            remoteCredentials: remote?.credentials,
            tag: makeTag()
        )
    }

    func register(_ session: Session) {
        sessions[session.id] = session
        sessionsByPeer[session.peer] = session.id
        peersByWorker[session.worker.rawValue] += 1
        peersByAddress[session.address, default: 0] += 1
    }

    func makeSSRCs() -> SSRCSequence {
        var random = SecureRandom()
        return SSRCSequence(using: &random)
    }

    func makeLocalEndpoint(_ worker: WorkerIndex, privacy: PrivacyMode) -> LocalEndpoint {
        var random = SecureRandom()
        let port = handle(worker).port
        return LocalEndpoint(
            credentials: makeCredentials(),
            fingerprint: fingerprint,
            addresses: announce.map { SocketAddress(ip: $0, port: port) },
            privacy: privacy,
            sessionID: random.next()
        )
    }

    /// RFC 8445 §5.3 wants at least 24 bits of ufrag and 128 of password.
    func makeCredentials() -> ICECredentials {
        ICECredentials(usernameFragment: RandomText.make(length: 12), password: RandomText.make(length: 24))
    }

    private func makeTag() -> String { "\"\(RandomText.make(length: 12))\"" }

    func nextIdentifier() -> UInt64 {
        lastIdentifier += 1
        return lastIdentifier
    }

    func leastLoadedWorker() -> WorkerIndex {
        let least = peersByWorker.indices.min { peersByWorker[$0] < peersByWorker[$1] } ?? 0
        return WorkerIndex(rawValue: least)
    }

    func handle(_ worker: WorkerIndex) -> WorkerHandle { workers[worker.rawValue] }

    func addPeer(_ description: PeerDescription, to worker: WorkerIndex) async -> Bool {
        await withCheckedContinuation { continuation in
            handle(worker).send(.addPeer(description) { continuation.resume(returning: $0) })
        }
    }

    private func lastHeard(_ peer: PeerID, on worker: WorkerIndex) async -> Duration? {
        await withCheckedContinuation { continuation in
            handle(worker).send(.lastHeard(peer) { continuation.resume(returning: $0) })
        }
    }
}
