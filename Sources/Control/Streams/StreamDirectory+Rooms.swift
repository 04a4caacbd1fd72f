import Commands
import Foundation
import Negotiation
import Wire
import Worker

/// What a client asks for in `join`, with what its token allows.
struct JoinRequest: Sendable {
    var room: ResourceIdentifier
    var name: String
    var rights: RoomRights
    /// What the client declares.
    var privacy: PrivacyMode?
    /// The mode that the room has to be in for its token.
    var tokenPrivacy: PrivacyMode?
    /// The one stream that he may publish and receive; nil for all.
    var onlyStream: String?
    /// When his stay ends at the latest.
    var ends: Date?
    var policy: RoomPeer.Policy
    var address: String
    /// Whether he is the host of a room that he makes: where nobody needs a token.
    var mayBecomeHost: Bool
    /// The secret of an earlier stay, from which they may come back.
    var resumption: String?
    /// What else `joined` says: the message's id, and the ICE servers.
    var reply: [String: JSONValue]
}

/// Rooms: who is in them, and what they are told of each other.
extension StreamDirectory {
    /// Whose place in a room it is that somebody wants back.
    func placeToResume(_ resumption: String, in room: ResourceIdentifier) -> String? {
        roomPeersByResumption[resumption].flatMap { roomPeers[$0]?.room == room ? $0 : nil }
    }

    /// Lets somebody back onto his place.
    ///
    /// `joined` is sent before anything else, and then the offer of what his policy wants.
    ///
    /// - Parameters:
    ///   - access: What his token allows; nil for one that has expired, which ends no stay unless it says so.
    ///   - declared: The mode that the client declares, as for a stay that begins.
    ///   - reply: What else `joined` says.
    /// - Returns: Whether the place was still there.
    func resume(
        _ id: String,
        access: Access?,
        privacy declared: PrivacyMode?,
        _ reply: [String: JSONValue],
        on socket: ControlSocket
    ) throws(Problem) -> Bool {
        guard let place = roomPeers[id] else { return false }
        _ = try privacy(in: place.room, declared: declared, required: access?.privacy)
        resume(id, on: socket)
        // A token that allows less than the stay has doesn't prolong it.
        if let access, let peer = roomPeers[id], access.covers(peer) {
            setExpiry(of: id, to: access.ends) { $0.dismiss(id, reason: Self.expired) }
        }
        welcome(id, isResumed: true, reply)
        return true
    }

    private static let expired = "The token has expired."
    private static let resumedElsewhere: JSONValue = [
        "type": "left", "code": "resumed-elsewhere",
        "reason": "You are in this room in another tab or window now.",
    ]

    /// Lets somebody into a room.
    ///
    /// `joined` is sent before anything else, and then the offer of what his policy wants.
    ///
    /// - Returns: His id.
    func join(_ request: JoinRequest, socket: ControlSocket) throws(Problem) -> String {
        try admit(request.address)
        let existing = rooms[request.room]
        var rights = request.rights
        // Whoever may use one stream has no say about the others.
        if request.onlyStream != nil { rights.remove(.host) }
        let earlier = existing?.returns.ticket(request.resumption, at: .now)
        if earlier?.isHost == true, request.mayBecomeHost, rights.contains(.publish), request.onlyStream == nil {
            rights.insert(.host)
        }
        if existing?.isLocked == true, !rights.contains(.host), earlier == nil { throw .roomLocked }
        if let existing, existing.peers.count >= limits.peersPerRoom { throw .full }
        if roomPeers.count >= limits.peers { throw .full }
        let privacy = try privacy(in: request.room, declared: request.privacy, required: request.tokenPrivacy)
        if existing == nil, request.mayBecomeHost, rights.contains(.publish) { rights.insert(.host) }

        let peer = RoomPeer(
            id: RandomText.make(length: 12),
            room: request.room,
            name: request.name,
            rights: rights,
            onlyStream: request.onlyStream,
            address: request.address,
            resumption: RandomText.make(length: 32),
            policy: request.policy,
            socket: socket,
            outgoing: makeOutgoingMedia(privacy: privacy)
        )
        roomPeers[peer.id] = peer
        roomPeersByResumption[peer.resumption] = peer.id
        var room = existing ?? makeRoom(privacy: privacy)
        if let earlier { room.returns.use(earlier) }
        room.peers.append(peer.id)
        if peer.isAnnounced { room.arrivals.append(peer.id) } else { room.viewerCount += 1 }
        rooms[request.room] = room
        announcePresence(in: request.room, ofViewer: !peer.isAnnounced)
        setExpiry(of: peer.id, to: request.ends) { [id = peer.id] in $0.dismiss(id, reason: Self.expired) }
        welcome(peer.id, isResumed: false, request.reply)
        return peer.id
    }

