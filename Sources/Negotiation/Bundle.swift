import Wire

/// The BUNDLE group of an offer (RFC 9143): the m-lines that share one transport, and the one of them that stands for it.
struct Bundle: Sendable {
    /// The offer's, in the group's order.
    let mids: [String]
    /// The m-line that stands for the transport: the first of those that the answer takes.
    let taggedMID: String?

    /// An identifier list is looked at so far: twice as many as there may be m-lines.
    private static let maximumMIDs = 512

    /// Of several groups the first that has an m-line of ours: there is one transport.
    init?(_ session: OfferedAttributes, _ sections: [OfferedSection]) throws(NegotiationError) {
        let groups = Self.groups(of: session)
        guard let first = groups.first else { return nil }
        var lines: [String: OfferedSection] = [:]
        for section in sections where !section.mid.isEmpty {
            guard lines.updateValue(section, forKey: section.mid) == nil else {
                throw NegotiationError(.malformed, mediaLine: section.line, "its a=mid is another m-line's too")
            }
        }
        let named = groups.first { $0.contains { lines[$0]?.isServed == true } } ?? first
        // RFC 9143 §7.2: the first one stands for the transport.
        guard let suggested = named.first, lines[suggested] != nil else {
            throw NegotiationError(
                .malformed,
                "the first m-line that a=group:BUNDLE names has the transport, and no m-line has that a=mid"
            )
        }
        mids = named.filter { lines[$0] != nil }
        taggedMID = try Self.tagged(mids, lines)
    }

    private static func groups(of session: OfferedAttributes) -> [[String]] {
        var groups: [[String]] = []
        for value in session.bundles {
            let words = value.words(atMost: maximumMIDs + 1)
            guard words.first?.utf8.elementsEqual("BUNDLE".utf8) == true else { continue }
            let mids = words.dropFirst().prefix(maximumMIDs).filter {
                $0.utf8.count <= OfferedAttributes.maximumIdentifierBytes
            }
            var seen: Set<Substring> = []
            let list = mids.filter { seen.insert($0).inserted }.map(String.init)
            if !list.isEmpty { groups.append(list) }
        }
        return groups
    }

    /// RFC 9143 §7.3.1: the first m-line stands for the transport, although nothing else may come of it. Others would do only where they
    /// have a transport of their own, and Chromium with `max-bundle` doesn't say that they have none (`bundle-only`). One that can't stay
    /// gives way to another that says it has one.
    private static func tagged(
        _ mids: [String],
        _ lines: [String: OfferedSection]
    ) throws(NegotiationError) -> String? {
        let sections = mids.compactMap { lines[$0] }
        guard let first = sections.first, !first.isServed, sections.contains(where: \.isServed) else {
            return mids.first
        }
        if first.canCarryTransport { return first.mid }
        if let other = sections.first(where: { $0.isServed && $0.section.port != 0 }) { return other.mid }
        throw NegotiationError(
            .unservable,
            mediaLine: first.line,
            "\(first.problem ?? "it has no codec of ours"), and the other m-lines are bundle-only: "
                + "the m-line that a=group:BUNDLE names first has to be one that can be served"
        )
    }

    /// What the answer says of the group.
    func answer(_ answers: [MediaSection]) -> SDPAttribute {
        let taken = Set(answers.lazy.filter { $0.port != 0 }.compactMap { $0.value("mid") })
        let others = mids.filter { $0 != taggedMID && taken.contains($0) }
        let tagged = taggedMID.flatMap { taken.contains($0) ? $0 : nil }
        return SDPAttribute("group", (["BUNDLE"] + (tagged.map { [$0] } ?? []) + others).joined(separator: " "))
    }
}
