/// Tells a variable of ours that is misspelt from one that somebody else has set.
enum EnvironmentVariable {
    /// What says who may do what, and what others can see: a server that starts without would be open where it was not meant to be.
    private static let guardedSections = ["AUTH", "PRIVACY"].map { "SLUICE_\($0)_" }

    private static let all = ConfigurationKey.all.flatMap { [$0.environmentName, $0.fileVariable].compactMap { $0 } }

    /// Whether an unknown variable was likely meant for us, and matters so much that the start stops.
    static func mayBeMeant(_ name: String) -> Bool {
        guard !isKubernetes(name) else { return false }
        if isGuarded(name) { return true }
        // SLUICE_AUHT_MODE, SLUICE_AUTHMODE.
        return nearest(to: name).map { $0.distance <= 2 && isGuarded($0.name) } ?? false
    }

    private static func isGuarded(_ name: String) -> Bool { guardedSections.contains(where: name.hasPrefix) }

    /// Whether it looks like one of those that Kubernetes sets for each Service, SLUICE_PORT for one that is called sluice, and
    /// SLUICE_HTTP_PORT for sluice-http: `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_<name>`, `…_PORT`, and
    /// `…_PORT_<number>_TCP`, with nothing behind it, or `_PROTO`, `_PORT` or `_ADDR`.
    static func isKubernetes(_ name: String) -> Bool {
        let words = name.split(separator: "_", omittingEmptySubsequences: false)
        if words.ends(with: ["SERVICE", "HOST"]) || words.last == "PORT" { return true }
        return words.indices.dropLast().contains { index in
            guard words[index] == "PORT" else { return false }
            if index > 0, words[index - 1] == "SERVICE" { return true }
            let rest = words[(index + 1)...]
            guard let number = rest.first, UInt16(number) != nil,
                let transport = rest.dropFirst().first, ["TCP", "UDP", "SCTP"].contains(transport)
            else { return false }
            let part = rest.dropFirst(2)
            return part.isEmpty || ["PROTO", "PORT", "ADDR"].contains(part.joined(separator: "_"))
        }
    }

    /// The variable that is spelt most alike, of the same section where it is one that matters.
    static func nearest(to name: String) -> (name: String, distance: Int)? {
        // No name of ours is that long: what is longer needn't be compared.
        guard name.utf8.count <= 80 else { return nil }
        let section = guardedSections.first(where: name.hasPrefix) ?? ""
        return all.filter { $0.hasPrefix(section) }.map { ($0, distance(name, $0)) }.min { ($0.1, $0.0) < ($1.1, $1.0) }
    }

    /// How many characters are to be put in, taken out, or exchanged to get from one to the other (Levenshtein).
    private static func distance(_ left: String, _ right: String) -> Int {
        let right = Array(right.utf8)
        var row = Array(0...right.count)
        for (line, byte) in left.utf8.enumerated() {
            var diagonal = row[0]
            row[0] = line + 1
            for column in right.indices {
                let exchanged = diagonal + (byte == right[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(exchanged, row[column] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}

extension Array where Element: Equatable {
    fileprivate func ends(with others: [Element]) -> Bool { suffix(others.count).elementsEqual(others) }
}