    private func welcome(_ id: String, isResumed: Bool, _ reply: [String: JSONValue]) {
        guard case .object(let joined) = joined(id, isResumed: isResumed) else { return }
        // What isn't told is good.
        roomPeers[id]?.toldQuality = [:]
        qualityDue.insert(id)
        roomPeers[id]?.socket?.send(.object(joined.merging(reply) { $1 }))
        if let peer = roomPeers[id], let speakers = rooms[peer.room]?.speakers.filter({ peer.mayUse($0.key) }),
            !speakers.isEmpty
        {
            peer.socket?.send(Self.speakers(speakers[...]))
        }
        for key in wantedStreams(of: id) { subscribe(id, to: key) }
        offerIfNeeded(id)
    }

    /// The streams that somebody is to be sent: those of the room or those he chose, as far as his token goes.
    func wantedStreams(of id: String) -> [StreamKey] {
        guard let peer = roomPeers[id] else { return [] }
        return (rooms[peer.room]?.streams ?? []).filter { wants($0, peer) }
    }

    private func wants(_ key: StreamKey, _ peer: RoomPeer) -> Bool {
        guard let stream = streams[key], stream.isAtHome, stream.owner != .roomPeer(peer.id), peer.mayUse(key) else {
            return false
        }
        return peer.chosen.contains(key) || (peer.policy == .all && !peer.refused.contains(key))
    }

    /// The room that somebody is in.
    func room(of id: String) -> ResourceIdentifier? { roomPeers[id]?.room }

    /// His socket is gone: he has a while to come back on another, and his media goes on meanwhile.
    func disconnected(_ id: String, from socket: ControlSocket) {
        guard var peer = roomPeers[id], peer.socket === socket else { return }
        peer.socket = nil
        peer.departures += 1
        roomPeers[id] = peer
        Task {
            try? await Task.sleep(for: limits.roomResume)
            if let later = roomPeers[id], later.socket == nil, later.departures == peer.departures { leave(id) }
        }
    }

    /// Somebody leaves his room, with all that he publishes.
    ///
    /// - Parameter returns: Whether it is only their page that went away, which may be loaded again.
    func leave(_ id: String, returns: Bool = false) {
        guard let peer = roomPeers.removeValue(forKey: id) else { return }
        roomPeersByResumption[peer.resumption] = nil
        forgetExpiry(of: id)
        qualityDue.remove(id)
        for key in rooms[peer.room]?.streams ?? [] where streams[key]?.owner == .roomPeer(id) { endStream(key) }
        for connection in [peer.sending, peer.receiving] {
            if let connection { endSession(connection.session) }
        }
        peer.socket?.finish()
        guard var room = rooms[peer.room] else { return }
        room.peers.removeAll { $0 == id }
        if peer.isAnnounced {
            // Also when his arrival was not told yet: who joined meanwhile knows of him.
            room.arrivals.removeAll { $0 == id }
            room.departures.append(id)
        } else {
            room.viewerCount -= 1
        }
        // A room that waits for its host takes a place, as somebody in it would.
        if returns, rooms.count <= limits.peers {
            let ticket = Returns.Ticket(
                resumption: peer.resumption,
                isHost: peer.rights.contains(.host),
                address: peer.address,
                expires: .now + limits.roomResume
            )
            room.returns.add(ticket, at: .now)
            if ticket.isHost { stopAwaitingHost(of: peer.room, at: ticket.expires) }
        }
        rooms[peer.room] = room
        unlockWithoutHost(peer.room)
        announcePresence(in: peer.room, ofViewer: !peer.isAnnounced)
        forgetRoomIfEmpty(peer.room)
    }

    /// Nobody else could open it again.
    private func unlockWithoutHost(_ id: ResourceIdentifier) {
        guard let room = rooms[id], room.isLocked, !room.returns.awaitsHost(at: .now),
            !room.peers.contains(where: { roomPeers[$0]?.rights.contains(.host) == true })
        else { return }
        rooms[id]?.isLocked = false
        broadcast(["type": "room-updated", "locked": .bool(false)], in: id)
    }

