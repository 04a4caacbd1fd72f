import Commands
import Negotiation
import Wire

/// What somebody may do in a room.
struct RoomRights: OptionSet, Sendable, Hashable {
    let rawValue: UInt8

    static let publish = RoomRights(rawValue: 1 << 0)
    static let host = RoomRights(rawValue: 1 << 1)

    /// As `joined` tells them.
    var names: [JSONValue] {
        var names: [JSONValue] = ["view"]
        if contains(.publish) { names.append("publish") }
        if contains(.host) { names.append("host") }
        return names
    }
}

/// Somebody in a room: he talks to us over a control WebSocket, and has a connection to send media and one to receive it.
struct RoomPeer: Sendable {
    /// What is forwarded to him without being asked for.
    enum Policy: String, Sendable, CaseIterable {
        /// All streams of the room, but his own.
        case all
        /// What he subscribes to.
        case none
    }

    /// One of his two connections, once it has a session.
    struct Connection: Sendable {
        /// Key in the directory's sessions.
        let session: String
        /// Counts the descriptions that we answered with.
        var version: UInt64 = 1
        /// Whether its worker has the peer.
        var isAdded = false
    }

    /// Public: other peers know it.
    let id: String
    let room: ResourceIdentifier
    let name: String
    let rights: RoomRights
    /// The one stream that he may publish and receive; nil for all.
    let onlyStream: String?
    /// His IP address. Never logged.
    let address: String
    /// Whoever presents it is this peer, on a new socket.
    let resumption: String
    var policy: Policy
    /// Where messages to him go; nil while his socket is gone.
    var socket: ControlSocket?
    /// Counts sockets, so that a wait for his return that was outlived ends nothing.
    var departures = 0

    var sending: Connection?
    var receiving: Connection?
    var outgoing: OutgoingMedia
    /// Streams that he subscribed to by name, and those of all that he unsubscribed from.
    var chosen: Set<StreamKey> = []
    var refused: Set<StreamKey> = []
    /// The streams that he is sent or offered, with their tracks.
    var subscribed: [StreamKey: [TrackID]] = [:]
    /// Which tracks of a stream he wants, by their places in it; all of a stream that isn't here.
    var chosenTracks: [StreamKey: Set<Int>] = [:]
    /// Tracks that he has paused, by their places in their streams.
    var paused: [StreamKey: Set<Int>] = [:]
    /// The best encodings that he wants of simulcast streams, 0 for the lowest; the best there is of others.
    var highestEncodings: [StreamKey: Int] = [:]
    /// How the tracks that he is sent reach him: those that are worse than good.
    var quality: [StreamKey: [TrackID: QualityLevel]] = [:]
    /// Streams that he was told are worse than good.
    var toldQuality: [StreamKey: QualityLevel] = [:]

    /// Whom in a room something is told.
    enum Audience: Sendable {
        case everybody
        /// Who may use this stream.
        case usersOf(StreamKey)
        /// Whose token is not limited to one stream.
        case usersOfAll
    }

    func isAmong(_ audience: Audience) -> Bool {
        switch audience {
        case .everybody: true
        case .usersOf(let key): mayUse(key)
        case .usersOfAll: onlyStream == nil
        }
    }

    func mayUse(_ key: StreamKey) -> Bool { onlyStream == nil || onlyStream == key.stream.text }

    /// Those of its streams of which it has accepted a track. All wait while the operator lists everybody's, so this looks at each
    /// m-line once.
    var receivedStreams: [StreamKey] {
        let accepted = outgoing.acceptedTracks
        return subscribed.compactMap { accepted.isDisjoint(with: $1) ? nil : $0 }
    }

    /// Whether others are told that he is there: those who only watch are counted.
    var isAnnounced: Bool { rights.contains(.publish) }
}

/// A room: its mode, who is in it and what is published in it.
struct Room: Sendable {
    let privacy: PrivacyMode
    /// Nobody else may join.
    var isLocked = false
    /// Everybody in it, in the order of joining.
    var peers: [String] = []
    /// Streams, in the order of their beginning.
    var streams: [StreamKey] = []
    /// Those who only watch.
    var viewerCount = 0

    /// Who left and may come back as what they were.
    var returns: Returns

    /// Who came and went since others were told.
    var arrivals: [String] = []
    var departures: [String] = []
    /// When others are going to be told.
    var presenceDue: ContinuousClock.Instant?
    /// Who speaks, and how loud in -dBov, the loudest first.
    var speakers: [(key: StreamKey, level: UInt8)] = []

    /// - Parameter capacity: Returns that it waits for at most.
    init(privacy: PrivacyMode, capacity: Int) {
        self.privacy = privacy
        returns = Returns(capacity: capacity)
    }

    /// Whether it can be forgotten: a host who may come back finds it as it was.
    func isEmpty(at now: ContinuousClock.Instant) -> Bool {
        peers.isEmpty && streams.isEmpty && !returns.awaitsHost(at: now)
    }
}
