import Commands
import Negotiation

/// A stream: who publishes it, and the tracks that it has. It outlives its publisher for a while, so that viewers stay
/// connected until he is back.
struct PublishedStream {
    let key: StreamKey
    let privacy: PrivacyMode
    /// The worker that its tracks are at home on.
    let home: WorkerIndex
    let tracks: [ForwardableTrack]
    /// `a=msid` and CNAME: random, so that they say nothing about the stream's id.
    let label: String
    /// The publishing session's id; nil while nobody publishes.
    var publisher: String?
    /// Whether its home knows its tracks: before that nobody can watch.
    var isAtHome = false
    /// Who may take the stream over: the token that the publisher presented, as the authorizer knows it.
    let owner: Owner
    /// What it shows, such as `camera` or `screen`, as its publisher says.
    var kind: String?
    /// The lines of its picture, in the best encoding, as its publisher says.
    var height: Int?
    /// The kinds of media that its publisher has muted, as he says.
    var muted: [String] = []
    /// How its tracks reach us: those that are worse than good.
    var quality: [TrackID: QualityLevel] = [:]
    /// The viewing sessions' ids.
    var viewers: Set<String> = []
    /// Counts publishers that have gone, so that a linger that was outlived ends nothing.
    var departures = 0

    /// Who publishes it, as viewers' m-lines are shared out: a room's peer with all its streams, or a stream of WHIP.
    var publisherName: String {
        if case .roomPeer(let id) = owner { return id }
        return label
    }

    /// Whether a publisher's offer fits the tracks that are there: then viewers need not negotiate again.
    func fits(_ sources: [NegotiatedSource]) -> Bool {
        sources.count == tracks.count && zip(sources, tracks).allSatisfy { source, track in track.fits(source) }
    }
}

/// Who presented which token, as far as it matters who he is: two requests with the same token come from the same owner.
enum Owner: Sendable, Equatable {
    /// No token: everyone in open mode.
    case anyone
    case operatorToken
    /// A signed token's subject, or a token without one.
    case subject(String)
    case token(String)
    /// A room's peer, by id.
    case roomPeer(String)
}
