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
    /// The lines of a file that they stand on, from 1; those of a list's entries by `key[place]`.
    private(set) var lines: [String: Int] = [:]
    /// Environment variables that look like ours, are none, and stop nothing.
    private(set) var unknownVariables: [String] = []
    /// What is wrong with others.
    private(set) var problems: [ConfigurationProblem] = []

    init() {}

    /// Reads a YAML or JSON file; JSON is YAML too.
    init(file path: String) throws(ConfigurationError) {
        func problem(_ found: String, _ expected: String, line: Int? = nil) -> ConfigurationError {
            ConfigurationError(problems: [
                ConfigurationProblem(key: path, found: found, expected: expected, line: line)
            ])
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw problem("no readable file", "a YAML or JSON file")
        }
        guard let text = String(data: data, encoding: .utf8) else { throw problem("bytes that are not UTF-8", "text") }
        let node: Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch {
            let (reason, line) = Self.explanation(error)
            throw problem(reason, "valid YAML or JSON", line: line)
        }
        // A file with nothing but comments sets nothing.
        guard let node else { return }
        guard case .mapping(let sections) = node else {
            if case .scalar(let scalar) = node, scalar.string.isEmpty { return }
            throw problem("no sections", "keys such as http.listen, as sections", line: node.mark?.line)
        }
        flatten(sections, prefix: "")
    }

    /// What is wrong with a text that is no YAML, and where.
    private static func explanation(_ error: any Error) -> (reason: String, line: Int?) {
        switch error as? YamlError {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return (problem, mark.line)
        case .duplicatedKeysInMapping(let duplicates, let context):
            return ("\"\(duplicates.first ?? "a key")\" twice", context.mark.line)
        default: return ("a syntax error", nil)
        }
    }

    /// Reads environment variables that begin with `SLUICE_`. Lists are separated by commas.
    init(environment: [String: String]) {
        for (name, value) in environment where name.hasPrefix("SLUICE_") {
            if let key = ConfigurationKey.all.first(where: { $0.environmentName == name }) {
                values[key.path] =
                    key.isList
                    ? .list(value.split(separator: ",").map { .scalar($0.trimmingCharacters(in: .whitespaces)) })
                    : .scalar(value)
            } else if let key = ConfigurationKey.all.first(where: { $0.fileVariable == name }) {
                readSecret(key, from: value, isSetToo: environment[key.environmentName] != nil)
            } else if EnvironmentVariable.mayBeMeant(name) {
                // What it is set to may be a secret.
                let nearest = EnvironmentVariable.nearest(to: name).map { ", such as \($0.name)" } ?? ""
                problems.append(
                    ConfigurationProblem(
                        key: name,
                        found: "a variable that nothing reads",
                        expected: "one that exists\(nearest): see Docs/Operations.md"
                    )
                )
            } else {
                unknownVariables.append(name)
            }
        }
    }

    /// Reads a secret from the file that a variable names.
    private mutating func readSecret(_ key: ConfigurationKey, from path: String, isSetToo: Bool) {
        func problem(_ found: String, _ expected: String) -> ConfigurationProblem {
            ConfigurationProblem(key: key.fileVariable ?? key.path, found: found, expected: expected)
        }
        guard !isSetToo else {
            problems.append(problem("\(key.environmentName) as well", "one of the two"))
            return
        }
        guard let data = FileManager.default.contents(atPath: path), let text = String(data: data, encoding: .utf8)
        else {
            problems.append(problem("a file that can't be read, or is no text", "the path of a file with the secret"))
            return
        }
        // Editors and `echo` end files with one, and no secret can have one: headers bring it.
        let end = text.lastIndex { $0 != "\n" && $0 != "\r\n" }
        values[key.path] = .scalar(end.map { String(text[...$0]) } ?? "")
    }

    /// Sets a value, in place of any that is there.
    mutating func set(_ key: String, _ value: Value) { values[key] = value }

    /// Puts other values over these.
    mutating func merge(_ other: ConfigurationValues) {
        values.merge(other.values) { $1 }
        for key in other.values.keys { lines = lines.filter { $0.key != key && !$0.key.hasPrefix("\(key)[") } }
        lines.merge(other.lines) { $1 }
        unknownVariables += other.unknownVariables
        problems += other.problems
    }

    private mutating func flatten(_ sections: Node.Mapping, prefix: String) {
        for (name, node) in sections {
            let key = prefix + (name.string ?? "?")
            if case .mapping(let inner) = node {
                flatten(inner, prefix: "\(key).")
                continue
            }
            values[key] = Self.value(of: node)
            lines[key] = name.mark?.line
            guard case .sequence(let items) = node else { continue }
            for (place, item) in items.enumerated() { lines["\(key)[\(place)]"] = item.mark?.line }
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
    /// Whether it may be in a file of its own.
    var isSecret: Bool { path == "auth.secret" || path == "auth.operatorToken" }

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
        + [
            "auth.publicKeys", "auth.audience", "http.allowedOrigins", "http.trustedProxies", "media.announce",
            "ice.servers",
        ].map {
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
    /// The environment variable that names the file with a secret; nil for what is none.
    var fileVariable: String? { isSecret ? "\(environmentName)_FILE" : nil }
}
