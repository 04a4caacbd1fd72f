import Commands
import Transport

/// How well tracks get through: looked at on an interval, and told only where it has changed.
extension Engine {
    /// A subscription whose viewer reported losses in this interval.
    struct LossySubscription {
        let peer: PeerID
        let subscription: Subscription
    }

    /// Ends an interval.
    func takeQualityChanges(now: Instant) -> QualityChanges {
        var changes = QualityChanges()
        for track in tracks.values {
            if let level = takeQuality(of: track, now: now) {
                changes.incoming.append(.init(track: track.id, level: level))
            }
        }
        for lossy in lossySubscriptions {
            let subscription = lossy.subscription
            // It may have ended meanwhile.
            guard peers[lossy.peer]?.subscription(sending: subscription.ssrc) === subscription,
                let level = subscription.reportedLoss.endInterval(limits: limits)
            else { continue }
            changes.outgoing.append(
                .init(peer: lossy.peer, track: subscription.id, ssrc: subscription.ssrc, level: level)
            )
        }
        lossySubscriptions.removeAll(keepingCapacity: true)
        qualityInterval &+= 1
        return changes
    }

    /// - Returns: The level, if it has changed.
    private func takeQuality(of track: Track, now: Instant) -> QualityLevel? {
        guard case .publisher(let peer) = track.feed, peer.session != nil, let heard = peer.lastHeard else {
            // Whoever feeds it next begins anew.
            let wasGood = track.quality.level == .good
            track.quality = QualityMeter()
            return wasGood ? nil : .good
        }
        let silence = now - heard
        let fractionLost: Double?
        if silence >= limits.qualitySilence {
            fractionLost = 1
        } else if silence >= limits.qualityInterval {
            // Muted, or cut off: that will turn out.
            fractionLost = nil
        } else {
            fractionLost = track.lossInterval.take(
                expected: track.packetsExpected,
                lost: track.packetsLost,
                minimum: limits.qualityPackets
            )
        }
        guard let fractionLost, track.quality.observe(fractionLost: fractionLost, limits: limits) else { return nil }
        return track.quality.level
    }
}
