import Commands
import Transport

/// How often one viewer has keyframes made: each is sent to all who watch, so whoever asks for one after the other, or pauses and goes
/// on, soon has to wait. To ask again for one that has not come costs nothing.
struct KeyframeAllowance {
    private struct Encoding {
        let track: TrackID
        var left: Double
        var refilledAt: Instant
        /// When the last request was granted.
        var askedAt: Instant
    }

    /// Those that are not whole again.
    private var encodings: ContiguousArray<Encoding> = []

    /// Whether the viewer may have a keyframe asked for.
    ///
    /// - Parameters:
    ///   - track: The track, or one encoding of it.
    ///   - keyframeReceivedAt: When its last keyframe began; nil before the first.
    ///   - keepsOne: Whether the last one is kept for later.
    mutating func take(
        _ track: TrackID,
        keyframeReceivedAt: Instant?,
        keepsOne: Bool,
        now: Instant,
        limits: Limits
    ) -> Bool {
        if let place = encodings.firstIndex(where: { $0.track == track }) {
            let known = encodings[place]
            if (keyframeReceivedAt ?? Instant(nanoseconds: 0)) < known.askedAt { return true }
            let left = Self.refilled(known, now: now, limits: limits)
            guard left >= (keepsOne ? 2 : 1) else { return false }
            encodings[place] = Encoding(track: track, left: left - 1, refilledAt: now, askedAt: now)
            return true
        }
        encodings.removeAll { Self.refilled($0, now: now, limits: limits) >= limits.keyframeRequestsPerViewer }
        encodings.append(
            Encoding(track: track, left: limits.keyframeRequestsPerViewer - 1, refilledAt: now, askedAt: now)
        )
        return true
    }

    private static func refilled(_ encoding: Encoding, now: Instant, limits: Limits) -> Double {
        let earned = max(0, (now - encoding.refilledAt).seconds) / limits.keyframeRequestRecovery.seconds
        return min(limits.keyframeRequestsPerViewer, encoding.left + earned)
    }
}
