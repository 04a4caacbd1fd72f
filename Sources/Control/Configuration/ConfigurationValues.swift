import Foundation
import Yams

/// Values as they were written, before anybody asked what they mean: keys are paths such as `http.listen`.
struct ConfigurationValues {
    enum Value: Equatable {
        case scalar(String)
        case list([Value])
        case map([String: Value])

        /// As a problem's "found" shows it: short, and never more than what the operator wrote.
        var text: String {
            switch self {
            case .scalar(let scalar): "\"\(scalar.prefix(80))\""
            case .list(let items): "a list of \(items.count)"
            case .map: "a section"
            }
        }
    }

    private(set) var values: [String: Value] = [:]

    init() {}

    /// Reads a YAML or JSON file; JSON is YAML too.
    init(file path: String) throws(ConfigurationError) {
        func problem(_ found: String, _ expected: String) -> ConfigurationError {
            ConfigurationError(problems: [ConfigurationProblem(key: path, found: found, expected: expected)])
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw problem("no readable file", "a YAML or JSON file")
        }
        guard let text = String(data: data, encoding: .utf8) else { throw problem("bytes that are not UTF-8", "text") }
        let node: Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch {
            let reason = "\(error)".split(separator: "\n").first.map(String.init) ?? "a syntax error"
            throw problem(reason, "valid YAML or JSON")
        }
        // A file with nothing but comments sets nothing.
        guard let node else { return }
        guard case .map(let sections) = Self.value(of: node) else {
            if case .scalar("") = Self.value(of: node) { return }
            throw problem("no sections", "keys such as http.listen, as sections")
        }
        flatten(sections, prefix: "")
    }

    /// Reads environment variables that begin with `SLUICE_`. Lists are separated by commas.
    init(environment: [String: String]) {
        for (name, value) in environment where name.hasPrefix("SLUICE_") {
            let key = ConfigurationKey.all.first { $0.environmentName == name }
            values[key?.path ?? name] =
                key?.isList == true
                ? .list(value.split(separator: ",").map { .scalar($0.trimmingCharacters(in: .whitespaces)) })
                : .scalar(value)
        }
    }

    /// Sets a value, in place of any that is there.
    mutating func set(_ key: String, _ value: Value) { values[key] = value }

    /// Puts other values over these.
    mutating func merge(_ other: ConfigurationValues) { values.merge(other.values) { $1 } }

    private mutating func flatten(_ sections: [String: Value], prefix: String) {
        for (name, value) in sections {
            if case .map(let inner) = value {
                flatten(inner, prefix: "\(prefix)\(name).")
            } else {
                values[prefix + name] = value
            }
        }
    }

    private static func value(of node: Node) -> Value {
        switch node {
        case .scalar(let scalar): .scalar(scalar.string)
        case .sequence(let items): .list(items.map(value))
        case .mapping(let pairs):
            .map(
                Dictionary(
                    pairs.map { ($0.key.string ?? "?", value(of: $0.value)) },
                    uniquingKeysWith: { _, last in last }
                )
            )
        case .alias: .scalar("an alias")
        }
    }
}

/// A configuration key and how its environment variable is called: `http.publicURL` is `SLUICE_HTTP_PUBLIC_URL`.
struct ConfigurationKey {
    let path: String
    var isList = false

    init(_ path: String, isList: Bool = false) {
        self.path = path
        self.isList = isList
    }

    static let all: [ConfigurationKey] =
        [
            "http.listen", "http.publicURL", "http.tls.certificate", "http.tls.privateKey", "media.listen",
            "media.port",
            "media.workers", "media.tcp", "auth.mode", "auth.secret", "auth.operatorToken", "privacy.defaultMode",
            "log.level", "log.format",
        ].map { ConfigurationKey($0) }
        + ["auth.publicKeys", "http.allowedOrigins", "media.announce", "ice.servers"].map {
            ConfigurationKey($0, isList: true)
        }
        + LimitKeys.counts.map { ConfigurationKey("limits.\($0.name)") }
        + LimitKeys.durations.map { ConfigurationKey("limits.\($0.name)") }

    var environmentName: String {
        var name = "SLUICE_"
        var previous: Character?
        for character in path {
            if character == "." {
                name += "_"
            } else {
                if character.isUppercase, previous?.isLowercase == true { name += "_" }
                name += character.uppercased()
            }
            previous = character
        }
        return name
    }
}
