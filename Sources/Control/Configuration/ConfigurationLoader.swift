import Commands
import Foundation
import Logging
import Negotiation
import Wire

/// What the command line overrides; nil leaves the file's or the environment's value.
public struct ConfigurationFlags: Sendable {
    public var httpListen: String?
    public var mediaListen: String?
    public var mediaPort: String?
    public var announce: [String] = []
    public var workers: String?
    public var logLevel: String?

    public init() {}

    var values: ConfigurationValues {
        var values = ConfigurationValues()
        func set(_ key: String, _ text: String?) { if let text { values.set(key, .scalar(text)) } }
        set("http.listen", httpListen)
        set("media.listen", mediaListen)
        set("media.port", mediaPort)
        set("media.workers", workers)
        set("log.level", logLevel)
        if !announce.isEmpty { values.set("media.announce", .list(announce.map { .scalar($0) })) }
        return values
    }
}

extension ServerConfiguration {
    /// Puts file, environment and flags over each other, later over earlier, and checks the result.
    ///
    /// - Throws: All problems at once.
    public static func load(
        file: String?,
        environment: [String: String] = [:],
        flags: ConfigurationFlags = ConfigurationFlags()
    ) throws(ConfigurationError) -> ServerConfiguration {
        var values = ConfigurationValues()
        if let file { values = try ConfigurationValues(file: file) }
        values.merge(ConfigurationValues(environment: environment))
        values.merge(flags.values)
        var reader = ConfigurationReader(values)
        var configuration = reader.read()
        configuration.warnings = values.unknownVariables.sorted().map {
            "\($0): an environment variable that nothing reads; see Docs/Operations.md"
        }
        guard reader.problems.isEmpty else {
            throw ConfigurationError(problems: reader.problems.sorted { $0.key < $1.key })
        }
        return configuration
    }
}

/// Turns values into a configuration, noting what is wrong with them.
private struct ConfigurationReader {
    private var values: [String: ConfigurationValues.Value]
    private let lines: [String: Int]
    private(set) var problems: [ConfigurationProblem]

    init(_ values: ConfigurationValues) {
        self.values = values.values
        lines = values.lines
        problems = values.problems
    }

    mutating func read() -> ServerConfiguration {
        var configuration = ServerConfiguration()
        readHTTP(&configuration)
        readMedia(&configuration)
        readLimits(&configuration)
        readICEServers(&configuration)
        read("log.level", "trace, debug, info, notice, warning, error or critical", into: &configuration.logLevel) {
            Logger.Level(rawValue: $0)
        }
        read("log.format", "text or json", into: &configuration.logFormat) {
            ServerConfiguration.LogFormat(rawValue: $0)
        }
        read("privacy.defaultMode", "transport or e2ee", into: &configuration.defaultPrivacy) {
            PrivacyMode(rawValue: $0)
        }
        readAuthorization(&configuration)
        // The value may be a secret whose key was mistyped.
        for key in values.keys {
            note(key, found: "a key that nothing reads", expected: "one that exists: see Docs/Operations.md")
        }
        return configuration
    }

    // MARK: Sections

    private mutating func readHTTP(_ configuration: inout ServerConfiguration) {
        if let listen = take("http.listen") {
            if case .scalar(let text) = listen, let (host, port) = Self.hostAndPort(text) {
                configuration.httpHost = host
                configuration.httpPort = port
            } else {
                note("http.listen", found: listen.text, expected: "HOST:PORT such as 127.0.0.1:8080 or [::]:8080")
            }
        }
        read("http.publicURL", "a URL such as https://live.example.org", into: &configuration.publicURL) {
            text -> String?? in
            guard let url = URL(string: text), let scheme = url.scheme, scheme == "http" || scheme == "https",
                url.host != nil, url.query == nil
            else { return nil }
            return .some(text.hasSuffix("/") ? String(text.dropLast()) : text)
        }
        if let origins = takeList("http.allowedOrigins", "a list of origins such as https://example.org, or *") {
            configuration.allowedOrigins = origins
            for (place, origin) in origins.enumerated() where origin != "*" {
                let parts = origin.components(separatedBy: "://")
                if parts.count != 2 || parts[1].isEmpty || parts[1].contains("/") {
                    note(
                        "http.allowedOrigins",
                        found: "\"\(origin)\"",
                        expected: "scheme://host[:port] without a path, or *",
                        place: place
                    )
                }
            }
        }
        for (place, text) in (takeList("http.trustedProxies", "a list of networks") ?? []).enumerated() {
            if let network = IPNetwork(text) {
                configuration.trustedProxies.append(network)
            } else {
                note(
                    "http.trustedProxies",
                    found: "\"\(text)\"",
                    expected: "an address or a network such as 127.0.0.1, 10.0.0.0/8 or fd00::/8",
                    place: place
                )
            }
        }
        var certificate: String?
        var privateKey: String?
        read("http.tls.certificate", "the path of a PEM file", into: &certificate) { .some(.some($0)) }
        read("http.tls.privateKey", "the path of a PEM file", into: &privateKey) { .some(.some($0)) }
        switch (certificate, privateKey) {
        case (let certificate?, let privateKey?):
            let files = ServerConfiguration.TLSFiles(certificate: certificate, privateKey: privateKey)
            configuration.tls = files
            let unreadable = [("http.tls.certificate", certificate), ("http.tls.privateKey", privateKey)].filter {
                !FileManager.default.isReadableFile(atPath: $0.1)
            }
            for (key, path) in unreadable {
                note(key, found: "\"\(path)\", which can't be read", expected: "a readable PEM file")
            }
            if unreadable.isEmpty { checkPair(files) }
        case (nil, nil): break
        case (nil, _):
            note(
                "http.tls.certificate",
                found: "nothing",
                expected: "a PEM file, as http.tls.privateKey is set",
                because: ["http.tls.privateKey"]
            )
        case (_, nil):
            note(
                "http.tls.privateKey",
                found: "nothing",
                expected: "a PEM file, as http.tls.certificate is set",
                because: ["http.tls.certificate"]
            )
        }
    }

