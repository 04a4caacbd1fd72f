import Commands
import Transport

/// How much video a worker still forwards while more is asked of it than it can do.
///
/// Datagrams that wait too long to be read are the sign, when they do so turn after turn: a thread that was not given the
/// processor for a moment is not overloaded. Then the share shrinks, quickly; when nothing waits any more it grows again, slowly.
/// Audio and everything else goes on.
struct LoadShedder {
    /// Between two changes, so that each has had its effect before the next.
    private static let interval = Duration.milliseconds(50)
    /// How long it has to last.
    private static let patience = Duration.milliseconds(100)
    private static let smallestShare = 1.0 / 64
    /// By how much the share grows in each interval in which nothing waits.
    private static let growth = 0.05
    private static let strongestCut = 0.4
    private static let weakestCut = 0.8

    /// The part of video subscriptions that is served, 0 to 1.
    private(set) var share = 1.0
    private var nextChange = Instant(nanoseconds: 0)
    /// Since when every turn's datagrams have waited too long.
    private var overloadedSince: Instant?

    /// - Parameter lag: How long the oldest datagram of a turn had waited before it was read.
    mutating func observe(lag: Duration, limits: Limits, now: Instant) {
        if lag <= limits.overloadLag {
            overloadedSince = nil
        } else if overloadedSince == nil {
            overloadedSince = now
        }
        guard nextChange <= now else { return }
        let intervals = (now - nextChange).seconds / Self.interval.seconds + 1
        if let overloadedSince, now - overloadedSince >= Self.patience {
            let cut = limits.overloadLag.seconds / lag.seconds
            share = max(Self.smallestShare, share * min(Self.weakestCut, max(Self.strongestCut, cut)))
        } else if share < 1, lag < limits.overloadLag / 2 {
            share = min(1, share + Self.growth * intervals)
        } else {
            return
        }
        nextChange = now + Self.interval
    }
}

/// Which of a track's subscriptions are served while not all can be.
///
/// Subscriptions stand on a circle. Those on an arc of it are served until the next keyframe; the next arc begins where the last one
/// ended, so that everybody has his turn, and nobody gets frames that his decoder can't use.
struct Admission {
    /// Where the arc begins, 0 to 1.
    private var start = 0.0
    /// The arc's length; 1 serves all.
    private(set) var share = 1.0

    /// Whether everybody is served.
    var isWhole: Bool { share >= 1 }

    /// Whether a subscription is on the arc.
    ///
    /// - Parameter place: Where it stands, 0 to 1.
    @inline(__always)
    func contains(_ place: Double) -> Bool {
        let distance = place - start
        return (distance < 0 ? distance + 1 : distance) < share
    }

    /// A keyframe begins: the next arc's turn.
    mutating func advance(to share: Double) {
        start += self.share
        start -= start.rounded(.down)
        self.share = share
    }

    /// Between keyframes an arc can only become shorter.
    mutating func shrink(to share: Double) { self.share = min(self.share, share) }
}
