import Commands
import Wire

/// Simulcast (RFC 8853): an m-line on which a publisher sends several encodings of one source.
extension OfferedSection {
    /// The encodings of an m-line, the lowest first; always at least one.
    ///
    /// Where it has `a=simulcast` they are told apart by their RIDs, where it has `a=ssrc-group:SIM`, which came before that, by their
    /// SSRCs.
    ///
    /// - Parameter maximum: Most that are taken.
    func encodings(of format: Format, maximum: Int) -> [NegotiatedEncoding] {
        let sources = announcedSources
        guard kind == .video, maximum > 1 else { return [NegotiatedEncoding(announcedSources: sources)] }
        let rids = offeredRIDs(for: format).prefix(maximum)
        if rids.count > 1 {
            // SSRCs that are announced beside RIDs don't say which is which.
            return EncodingOrder.ascending(Array(rids)).map { NegotiatedEncoding(rid: $0) }
        }
        let group = attributes.groups.first { $0.semantics == "SIM" }
        var grouped: [AnnouncedSource] = []
        for ssrc in (group?.ssrcs ?? []).prefix(maximum) where !grouped.contains(where: { $0.ssrc == ssrc }) {
            if let source = sources.first(where: { $0.ssrc == ssrc }) { grouped.append(source) }
        }
        if grouped.count > 1 { return grouped.map { NegotiatedEncoding(announcedSources: [$0]) } }
        return [NegotiatedEncoding(announcedSources: sources)]
    }

    /// The RIDs that the m-line sends, in its order; empty where its packets can't say them.
    private func offeredRIDs(for format: Format) -> [String] {
        guard let simulcast = attributes.simulcast,
            headerExtensions.contains(where: { $0.meaning == .rtpStreamID })
        else { return [] }
        var rids: [String] = []
        // Of alternatives the first is what the publisher would rather send (RFC 8853 §5.1).
        for rid in simulcast.send.compactMap({ $0.first?.rid }) where !rids.contains(rid) {
            guard let restriction = attributes.rids[rid], restriction.sends,
                restriction.payloadTypes.isEmpty || restriction.payloadTypes.contains(format.payloadType)
            else { continue }
            rids.append(rid)
        }
        return rids
    }

    /// What the answer says of the encodings that are taken, in the offer's order (RFC 8853 §5.3.2).
    func simulcastAnswer(_ encodings: [NegotiatedEncoding]) -> [SDPAttribute] {
        let taken = Set(encodings.compactMap(\.rid))
        let rids = (attributes.simulcast?.send ?? []).compactMap { $0.first?.rid }.filter { taken.contains($0) }
        return rids.map { SDPAttribute("rid", "\($0) recv") }
            + [SDPAttribute("simulcast", "recv \(rids.joined(separator: ";"))")]
    }

    /// RTP sources that the m-line announces (RFC 5576), each with its retransmissions' (RFC 4588 §8.7).
    var announcedSources: [AnnouncedSource] {
        let pairs = attributes.groups.filter { $0.semantics == "FID" && $0.ssrcs.count == 2 }
        let retransmissions = Set(pairs.map { $0.ssrcs[1] })
        return attributes.ssrcs.filter { !retransmissions.contains($0) }.prefix(8).map { ssrc in
            AnnouncedSource(ssrc: ssrc, retransmissionSSRC: pairs.first { $0.ssrcs[0] == ssrc }?.ssrcs[1])
        }
    }
}

/// Which of a publisher's encodings is better than which. SDP doesn't say it (RFC 8853 §5.1 only has preferences), so it is read from
/// the names that are in use.
enum EncodingOrder {
    /// What clients call their encodings, from the lowest on. A name may be in one ladder only, or the ladders have to agree on it.
    private static let ladder = [
        ["q", "l", "lo", "low"], ["m", "mid", "medium"], ["h", "hi", "high"], ["f", "full"],
    ]

    /// - Parameter rids: In the offer's order.
    static func ascending(_ rids: [String]) -> [String] {
        let ranks = rids.map { rank(of: $0) }
        guard Set(ranks).count == rids.count, !ranks.contains(nil) else {
            // Names that say nothing stand in the order of preference, and that is the best first: so in RFC 8853, and from OBS, which
            // numbers them.
            return rids.reversed()
        }
        return zip(rids, ranks).sorted { ($0.1 ?? 0) < ($1.1 ?? 0) }.map(\.0)
    }

    private static func rank(of rid: String) -> Int? {
        let name = rid.lowercased()
        if let rank = ladder.firstIndex(where: { $0.contains(name) }) { return rank }
        // r0, r1, r2: from the lowest on.
        if name.hasPrefix("r"), let number = Int(name.dropFirst()), (0...9).contains(number) { return number }
        return nil
    }
}