    private mutating func checkPair(_ files: ServerConfiguration.TLSFiles) {
        do throws(TLSFilesError) {
            _ = try files.load()
        } catch {
            switch error.part {
            case .certificate:
                note("http.tls.certificate", found: error.reason, expected: "a PEM file with the certificate chain")
            case .privateKey:
                note("http.tls.privateKey", found: error.reason, expected: "a PEM file with the certificate's key")
            case .pair:
                note("http.tls.privateKey", found: error.reason, expected: "the key of http.tls.certificate")
            }
        }
    }

    private mutating func readMedia(_ configuration: inout ServerConfiguration) {
        read("media.listen", "an IP address such as 127.0.0.1, 0.0.0.0 or ::", into: &configuration.mediaListen) {
            IPAddress($0)
        }
        read("media.port", "a UDP port from 1024 to 65535, or 0 for any", into: &configuration.mediaPort) { text in
            UInt16(text).flatMap { $0 == 0 || $0 >= 1024 ? $0 : nil }
        }
        read("media.workers", "a number from 1 to 64", into: &configuration.workers) { text -> Int?? in
            Int(text).flatMap { (1...64).contains($0) ? .some($0) : nil }
        }
        if let addresses = takeList("media.announce", "a list of IP addresses") {
            for (place, text) in addresses.enumerated() {
                if let address = IPAddress(text), !address.isUnspecified {
                    configuration.announce.append(address)
                } else {
                    note(
                        "media.announce",
                        found: "\"\(text)\"",
                        expected: "IP addresses that clients can reach",
                        place: place
                    )
                }
            }
        }
        if let value = take("media.tcp"), value != .scalar("false") {
            note("media.tcp", found: value.text, expected: "false: ICE over TCP is not in this version")
        }
        if configuration.mediaPort != 0, Int(configuration.mediaPort) + (configuration.workers ?? 1) - 1 > 65_535 {
            note(
                "media.port",
                found: "\(configuration.mediaPort) with \(configuration.workers ?? 1) workers",
                expected: "room for one port a worker below 65536"
            )
        }
    }

    private mutating func readLimits(_ configuration: inout ServerConfiguration) {
        for key in LimitKeys.counts {
            read(
                "limits.\(key.name)",
                "a number from \(key.range.lowerBound) to \(key.range.upperBound)",
                into: &configuration.limits[keyPath: key.field]
            ) { text in Int(text).flatMap { key.range.contains($0) ? $0 : nil } }
        }
        for key in LimitKeys.durations {
            read(
                "limits.\(key.name)",
                "a time such as 500ms or 15s, from \(key.range.lowerBound) to \(key.range.upperBound)",
                into: &configuration.limits[keyPath: key.field]
            ) { text in LimitKeys.duration(text).flatMap { key.range.contains($0) ? $0 : nil } }
        }
    }

    private mutating func readICEServers(_ configuration: inout ServerConfiguration) {
        guard let value = take("ice.servers") else { return }
        let expected = "a list of stun:, turn: or turns: URLs, or of sections with url, username and credential"
        guard case .list(let items) = value else {
            note("ice.servers", found: value.text, expected: expected)
            return
        }
        for (place, item) in items.enumerated() {
            var server: ServerConfiguration.ICEServer?
            switch item {
            case .scalar(let url): server = ServerConfiguration.ICEServer(url: url)
            case .map(let fields):
                func text(_ name: String) -> String? {
                    if case .scalar(let text)? = fields[name] { text } else { nil }
                }
                server = text("url").map {
                    ServerConfiguration.ICEServer(url: $0, username: text("username"), credential: text("credential"))
                }
            case .list: break
            }
            let scheme = server?.url.prefix { $0 != ":" }
            if let server, ["stun", "stuns", "turn", "turns"].contains(scheme) {
                configuration.iceServers.append(server)
            } else {
                // It may hold credentials.
                note("ice.servers", found: "another scheme or form", expected: expected, place: place)
            }
        }
    }

