public import Wire

/// Why a datagram or packet was dropped. The raw value is its place in `WorkerCounters.drops`.
public enum DropReason: Int, Sendable, CaseIterable {
    /// The first byte belongs to no protocol that we speak (RFC 7983), or the datagram is empty.
    case unknownProtocol
    /// STUN that can't be parsed, or with a wrong FINGERPRINT.
    case stunMalformed
    /// STUN for a ufrag that no peer has.
    case stunUnknownUser
    /// STUN whose MESSAGE-INTEGRITY is wrong or missing.
    case stunIntegrity
    /// A STUN message that nobody expects here, such as a response to nothing.
    case stunUnexpected
    /// DTLS from an address that ICE has not validated.
    case dtlsUnknownSource
    /// DTLS that is not a DTLS record.
    case dtlsMalformed
    /// RTP or RTCP from an address that ICE has not validated.
    case srtpUnknownSource
    /// RTP or RTCP before the DTLS handshake is done.
    case srtpNoKeys
    /// RTP or RTCP too short or with inconsistent lengths.
    case srtpMalformed
    /// The authentication tag is wrong.
    case srtpAuthentication
    /// A packet that was received before, or is too old to tell.
    case srtpReplay
    /// RTP that belongs to no negotiated m-line.
    case rtpUnknownSource
    /// An RTP packet larger than we forward.
    case rtpTooLarge
    /// A duplicate that a retransmission made, or a packet older than the history.
    case rtpDuplicate
    /// RTCP that can't be parsed.
    case rtcpMalformed
    /// A packet for a viewer while the socket took none and the queue before it was full. Frames are left out whole.
    case egressFull
    /// A video packet of a frame that was left out because the worker has more to do than it can.
    case overload
    /// A DTLS datagram while too many handshakes wait.
    case handshakesFull
    /// A datagram that the kernel refused to send, such as one to an address that can't be reached.
    case egressFailed
    /// A relay ring to another worker was full.
    case relayFull
    /// What an RTCP compound had more than is looked at of one peer.
    case rtcpExcess
    /// RTP of another source while the track's own one lives, such as a late packet of the source before.
    case rtpStraySource
    /// A packet far from the sequence of those before it, which the next one did not follow.
    case rtpOutOfSequence
    /// RTP or RTCP of a new source of a peer that has used more than are remembered.
    case srtpTooManySources
    /// Media that waited so long to be read that it is of no use to anybody, and video after it, up to a keyframe.
    case rtpTooLate

    /// The `reason` label of `sluice_packets_dropped_total`: the case's name in snake case.
    public var label: String {
        "\(self)".reduce(into: "") { label, character in
            if character.isUppercase { label += "_" }
            label += character.lowercased()
        }
    }
}

/// Monotonic counters of one worker since its start.
public struct WorkerCounters: Sendable {
    /// RTP packets received, authenticated, and not duplicates (media and retransmissions, before unwrapping RTX).
    public var packetsReceived: UInt64 = 0
    /// UDP payload bytes received in all.
    public var bytesReceived: UInt64 = 0
    /// RTP packets sent to viewers, retransmissions not included.
    public var packetsForwarded: UInt64 = 0
    /// UDP payload bytes sent in all.
    public var bytesSent: UInt64 = 0
    /// RTP packets sent again because a viewer asked.
    public var packetsRetransmitted: UInt64 = 0
    /// RTP packets that reached us as retransmissions and filled a gap.
    public var packetsRecovered: UInt64 = 0
    /// RTP packets that publishers sent and we did not get in time, as RFC 3550 counts them (expected − received).
    public var packetsLost: Int64 = 0
    /// Generic NACK messages (not the packets named in them) from viewers.
    public var nacksReceived: UInt64 = 0
    /// Generic NACK messages sent to publishers.
    public var nacksSent: UInt64 = 0
    /// PLI and FIR messages from viewers.
    public var keyframeRequestsReceived: UInt64 = 0
    /// PLI and FIR messages sent to publishers.
    public var keyframeRequestsSent: UInt64 = 0
    /// DTLS handshakes that ended well.
    public var dtlsHandshakesCompleted: UInt64 = 0
    /// DTLS handshakes that failed.
    public var dtlsHandshakesFailed: UInt64 = 0
    /// Drops by reason, in the order of `DropReason.allCases`.
    public var drops: [UInt64] = Array(repeating: 0, count: DropReason.allCases.count)
    /// Bucket counts for `worker_loop_seconds`, `forward_latency_seconds` and `egress_batch_packets`.
    public var loopSeconds = Histogram(bounds: Histogram.secondsBounds)
    public var forwardLatencySeconds = Histogram(bounds: Histogram.secondsBounds)
    public var egressBatchPackets = Histogram(bounds: Histogram.packetBounds)

    public init() {}
}

/// A histogram with fixed upper bounds, as Prometheus has it but not yet cumulative.
public struct Histogram: Sendable {
    /// 10 µs to 1 s.
    public static let secondsBounds: [Double] = [
        0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
        0.5, 1,
    ]
    /// 1 to 4096 packets.
    public static let packetBounds: [Double] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]

    /// Upper bounds, ascending; one more bucket holds what is above the last.
    public let bounds: [Double]
    /// One count a bucket; `bounds.count + 1` of them.
    public private(set) var counts: [UInt64]
    public private(set) var sum: Double = 0

    public init(bounds: [Double]) {
        self.bounds = bounds
        counts = Array(repeating: 0, count: bounds.count + 1)
    }

    /// Counts an observation, or as many equal ones. Does not allocate.
    public mutating func observe(_ value: Double, times: Int = 1) {
        var bucket = 0
        while bucket < bounds.count, value > bounds[bucket] { bucket += 1 }
        counts[bucket] += UInt64(times)
        sum += value * Double(times)
    }

    /// Adds another histogram that has the same bounds.
    public mutating func merge(_ other: Histogram) {
        for index in counts.indices where index < other.counts.count { counts[index] += other.counts[index] }
        sum += other.sum
    }
}

