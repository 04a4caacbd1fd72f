import HTTPTypes

/// What a path leads to.
enum Route: Equatable {
    enum Kind: String {
        case whip
        case whep
    }

    /// `/{room}/{stream}/whip` and `/{stream}/whip`.
    case endpoint(Kind, StreamKey)
    /// What the endpoint's `Location` returned.
    case session(Kind, StreamKey, id: String)
    case page(String)
    case asset(String)
    case health
    case readiness
    case statistics
    /// The control WebSocket, asked for by a request that is not upgraded to it.
    case control
    case metrics
    /// An endpoint whose room or stream id is not allowed.
    case badIdentifier
    case unknown

    /// - Parameter path: Without its query.
    init(path: some StringProtocol) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        switch parts.count {
        case 0: self = .page("index")
        case 1:
            switch parts[0] {
            case "publish", "room", "watch": self = .page(String(parts[0]))
            case "healthz": self = .health
            case "readyz": self = .readiness
            case "metrics": self = .metrics
            default: self = .unknown
            }
        case 2 where parts[0] == "v1" && parts[1] == "stats": self = .statistics
        case 2 where parts[0] == "v1" && parts[1] == "ws": self = .control
        case 2 where parts[0] == "sdk" && parts[1] == "sluice.js": self = .asset("sluice.js")
        case 2 where parts[0] == "assets": self = .asset(String(parts[1]))
        default: self = Self.signalling(parts)
        }
    }

    private static func signalling(_ parts: [some StringProtocol]) -> Route {
        // The kind is the last part of an endpoint, and the last but one of a session.
        for (place, isSession) in [(parts.count - 1, false), (parts.count - 2, true)] {
            guard let kind = Kind(rawValue: String(parts[place])), place == 1 || place == 2 else { continue }
            guard let stream = ResourceIdentifier(parts[place - 1]), let room = ResourceIdentifier(parts[0]) else {
                return .badIdentifier
            }
            let key = StreamKey(room: room, stream: stream)
            return isSession ? .session(kind, key, id: String(parts[place + 1])) : .endpoint(kind, key)
        }
        return .unknown
    }

    /// The methods that the path knows, for `Allow` and CORS.
    var methods: [HTTPRequest.Method] {
        switch self {
        case .endpoint: [.post, .options]
        case .session: [.patch, .delete, .options]
        default: [.get, .head, .options]
        }
    }
}
