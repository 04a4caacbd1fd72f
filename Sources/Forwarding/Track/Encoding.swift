import Commands
import Transport
import Wire

/// One RTP encoding of a track: its packets, and what its receiver keeps count of.
///
/// At the track's home it is fed by the publisher's packets; on any other worker by a relay, where only the packets and the
/// sender report's clock are in use.
final class Encoding {
    /// Packets that wait at most to be forwarded at the end of a turn. Far below the history's size, so that none is
    /// overwritten before.
    static let maximumPending = 64

    /// Memory that a history takes at a time: some fifty packets of video, or a hundred of audio.
    private static let videoChunkBytes = 64 * 1024
    private static let audioChunkBytes = 16 * 1024

    /// What is still a slow picture and no stop.
    private static let longestPatience = Duration.seconds(3)
    /// Packets that overtook the end of their source come within this time.
    private static let lateness = Duration.milliseconds(200)

    /// The publisher's SSRC.
    let ssrc: UInt32
    private let isVideo: Bool
    /// Tells this encoding from those that fed the same track before it.
    let generation: UInt32
    let history: PacketHistory

    /// Sequence numbers of packets that came in this turn, to be forwarded at its end.
    private(set) var pending: ContiguousArray<UInt64> = []
    /// The chunks that they lie in, each with the position in `pending` of the first of them; empty where chunks are borrowed.
    private(set) var pendingChunks: ContiguousArray<(chunk: PacketChunk, first: Int)> = []
    /// Whether a keyframe begins among them.
    private(set) var keyframeIsPending = false
    /// Whether other workers were lent them already.
    var pendingIsRelayed = false
    /// Whether packets were let go since they waited too long to be read, and none has been kept since.
    var isInterrupted = false
    /// How the publisher's RTP timestamps relate to its wall clock; and what is thought of that clock, at the track's home.
    var clock: SenderClock?
    var clockGauge = SenderClockGauge()

    /// What decoders have to have before its keyframes, as it came last.
    var parameterSets: ParameterSets?
    /// Whether other workers have to be told them with the next packets.
    var hasUnrelayedParameterSets = false
    /// The dependency descriptors' structure that came last.
    var dependencyStructure: DependencyDescriptor.Structure?
    /// The layer of the packet that came last: what only continues it says nothing of its own.
    private(set) var latestLayer = LayerInfo()
    /// The highest layers that came.
    private(set) var highestLayer = LayerLimit.lowest
    private(set) var rates = LayerRates()
    var order = SequenceOrder()
    /// The last packet that was out of order.
    var outlier: OutlyingPacket?
    /// When its publisher said that the source has ended (RFC 3550 §6.6).
    var endedAt: Instant?
    private(set) var highestSequence: UInt64 = 0
    /// When the last packet with a payload came; nil before the first.
    private(set) var lastReceivedAt: Instant?
    private var lastFrameAt: Instant?
    /// Between two frames, smoothed.
    private var frameInterval = Duration.zero
    /// The RTP timestamp of the last keyframe.
    var keyframeTimestamp: UInt32?
    private(set) var keyframeReceivedAt: Instant?
    /// Where the latest keyframe begins: what lies before it no decoder needs any more.
    private(set) var keyframeSequence: UInt64 = 0
    var statistics: ReceptionStatistics
    var nacks = NackGenerator()
    var keyframeRequests: KeyframeRequestLimiter

    init(
        ssrc: UInt32,
        generation: UInt32,
        codec: Codec,
        limits: Limits,
        budget: HistoryBudget?
    ) {
        self.ssrc = ssrc
        self.generation = generation
        isVideo = codec.kind == .video
        history = PacketHistory(
            capacity: isVideo ? limits.videoHistoryPackets : limits.audioHistoryPackets,
            chunkBytes: isVideo ? Self.videoChunkBytes : Self.audioChunkBytes,
            age: limits.retransmissionAge,
            budget: budget
        )
        statistics = ReceptionStatistics(clockRate: codec.clockRate)
        keyframeRequests = KeyframeRequestLimiter(interval: limits.keyframeRequestInterval)
        pending.reserveCapacity(Self.maximumPending)
        pendingChunks.reserveCapacity(4)
    }

    /// Whether a packet with this sequence number is new and young enough to be kept.
    func accepts(_ sequence: UInt64) -> Bool {
        if sequence > highestSequence { return true }
        return !history.isPast(sequence) && history.record(of: sequence) == nil
    }

    /// Keeps a packet that `accepts` has accepted, and queues it for this turn's end.
    ///
    /// - Returns: Whether there was room for it.
    func insert(_ record: PacketRecord, copying bytes: UnsafeRawBufferPointer) -> Bool {
        guard let chunk = history.insert(record, copying: bytes) else { return false }
        if pendingChunks.last?.chunk !== chunk { pendingChunks.append((chunk, pending.count)) }
        note(record)
        queue(record)
        return true
    }

