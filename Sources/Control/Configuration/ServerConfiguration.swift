public import Commands
public import Logging
public import Negotiation
public import Wire

/// The server's whole configuration, checked. `Docs/Operations.md` documents every key.
public struct ServerConfiguration: Sendable {
    /// Who may publish and watch.
    public enum Authorization: Sendable, Equatable {
        /// Everyone: only while every listener is on loopback.
        case open
        /// Whoever presents the operator's token, or a signed one.
        case token
    }

    public enum LogFormat: String, Sendable, CaseIterable {
        case text
        case json
    }

    /// A STUN or TURN server that clients are told to use (`Link: …; rel="ice-server"`).
    public struct ICEServer: Sendable, Equatable {
        public var url: String
        public var username: String?
        public var credential: String?
    }

    public struct TLSFiles: Sendable, Equatable {
        public var certificate: String
        public var privateKey: String
    }

    /// `http.listen`
    public var httpHost = "127.0.0.1"
    public var httpPort = 8080
    /// `http.publicURL`, without a slash at its end: what clients reach the server by, when that is not `http.listen`.
    public var publicURL: String?
    /// `http.allowedOrigins`: web origins whose pages may use the API; `*` for all.
    public var allowedOrigins = ["*"]
    /// `http.trustedProxies`: networks of the proxies that are believed whom they speak for.
    public var trustedProxies: [IPNetwork] = []
    /// `http.tls.certificate` and `http.tls.privateKey`: PEM files.
    public var tls: TLSFiles?
    /// `media.listen`
    public var mediaListen = IPAddress.loopbackV4
    /// `media.port`
    public var mediaPort: UInt16 = 40_000
    /// `media.announce`: addresses told to clients; empty for the addresses that the sockets are bound to.
    public var announce: [IPAddress] = []
    /// `media.workers`; nil for one per processor.
    public var workers: Int?
    /// `auth.mode`
    public var authorization = Authorization.open
    /// `auth.operatorToken`
    public var operatorToken: String?
    /// `auth.secret`: signs and checks tokens.
    public var tokenSecret: String?
    /// `auth.publicKeys`: what the files hold, PEM.
    public var tokenPublicKeys: [String] = []
    /// `auth.audience`: what tokens' `aud` has to have one of.
    public var tokenAudience: [String] = []
    /// `privacy.defaultMode`
    public var defaultPrivacy = PrivacyMode.transport
    /// `limits.*`
    public var limits = Limits()
    /// `log.level`
    public var logLevel = Logger.Level.info
    /// `log.format`
    public var logFormat = LogFormat.text
    /// `ice.servers`
    public var iceServers: [ICEServer] = []

    /// What is odd, but stops nothing: a line each, for the operator.
    public var warnings: [String] = []

    public init() {}
}

/// Something wrong in a configuration: one line for the operator.
public struct ConfigurationProblem: Error, Sendable, Equatable, CustomStringConvertible {
    /// The key, such as `media.port`, or the file.
    public var key: String
    public var found: String
    public var expected: String
    /// Where it stands in the file, from 1; nil for what comes from elsewhere, or is missing.
    public var line: Int?

    public var description: String {
        "\(key): found \(found)\(line.map { " on line \($0)" } ?? ""), expected \(expected)"
    }
}

/// All that is wrong in a configuration.
public struct ConfigurationError: Error, Sendable, CustomStringConvertible {
    public var problems: [ConfigurationProblem]

    public var description: String { problems.map(\.description).joined(separator: "\n") }
}
