import Transport

/// Tells from the delays of packets how long they wait in a queue on the way.
///
/// The clocks of both sides differ by an unknown offset, so only differences of delays mean something: a packet's queueing delay is how
/// much longer it took than the fastest of the last half minute. One packet says little, as it may wait behind others of its own frame,
/// or arrive late by jitter. What the fastest of the last tenth of a second waited, all have waited: that is the *standing queue*, which
/// only sending less takes away (the idea of CoDel, RFC 8289 §3).
struct QueueGauge {
    /// Delays of the last tenth of a second count as the present.
    private static let present = Duration.milliseconds(60)
    private static let leastLimit = Duration.milliseconds(12)
    /// Later packets than this are no jitter.
    private static let mostDeviation = 30e6
    /// The fastest packet is remembered for so long: later the path, or the clocks, may have changed.
    private static let memory = Duration.seconds(15)

    private var base = MovingMinimum(window: memory)
    private var recent = MovingMinimum(window: present)

    /// How much longer packets take than the fastest ones around them, on average, in nanoseconds.
    private var deviation = 0.0

    /// A standing queue from here on is too much: more where packets are late by jitter anyhow.
    var limit: Duration { Self.leastLimit + .nanoseconds(Int64(deviation * 0.5)) }
    /// Whether packets seem to wait, though that may be jitter.
    var mayStand: Bool { standing > Self.leastLimit }
    /// Whether packets wait on the way more than they should.
    var isStanding: Bool { standing > limit }

    /// How long the fastest packet of the present waited.
    private(set) var standing = Duration.zero
    /// How long the latest packet waited.
    private(set) var latest = Duration.zero

    /// Takes in the first packet of those that were sent at one time.
    ///
    /// - Parameters:
    ///   - delay: Its arrival on the viewer's clock minus its sending on ours, in nanoseconds.
    ///   - arrival: When it arrived, on any clock that goes on.
    mutating func observe(delay: Int64, arrival: Instant) {
        base.observe(delay, at: arrival)
        recent.observe(delay, at: arrival)
        // Wrapping: what a viewer says of its clock may be anything.
        latest = .nanoseconds(delay &- base.value)
        let late = Double(delay &- recent.value)
        deviation += (min(max(late, 0), Self.mostDeviation) - deviation) / 64
        standing = .nanoseconds(max(0, recent.value &- base.value))
    }

    /// The path is another one: what seemed to be waiting is the way itself.
    mutating func rebase(arrival: Instant) {
        base = MovingMinimum(window: Self.memory)
        base.observe(recent.value, at: arrival)
        standing = .zero
    }
}

/// The least of the values of the last one to two windows, in constant space.
struct MovingMinimum {
    private let window: Duration
    private var current = Int64.max
    private var before = Int64.max
    private var ends: Instant?

    init(window: Duration) { self.window = window }

    var value: Int64 { min(current, before) }

    mutating func observe(_ value: Int64, at now: Instant) {
        if let ends, now < ends {
            current = min(current, value)
            return
        }
        // After a silence what was before is too old.
        before = ends.map { now - $0 < window } == true ? current : .max
        current = value
        ends = now + window
    }
}