    /// Keeps a packet that lies in a borrowed chunk, and queues it for this turn's end.
    func insert(_ record: PacketRecord) {
        history.insert(record)
        note(record)
        queue(record)
    }

    /// A packet that nobody is there for: it is not kept.
    func pass(_ record: PacketRecord) {
        if pending.isEmpty { history.removeAll() }
        note(record)
    }

    private func queue(_ record: PacketRecord) {
        pending.append(record.sequence)
        if record.startsKeyframe { keyframeIsPending = true }
    }

    private func note(_ record: PacketRecord) {
        if record.sequence > highestSequence {
            highestSequence = record.sequence
            latestLayer = record.layer
            highestLayer.spatial = max(highestLayer.spatial, record.layer.spatial)
            highestLayer.temporal = max(highestLayer.temporal, record.layer.temporal)
        }
        if record.payloadLength > 0 { lastReceivedAt = record.receivedAt }
        rates.add(record)
        // Of audio the marker begins a talkspurt.
        if record.marker, isVideo { noteFrame(at: record.receivedAt) }
        if let endedAt, record.receivedAt - endedAt > Self.lateness { self.endedAt = nil }
        if record.startsKeyframe {
            keyframeReceivedAt = record.receivedAt
            keyframeSequence = max(keyframeSequence, record.sequence)
        }
    }

    /// Whether it is so far behind that it has stopped: several of its frames, and not only one of a slow picture.
    ///
    /// - Parameters:
    ///   - latest: When the last packet of any encoding of its track came.
    ///   - silence: Less is no stop at all.
    func isSilent(at latest: Instant, silence: Duration) -> Bool {
        guard let lastReceivedAt else { return true }
        return latest - lastReceivedAt >= max(silence, frameInterval * 3)
    }

    /// Whether it still holds its track: packets of another source are strays, late ones of the source before, say.
    ///
    /// - Parameter silence: When nothing came for so long it is over; of a slow picture for some of its frames.
    func isAlive(at now: Instant, silence: Duration) -> Bool {
        guard endedAt == nil, let lastReceivedAt else { return false }
        let patience = max(silence, min(frameInterval * 3, Self.longestPatience))
        return now - lastReceivedAt < patience
    }

    private func noteFrame(at instant: Instant) {
        if let lastFrameAt {
            let interval = instant - lastFrameAt
            frameInterval = frameInterval == .zero ? interval : (frameInterval * 7 + interval) / 8
        }
        lastFrameAt = instant
    }

    /// What waited has been forwarded.
    func removePending() {
        pending.removeAll(keepingCapacity: true)
        pendingChunks.removeAll(keepingCapacity: true)
        keyframeIsPending = false
        pendingIsRelayed = false
    }
}

/// A publisher's sender report: one point that its RTP timestamps and its wall clock share (RFC 3550 §6.4.1).
struct SenderClock: BitwiseCopyable {
    /// No clock.
    static let none = SenderClock(ntp: 0, rtpTimestamp: 0, receivedAt: Instant(nanoseconds: 0))

    /// NTP format: seconds in the upper, their fraction in the lower 32 bits.
    var ntp: UInt64
    var rtpTimestamp: UInt32
    /// When the report reached the track's home.
    var receivedAt: Instant

    /// The timestamp that this clock shows at the moment at which another clock of the same publisher shows one of its own; both are
    /// of one rate.
    func timestamp(at timestamp: UInt32, of other: SenderClock, clockRate: UInt32) -> UInt32 {
        let sinceReport = Int64(Int32(bitPattern: timestamp &- other.rtpTimestamp))
        // Differences of NTP times that a publisher made up wrap, and mean nothing then.
        let between = ((Int64(bitPattern: other.ntp &- ntp) >> 16) &* Int64(clockRate)) >> 16
        return rtpTimestamp &+ UInt32(truncatingIfNeeded: between &+ sinceReport)
    }

    /// The same relation at a later instant.
    ///
    /// - Returns: The publisher's wall clock in NTP format and its RTP timestamp.
    func extrapolated(to now: Instant, clockRate: UInt32) -> (ntp: UInt64, rtpTimestamp: UInt32) {
        let nanoseconds = now > receivedAt ? now.nanoseconds - receivedAt.nanoseconds : 0
        let (seconds, fraction) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        let elapsedNTP = (seconds << 32) &+ (fraction << 32) / 1_000_000_000
        let elapsedUnits = seconds &* UInt64(clockRate) &+ fraction * UInt64(clockRate) / 1_000_000_000
        return (ntp &+ elapsedNTP, rtpTimestamp &+ UInt32(truncatingIfNeeded: elapsedUnits))
    }
}