    /// A host who loads the page again finds the room as it was: it is waited for as long as for a socket.
    ///
    /// Whatever room there is by then, one made anew too, this does what its own state asks for.
    private func stopAwaitingHost(of id: ResourceIdentifier, at expiry: ContinuousClock.Instant) {
        Task {
            try? await Task.sleep(until: expiry)
            unlockWithoutHost(id)
            forgetRoomIfEmpty(id)
        }
    }

    func makeRoom(privacy: PrivacyMode) -> Room { Room(privacy: privacy, capacity: limits.peersPerRoom) }

    func forgetRoomIfEmpty(_ id: ResourceIdentifier) {
        if rooms[id]?.isEmpty(at: .now) == true { rooms[id] = nil }
    }

    private func resume(_ id: String, on socket: ControlSocket) {
        guard var peer = roomPeers[id] else { return }
        // A copy of a page has the secret too. Were this not for good, the two would throw each other out for ever; a client that lost
        // this socket doesn't listen to it any more.
        peer.socket?.send(Self.resumedElsewhere)
        peer.socket?.end("The session went on on another socket.")
        peer.socket = socket
        peer.departures += 1
        // Whether the client ever saw the offer that waits is not known.
        if peer.outgoing.awaitsAnswer { peer.outgoing.abandonOffer() }
        roomPeers[id] = peer
    }

    // MARK: Messages between peers

    /// Passes on what a client says to one other or to all.
    func relay(_ data: JSONValue, from id: String, to recipient: String?) throws(Problem) {
        guard let peer = roomPeers[id] else { throw .notInRoom }
        let message: JSONValue = ["type": "message", "from": .string(id), "data": data]
        guard let recipient else {
            guard peer.isAmong(.usersOfAll) else { throw .forbidden }
            return broadcast(message, in: peer.room, to: .usersOfAll, except: id)
        }
        // Whose token is for one stream knows of nobody but the one who publishes it.
        guard peer.isAmong(.usersOfAll) || publishes(recipient, forOneLike: peer) else { throw .noSuchPeer }
        guard let other = roomPeers[recipient], other.room == peer.room, recipient != id else { throw .noSuchPeer }
        other.socket?.send(message)
    }

    /// Whether somebody publishes a stream that another one may use.
    private func publishes(_ id: String, forOneLike peer: RoomPeer) -> Bool {
        rooms[peer.room]?.streams.contains { peer.mayUse($0) && streams[$0]?.owner == .roomPeer(id) } ?? false
    }

    /// What a host does to the room or to somebody in it.
    ///
    /// - Parameters:
    ///   - stream: Of his, what is to be muted; nil for all he says.
    ///   - muted: The kinds of media of it; nil for the sound.
    func act(
        _ action: String,
        on subject: String?,
        stream: StreamKey? = nil,
        muted: [String]? = nil,
        by id: String
    ) throws(Problem) {
        guard let peer = roomPeers[id] else { throw .notInRoom }
        guard peer.rights.contains(.host) else { throw .forbidden }
        switch action {
        case "lock", "unlock":
            rooms[peer.room]?.isLocked = action == "lock"
            if action == "lock" { rooms[peer.room]?.returns.dropGuests() }
            broadcast(["type": "room-updated", "locked": .bool(action == "lock")], in: peer.room)
        case "end": end(peer.room)
        case "remove", "mute":
            guard let subject, let other = roomPeers[subject], other.room == peer.room else { throw .noSuchPeer }
            if action == "remove" {
                rooms[peer.room]?.returns.drop(from: other.address)
                dismiss(subject, reason: "The host removed you.")
            } else {
                if let stream, streams[stream]?.owner != .roomPeer(subject) { throw .noSuchStream }
                try checkMuted(muted ?? [])
                var message: [String: JSONValue] = ["type": "mute", "by": .string(id)]
                if let stream { message["stream"] = .string(stream.stream.text) }
                message["muted"] = .array((muted ?? ["audio"]).map { .string($0) })
                other.socket?.send(.object(message))
            }
        default: throw Problem.badMessage("action has to be lock, unlock, end, remove or mute.")
        }
    }

