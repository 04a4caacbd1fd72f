import Commands
import Transport
import Wire

/// One audio or video source as a worker knows it: who feeds it, and whom it is forwarded to.
///
/// Each encoding of a simulcast source is a track of its own here. Whoever is sent one of them is a candidate for the others.
final class Track {
    /// Who feeds the track.
    enum Feed {
        /// Nobody does now: its publisher is gone, or has not connected.
        case none
        /// A peer of this worker, which is the track's home.
        case publisher(Peer)
        /// The track's home is another worker, which relays it to us.
        case relay(from: WorkerIndex)
    }

    /// Two encodings may not follow each other faster: a publisher that changes its SSRC with each packet would have us
    /// allocate a history with each.
    private static let encodingChangeInterval = Duration.milliseconds(500)

    let id: TrackID
    /// Known once somebody feeds the track or subscribes to it.
    let codec: Codec
    var feed: Feed = .none
    /// The encoding that is forwarded.
    private(set) var encoding: Encoding?
    private(set) var subscriptions: ContiguousArray<Subscription> = []
    /// Subscriptions that are sent another encoding of the same source now.
    private(set) var candidates: ContiguousArray<Subscription> = []
    /// Who is served while not everybody can be.
    var admission = Admission()
    /// Requests to the track's home, where that is another worker.
    var relayedRequests: KeyframeRequestLimiter
    /// Workers that this home relays the track to; bit n is worker n.
    var relayTargets: UInt64 = 0
    /// Whether the track is in its engine's list of tracks with packets to forward.
    var isQueued = false
    /// The loudest packet since somebody asked, in -dBov (RFC 6464): less is louder; nil when all was silence.
    var loudestLevel: UInt8?
    var keyframesReceived: UInt64 = 0
    var keyframeRequestsSent: UInt64 = 0
    var nacksSent: UInt64 = 0
    var packetsRecovered: UInt64 = 0
    /// How its publisher's packets arrive.
    var quality = QualityMeter()
    var lossInterval = LossInterval()

    private var generation: UInt32 = 0
    private var subscriptionsEver = 0
    private var encodingSince: Instant?
    private var packetsLostBefore: Int64 = 0
    private var packetsExpectedBefore: Int64 = 0

    init(id: TrackID, codec: Codec, keyframeRequestInterval: Duration) {
        self.id = id
        self.codec = codec
        relayedRequests = KeyframeRequestLimiter(interval: keyframeRequestInterval)
    }

    /// Whether somebody waits for a keyframe, here or on another worker.
    var wantsKeyframe: Bool {
        codec.kind == .video && (relayTargets != 0 || subscriptions.contains(where: \.awaitsKeyframe))
    }

    /// Whether its packets are of use to anybody, here or on another worker.
    var isWatched: Bool { !isUnused || relayTargets != 0 }

    /// What its publisher's histories may take; nil where other workers' are borrowed.
    private var budget: HistoryBudget? {
        if case .publisher(let peer) = feed { peer.historyBudget } else { nil }
    }

    /// Whether it is of no use to anybody here.
    var isUnused: Bool { subscriptions.isEmpty && candidates.isEmpty }

    func add(_ subscription: Subscription) {
        subscriptions.append(subscription)
        subscriptionsEver += 1
    }

    func addCandidate(_ subscription: Subscription) { candidates.append(subscription) }

    func removeCandidate(_ subscription: Subscription) {
        if let index = candidates.firstIndex(where: { $0 === subscription }) {
            candidates.swapAt(index, candidates.count - 1)
            candidates.removeLast()
        }
    }

    /// Puts subscriptions that have changed to this encoding, or to another one, where they belong.
    func sortSubscriptions() {
        let arriving = candidates.filter { $0.track === self }
        let leaving = subscriptions.filter { $0.track !== self }
        if !arriving.isEmpty { candidates.removeAll { $0.track === self } }
        if !leaving.isEmpty { subscriptions.removeAll { $0.track !== self } }
        subscriptions += arriving
        candidates += leaving
    }

    /// Where the next subscription stands on the circle of `Admission`: the golden ratio's multiples are spread evenly however
    /// many there are.
    var nextPlace: Double {
        let place = Double(subscriptionsEver) * 0.618_033_988_749_895
        return place - place.rounded(.down)
    }

    func remove(_ subscription: Subscription) {
        if let index = subscriptions.firstIndex(where: { $0 === subscription }) {
            // Order means nothing, and a broadcast's viewers leave often.
            subscriptions.swapAt(index, subscriptions.count - 1)
            subscriptions.removeLast()
        }
    }

    /// The encoding for packets of this SSRC; a new one takes the old one's place once that has ended, or fallen silent.
    ///
    /// - Returns: Nil while the old one lives, and when encodings change too fast.
    func encoding(ssrc: UInt32, limits: Limits, now: Instant) -> Encoding? {
        if let encoding {
            if encoding.ssrc == ssrc { return encoding }
            if encoding.isAlive(at: now, silence: limits.encodingSilence) { return nil }
        }
        return beginEncoding(ssrc: ssrc, limits: limits, now: now)
    }

    /// A new encoding, in place of the one before.
    ///
    /// - Returns: Nil when encodings change too fast.
    func beginEncoding(ssrc: UInt32, limits: Limits, now: Instant) -> Encoding? {
        if let since = encodingSince, now < since + Self.encodingChangeInterval { return nil }
        return replaceEncoding(ssrc: ssrc, generation: generation &+ 1, limits: limits, now: now)
    }

    /// The encoding for packets that a relay brings.
    func relayedEncoding(ssrc: UInt32, generation: UInt32, limits: Limits, now: Instant) -> Encoding {
        if let encoding, encoding.generation == generation { return encoding }
        return replaceEncoding(ssrc: ssrc, generation: generation, limits: limits, now: now)
    }

    /// Whether this peer feeds the track.
    func isFed(by peer: Peer) -> Bool {
        if case .publisher(let publisher) = feed { publisher === peer } else { false }
    }

    /// Lost packets of all the encodings that there were (RFC 3550 §6.4.1).
    var packetsLost: Int64 { packetsLostBefore + (encoding?.statistics.lost ?? 0) }

    /// Packets that publishers sent in all those encodings, as far as their sequence numbers tell.
    var packetsExpected: Int64 {
        packetsExpectedBefore + Int64(clamping: encoding?.statistics.expected ?? 0)
    }

    /// The publisher of before is gone, and its packets with it. Whatever SSRC the next one sends starts a new encoding at once.
    func endEncoding() {
        packetsLostBefore = packetsLost
        packetsExpectedBefore = packetsExpected
        encoding = nil
        encodingSince = nil
    }

    private func replaceEncoding(ssrc: UInt32, generation: UInt32, limits: Limits, now: Instant) -> Encoding {
        self.generation = generation
        packetsLostBefore = packetsLost
        packetsExpectedBefore = packetsExpected
        encodingSince = now
        // The same source that counts anew has the same decoder.
        let parameterSets = encoding?.ssrc == ssrc ? encoding?.parameterSets : nil
        let new = Encoding(
            ssrc: ssrc,
            generation: generation,
            codec: codec,
            limits: limits,
            budget: budget
        )
        new.parameterSets = parameterSets
        encoding = new
        return new
    }
}
