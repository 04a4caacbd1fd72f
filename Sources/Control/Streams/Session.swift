import Commands
import Negotiation
import Wire

/// One connection: a peer, and what its client may do with it.
struct Session {
    /// What it is for.
    enum Purpose: Sendable, Hashable {
        /// Publishes or watches a stream over HTTP.
        case whip(StreamKey)
        case whep(StreamKey)
        /// Sends or receives the media of a room's peer, whose id it has.
        case roomSending(String)
        case roomReceiving(String)

        init(_ role: Role, _ key: StreamKey) { self = role == .publisher ? .whip(key) : .whep(key) }

        var role: Role {
            switch self {
            case .whip, .roomSending: .publisher
            case .whep, .roomReceiving: .viewer
            }
        }
    }

    enum Role: String, Sendable, CaseIterable {
        case publisher
        case viewer
    }

    /// The last part of its `Location`.
    let id: String
    let peer: PeerID
    let purpose: Purpose
    let worker: WorkerIndex
    /// The client's IP address, for the limit of peers per address. Never logged.
    let address: String
    let createdAt: ContinuousClock.Instant
    var local: LocalEndpoint
    /// Nil before the client has answered our offer.
    var remoteCredentials: ICECredentials?
    /// The client's certificate; empty before it has answered our offer.
    var remoteFingerprints: [CertificateFingerprint] = []
    var tag: String
    /// What its client was allowed when it began; nil for those of rooms, whose peers have rights of their own.
    var access: Access?
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