/// How loud a track was.
public struct AudioLevel: Sendable, Hashable {
    public var track: TrackID
    /// The loudest packet's level in -dBov, 0 (loudest) to 127 (RFC 6464 §3).
    public var level: UInt8

    public init(track: TrackID, level: UInt8) {
        self.track = track
        self.level = level
    }
}

/// One publisher's source as its worker sees it.
public struct TrackSnapshot: Sendable {
    public var track: TrackID
    public var codec: Codec
    /// Which encoding of a simulcast m-line it is, where its publisher says so.
    public var rid: String?
    public var packetsReceived: UInt64
    public var bytesReceived: UInt64
    /// As RFC 3550 §6.4.1 counts it; may be negative when packets are duplicated.
    public var packetsLost: Int64
    /// Interarrival jitter (RFC 3550 §6.4.1) in seconds.
    public var jitterSeconds: Double
    public var bitsPerSecond: Double
    public var nacksSent: UInt64
    public var packetsRecovered: UInt64
    public var keyframeRequestsSent: UInt64
    public var keyframesReceived: UInt64
    public var subscriptionCount: Int

    public init(track: TrackID, codec: Codec) {
        self.track = track
        self.codec = codec
        packetsReceived = 0
        bytesReceived = 0
        packetsLost = 0
        jitterSeconds = 0
        bitsPerSecond = 0
        nacksSent = 0
        packetsRecovered = 0
        keyframeRequestsSent = 0
        keyframesReceived = 0
        subscriptionCount = 0
    }
}

/// Why a viewer gets no more of a track than it gets.
public enum SubscriptionLimit: String, Sendable {
    /// The viewer wants no more.
    case wish
    /// Its network seems to carry no more.
    case network
    /// The publisher sends no more.
    case publisher
    /// The server has more to do than it can.
    case server
}

/// One subscription as its worker sees it.
public struct SubscriptionSnapshot: Sendable {
    public var track: TrackID
    public var why = SubscriptionLimit.publisher
    /// Of a scalable encoding, the highest layers that are forwarded, 0 for the lowest; nil where there is one layer.
    public var spatialLayer: Int?
    public var temporalLayer: Int?
    /// Of a simulcast track, the place of the encoding that is forwarded, 0 for the lowest.
    public var encoding: Int?
    public var packetsForwarded: UInt64
    public var bytesSent: UInt64
    public var packetsRetransmitted: UInt64
    public var nacksReceived: UInt64
    public var keyframeRequestsReceived: UInt64
    /// From the viewer's last receiver report: fraction lost, 0 to 1.
    public var fractionLost: Double
    /// From the viewer's receiver reports; nil before the first that names one of our sender reports.
    public var roundTripSeconds: Double?

    public init(track: TrackID) {
        self.track = track
        packetsForwarded = 0
        bytesSent = 0
        packetsRetransmitted = 0
        nacksReceived = 0
        keyframeRequestsReceived = 0
        fractionLost = 0
    }
}

/// What is known of a viewer's network, by its transport-wide feedback. Rates are in bits per second, IP and UDP headers included.
public struct BandwidthSnapshot: Sendable {
    /// What the network seems to carry.
    public var estimate: Double
    /// What the viewer's tracks take as they are forwarded, and what they would take at most.
    public var allocated: Double
    public var wanted: Double
    /// How long what it is sent waits on the way.
    public var queueSeconds: Double
    /// Of its packets, 0 to 1.
    public var fractionLost: Double

    public init(estimate: Double, allocated: Double, wanted: Double, queueSeconds: Double, fractionLost: Double) {
        self.estimate = estimate
        self.allocated = allocated
        self.wanted = wanted
        self.queueSeconds = queueSeconds
        self.fractionLost = fractionLost
    }
}

/// One peer as its worker sees it.
public struct PeerSnapshot: Sendable {
    public enum State: String, Sendable {
        case connecting
        case connected
    }

    public var peer: PeerID
    public var state: State
    /// The SRTP protection profile's name, such as `SRTP_AEAD_AES_128_GCM`, once negotiated.
    public var srtpProfile: String?
    public var tracks: [TrackSnapshot]
    public var subscriptions: [SubscriptionSnapshot]
    /// Nil where its feedback tells nothing of it.
    public var bandwidth: BandwidthSnapshot?

    public init(
        peer: PeerID,
        state: State,
        srtpProfile: String?,
        tracks: [TrackSnapshot],
        subscriptions: [SubscriptionSnapshot],
        bandwidth: BandwidthSnapshot? = nil
    ) {
        self.bandwidth = bandwidth
        self.peer = peer
        self.state = state
        self.srtpProfile = srtpProfile
        self.tracks = tracks
        self.subscriptions = subscriptions
    }
}

/// A worker's counters and, when asked for, its peers.
public struct WorkerSnapshot: Sendable {
    public var worker: WorkerIndex
    public var counters: WorkerCounters
    public var peerCount: Int
    public var subscriptionCount: Int
    public var peers: [PeerSnapshot]

    public init(
        worker: WorkerIndex = WorkerIndex(rawValue: 0),
        counters: WorkerCounters = WorkerCounters(),
        peerCount: Int = 0,
        subscriptionCount: Int = 0,
        peers: [PeerSnapshot] = []
    ) {
        self.worker = worker
        self.counters = counters
        self.peerCount = peerCount
        self.subscriptionCount = subscriptionCount
        self.peers = peers
    }
}
