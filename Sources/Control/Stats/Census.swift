import Commands
import Negotiation

/// What the directory counts for statistics.
struct Census: Sendable {
    var peers: [Session.Role: Int] = [:]
    var rooms: [PrivacyMode: Int] = [:]
    /// Streams that somebody publishes.
    var streamCount = 0
}

/// A stream and its peers, for the operator.
struct RosterEntry: Sendable {
    let room: String
    let stream: String
    let privacy: PrivacyMode
    let publisher: PeerID?
    let viewers: [PeerID]
}

extension PrivacyMode {
    /// What the mode means, in plain words.
    var notice: String {
        switch self {
        case .transport:
            "Not end-to-end encrypted: this server can see and record media, and so can every viewer."
        case .endToEnd:
            "Clients say that they encrypt media end to end: this server forwards what it can't read. Whoever has the key "
                + "can see and record it."
        }
    }
}
