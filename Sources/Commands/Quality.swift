/// How well a track gets through, as people are told.
public enum QualityLevel: String, Sendable, Hashable, Comparable, CaseIterable {
    case good
    case fair
    case poor

    public static func < (left: QualityLevel, right: QualityLevel) -> Bool { left.rank < right.rank }

    private var rank: Int {
        switch self {
        case .good: 0
        case .fair: 1
        case .poor: 2
        }
    }
}

/// Levels that have changed since they were asked for last; all begin as good.
public struct QualityChanges: Sendable {
    /// How a publisher's packets reach the track's home.
    public struct Incoming: Sendable, Hashable {
        public var track: TrackID
        public var level: QualityLevel

        public init(track: TrackID, level: QualityLevel) {
            self.track = track
            self.level = level
        }
    }

    /// How what we send reaches a viewer, as his receiver reports say.
    public struct Outgoing: Sendable, Hashable {
        public var peer: PeerID
        public var track: TrackID
        /// The SSRC that we send the track with: tells this subscription from others of the same peer to the same track.
        public var ssrc: UInt32
        public var level: QualityLevel

        public init(peer: PeerID, track: TrackID, ssrc: UInt32, level: QualityLevel) {
            self.peer = peer
            self.track = track
            self.ssrc = ssrc
            self.level = level
        }
    }

    public var incoming: [Incoming] = []
    public var outgoing: [Outgoing] = []

    public init() {}

    public var isEmpty: Bool { incoming.isEmpty && outgoing.isEmpty }
}
