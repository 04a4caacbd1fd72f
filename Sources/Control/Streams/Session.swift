import Commands
import Negotiation
import Wire

/// One WHIP or WHEP session: a peer, and what its client may do with it over HTTP.
struct Session {
    enum Role: String, Sendable, CaseIterable {
        case publisher
        case viewer
    }

    /// The last part of its `Location`.
    let id: String
    let peer: PeerID
    let role: Role
    let key: StreamKey
    let worker: WorkerIndex
    /// The client's IP address, for the limit of peers per address. Never logged.
    let address: String
    let createdAt: ContinuousClock.Instant
    var local: LocalEndpoint
    var remoteCredentials: ICECredentials
    var tag: String
}

/// What a successful POST returns.
struct CreatedSession: Sendable {
    let id: String
    let tag: String
    let answer: String
    let privacy: PrivacyMode
}

/// What a successful PATCH returns.
enum PatchedSession: Sendable {
    /// Nothing has changed.
    case trickled(privacy: PrivacyMode)
    /// An ICE restart: the fragment with our new credentials, and the new ETag.
    case restarted(fragment: String, tag: String, privacy: PrivacyMode)
}