    /// Ends a room with all its sessions, those of WHIP and WHEP among them.
    private func end(_ id: ResourceIdentifier) {
        guard let room = rooms[id] else { return }
        // Nobody is left to be told of what each of the others takes along.
        rooms[id]?.peers = []
        rooms[id]?.returns = Returns(capacity: limits.peersPerRoom)
        for key in room.streams { endStream(key) }
        for peer in room.peers { dismiss(peer, reason: "The host ended the room.") }
    }

    private func dismiss(_ id: String, reason: String) {
        roomPeers[id]?.socket?.send(["type": "left", "reason": .string(reason)])
        roomPeers[id]?.socket?.end(reason)
        leave(id)
    }

    // MARK: What others are told

    func broadcast(
        _ message: JSONValue,
        in id: ResourceIdentifier,
        to audience: RoomPeer.Audience = .everybody,
        except excluded: String? = nil
    ) {
        guard let room = rooms[id], !room.peers.isEmpty else { return }
        let text = ControlSocket.text(of: message)
        for other in room.peers where other != excluded && roomPeers[other]?.isAmong(audience) == true {
            roomPeers[other]?.socket?.send(.text(text))
        }
    }

    /// Others are told in a moment of all who came and went until then.
    ///
    /// How many watch is told less often the more there are to tell: what it takes would else grow with the square of their number.
    private func announcePresence(in id: ResourceIdentifier, ofViewer: Bool) {
        guard let room = rooms[id] else { return }
        let pace = Duration.seconds(Double(room.peers.count) / limits.viewerCountMessagesPerSecond)
        let due = ContinuousClock.now + (ofViewer ? max(limits.presenceInterval, pace) : limits.presenceInterval)
        if let earlier = room.presenceDue, earlier <= due { return }
        rooms[id]?.presenceDue = due
        Task {
            try? await Task.sleep(until: due)
            tellPresence(in: id, due: due)
        }
    }

    private func tellPresence(in id: ResourceIdentifier, due: ContinuousClock.Instant) {
        // Otherwise an earlier one has told it.
        guard var room = rooms[id], room.presenceDue == due else { return }
        let arrivals = room.arrivals.compactMap { roomPeers[$0] }
        let departures = room.departures
        room.arrivals = []
        room.departures = []
        room.presenceDue = nil
        rooms[id] = room
        let viewers = JSONValue.number(Double(room.viewerCount))
        if !departures.isEmpty {
            broadcast(
                ["type": "peer-left", "peers": .array(departures.map { .string($0) }), "viewers": viewers],
                in: id,
                to: .usersOfAll
            )
        }
        // Also when only those who watch have come or gone.
        if !arrivals.isEmpty || departures.isEmpty {
            broadcast(
                ["type": "peer-joined", "peers": .array(arrivals.map(description)), "viewers": viewers],
                in: id,
                to: .usersOfAll
            )
        }
    }

    /// A stream can be watched from now on.
    func announceBeginning(of key: StreamKey) {
        guard let stream = streams[key], let room = rooms[key.room] else { return }
        broadcast(["type": "stream-added", "stream": description(of: stream)], in: key.room, to: .usersOf(key))
        for id in room.peers where roomPeers[id].map({ wants(key, $0) }) == true {
            subscribe(id, to: key)
            offerIfNeeded(id)
        }
    }

    func announceUpdate(of key: StreamKey) {
        guard let stream = streams[key], stream.isAtHome else { return }
        broadcast(["type": "stream-updated", "stream": description(of: stream)], in: key.room, to: .usersOf(key))
    }

    /// A stream that is being forgotten.
    func announceEnd(of stream: PublishedStream) {
        for id in rooms[stream.key.room]?.peers ?? [] {
            roomPeers[id]?.chosen.remove(stream.key)
            roomPeers[id]?.refused.remove(stream.key)
            roomPeers[id]?.paused[stream.key] = nil
            roomPeers[id]?.chosenTracks[stream.key] = nil
            roomPeers[id]?.toldQuality[stream.key] = nil
            roomPeers[id]?.highestEncodings[stream.key] = nil
            guard roomPeers[id]?.subscribed[stream.key] != nil else { continue }
            unsubscribe(id, from: stream.key)
            offerIfNeeded(id)
        }
        if stream.isAtHome {
            broadcast(
                ["type": "stream-removed", "stream": .string(stream.key.stream.text)],
                in: stream.key.room,
                to: .usersOf(stream.key)
            )
        }
    }

    // MARK: As JSON