    /// Open is for one machine; whoever listens to others has to say who may.
    private mutating func readAuthorization(_ configuration: inout ServerConfiguration) {
        configuration.operatorToken = takeSecret("auth.operatorToken", atLeast: 16)
        configuration.tokenSecret = takeSecret("auth.secret", atLeast: TokenKeys.shortestSecret)
        configuration.tokenAudience = takeList("auth.audience", "a name, or a list of names") ?? []
        for (place, path) in (takeList("auth.publicKeys", "a list of PEM files") ?? []).enumerated() {
            if let text = try? String(contentsOfFile: path, encoding: .utf8), TokenKeys.isPublicKey(text) {
                configuration.tokenPublicKeys.append(text)
            } else {
                note(
                    "auth.publicKeys",
                    found: "\"\(path)\"",
                    expected: "the path of a PEM file with an Ed25519, P-256 or RSA public key",
                    place: place
                )
            }
        }
        let isLocal =
            (configuration.httpHost == "localhost" || IPAddress(configuration.httpHost)?.isLoopback == true)
            && configuration.mediaListen.isLoopback
        switch take("auth.mode") {
        case .scalar("open"):
            configuration.authorization = .open
            if !isLocal {
                note(
                    "auth.mode",
                    found: "open, with http.listen or media.listen not on loopback",
                    expected: "token, together with auth.operatorToken"
                )
            }
        case .scalar("token"):
            configuration.authorization = .token
            if !problems.contains(where: { $0.key.hasPrefix("auth.") || $0.key.hasPrefix("SLUICE_AUTH_") }),
                configuration.operatorToken == nil,
                configuration.tokenSecret == nil,
                configuration.tokenPublicKeys.isEmpty
            {
                note(
                    "auth.operatorToken",
                    found: "nothing",
                    expected: "a token, or auth.secret or auth.publicKeys, as auth.mode is token",
                    because: ["auth.mode"]
                )
            }
        case nil where isLocal:
            configuration.authorization = .open
        case nil:
            note(
                "auth.mode",
                found: "nothing, with http.listen or media.listen not on loopback",
                expected: "auth.mode: token and auth.operatorToken (SLUICE_AUTH_MODE, SLUICE_AUTH_OPERATOR_TOKEN)",
                because: configuration.mediaListen.isLoopback ? ["http.listen"] : ["media.listen"]
            )
        case let other?:
            note("auth.mode", found: other.text, expected: "open or token")
        }
    }

    // MARK: Values

    /// A secret, which is never shown.
    private mutating func takeSecret(_ key: String, atLeast length: Int) -> String? {
        guard let value = take(key) else { return nil }
        let expected = "at least \(length) characters, such as openssl rand -base64 48 prints"
        guard case .scalar(let secret) = value else {
            note(key, found: "a list", expected: expected)
            return nil
        }
        // Everyone knows them from our examples.
        if Self.shippedWords.contains(where: secret.lowercased().contains) {
            note(key, found: "the word of an example", expected: "a secret of your own: \(expected)")
        } else if secret.utf8.count < length {
            note(key, found: "\(secret.utf8.count) characters", expected: expected)
        }
        return secret
    }

    private static let shippedWords = ["replace-me", "replace_me", "replaceme", "change-me", "change_me", "changeme"]

    private mutating func take(_ key: String) -> ConfigurationValues.Value? { values.removeValue(forKey: key) }

    private mutating func takeList(_ key: String, _ expected: String) -> [String]? {
        switch take(key) {
        case nil: return nil
        case .scalar(let text): return [text]
        case .list(let items):
            let texts = items.compactMap { if case .scalar(let text) = $0 { text } else { nil } }
            if texts.count == items.count { return texts }
            note(key, found: "a list of something else", expected: expected)
            return nil
        case .map:
            note(key, found: "a section", expected: expected)
            return nil
        }
    }

    private mutating func read<Value>(
        _ key: String,
        _ expected: String,
        into target: inout Value,
        parse: (String) -> Value?
    ) {
        guard let value = take(key) else { return }
        if case .scalar(let text) = value, let parsed = parse(text) {
            target = parsed
        } else {
            note(key, found: value.text, expected: expected)
        }
    }

    /// - Parameters:
    ///   - place: Of a list's entry that it is about.
    ///   - because: What has it looked for, where it is missing.
    private mutating func note(
        _ key: String,
        found: String,
        expected: String,
        place: Int? = nil,
        because: [String] = []
    ) {
        let line =
            place.flatMap { lines["\(key)[\($0)]"] } ?? lines[key] ?? because.compactMap { lines[$0] }.first
        problems.append(ConfigurationProblem(key: key, found: found, expected: expected, line: line))
    }

    /// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.
    private static func hostAndPort(_ text: String) -> (host: String, port: Int)? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard !host.isEmpty,
            IPAddress(host) != nil || host.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "." || $0 == "-" })
        else { return nil }
        return (host, Int(port))
    }
}
