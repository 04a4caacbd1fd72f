import Transport

/// Which encoding of a simulcast track is forwarded.
enum EncodingChoice {
    /// The highest that is there and not above a limit; where there is none, the lowest above it, since any picture is better than
    /// none; where nothing is there, what is forwarded now.
    ///
    /// - Parameters:
    ///   - encodings: The lowest first.
    ///   - current: What is forwarded now.
    ///   - limit: The place of the highest that is wanted.
    ///   - silence: An encoding that is so far behind the others has stopped. When all are silent, their publisher is.
    static func of(
        _ encodings: ContiguousArray<Track>,
        current: Track,
        limit: Int,
        silence: Duration
    ) -> Track {
        guard let latest = encodings.lazy.compactMap({ $0.encoding?.lastReceivedAt }).max() else { return current }
        var lowest: Track?
        var highest: Track?
        for (place, track) in encodings.enumerated() {
            guard let encoding = track.encoding, !encoding.isSilent(at: latest, silence: silence) else { continue }
            if lowest == nil { lowest = track }
            if place <= limit { highest = track }
        }
        return highest ?? lowest ?? current
    }
}