    private func joined(_ id: String, isResumed: Bool) -> JSONValue {
        guard let peer = roomPeers[id], let room = rooms[peer.room] else { return .null }
        let knowsAll = peer.isAmong(.usersOfAll)
        let others =
            knowsAll ? room.peers.compactMap { roomPeers[$0] }.filter { $0.isAnnounced && $0.id != id } : []
        return [
            "type": "joined",
            "peer": .string(id),
            "resume": .string(peer.resumption),
            "resumed": .bool(isResumed),
            "connections": .array(
                [("send", peer.sending), ("receive", peer.receiving)].compactMap { name, connection in
                    connection?.isAdded == true ? .string(name) : nil
                }
            ),
            "privacy": room.privacy.json,
            "rights": .array(peer.rights.names),
            "locked": .bool(room.isLocked),
            "peers": .array(others.map(description)),
            "viewers": .number(knowsAll ? Double(room.viewerCount) : 0),
            "streams": .array(
                room.streams.filter(peer.mayUse).compactMap { streams[$0] }.filter { $0.isAtHome }.map(description)
            ),
        ]
    }

    private func description(of peer: RoomPeer) -> JSONValue { ["peer": .string(peer.id), "name": .string(peer.name)] }

    func description(of stream: PublishedStream) -> JSONValue {
        var object: [String: JSONValue] = [
            "stream": .string(stream.key.stream.text),
            "live": .bool(stream.publisher != nil),
            "muted": .array(stream.muted.map { .string($0) }),
            "tracks": .array(stream.tracks.map(description)),
        ]
        if let kind = stream.kind { object["kind"] = .string(kind) }
        if let height = stream.height { object["height"] = .number(Double(height)) }
        if case .roomPeer(let peer) = stream.owner { object["peer"] = .string(peer) }
        return .object(object)
    }

    private func description(of track: ForwardableTrack) -> JSONValue {
        var object: [String: JSONValue] = [
            "kind": .string(track.codec.kind.rawValue), "codec": .string(track.codec.rawValue),
        ]
        if !track.higherEncodings.isEmpty { object["encodings"] = .number(Double(track.encodings.count)) }
        return .object(object)
    }

    // MARK: Speakers

    /// Tells each room who speaks, the loudest first, when that has changed.
    func updateSpeakers() async {
        guard rooms.values.contains(where: { !$0.peers.isEmpty && !$0.streams.isEmpty }) else { return }
        var levels: [TrackID: UInt8] = [:]
        for worker in workers {
            let heard = await withCheckedContinuation { continuation in
                worker.send(.takeAudioLevels { continuation.resume(returning: $0) })
            }
            for level in heard { levels[level.track] = level.level }
        }
        for (id, room) in rooms where !room.peers.isEmpty {
            let speaking = room.streams.compactMap { key -> (key: StreamKey, level: UInt8)? in
                let loudest = streams[key]?.tracks.compactMap { levels[$0.track] }.min()
                return loudest.map { (key, $0) }
            }.sorted { $0.level < $1.level }.prefix(limits.speakers)
            let keys = speaking.map(\.key)
            let keysBefore = room.speakers.map(\.key)
            // For those who join; others hear of those who begin and stop only.
            rooms[id]?.speakers = Array(speaking)
            guard keys != keysBefore else { continue }
            broadcast(Self.speakers(speaking), in: id, to: .usersOfAll)
            for other in room.peers where roomPeers[other]?.isAmong(.usersOfAll) == false {
                guard let peer = roomPeers[other] else { continue }
                let own = speaking.filter { peer.mayUse($0.key) }
                guard own.map(\.key) != keysBefore.filter(peer.mayUse) else { continue }
                peer.socket?.send(Self.speakers(own[...]))
            }
        }
    }

    private static func speakers(_ speaking: ArraySlice<(key: StreamKey, level: UInt8)>) -> JSONValue {
        let list = speaking.map { entry -> JSONValue in
            ["stream": .string(entry.key.stream.text), "level": .number(-Double(entry.level))]
        }
        return ["type": "speakers", "streams": .array(list)]
    }
}

extension PrivacyMode {
    /// As `joined` and the statistics have it.
    var json: JSONValue {
        [
            "mode": .string(rawValue),
            "endToEndEncrypted": .bool(self == .endToEnd),
            "serverCanAccessMedia": .bool(self == .transport),
            "notice": .string(notice),
        ]
    }
}
