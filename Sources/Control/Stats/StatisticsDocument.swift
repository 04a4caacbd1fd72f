import Commands
import Negotiation
import Wire

/// `GET /v1/stats`: totals for everyone, streams and peers for the operator.
struct StatisticsDocument: Encodable {
    struct Privacy: Encodable {
        let mode: String
        let endToEndEncrypted: Bool
        let serverCanAccessMedia: Bool
        let notice: String

        init(_ mode: PrivacyMode) {
            self.mode = mode.rawValue
            endToEndEncrypted = mode == .endToEnd
            serverCanAccessMedia = mode == .transport
            notice = mode.notice
        }
    }

    struct Totals: Encodable {
        let peers: [String: Int]
        let rooms: [String: Int]
        let streams: Int
        let subscriptions: Int
        let workers: Int
        let packetsReceived: UInt64
        let packetsForwarded: UInt64
        let bytesReceived: UInt64
        let bytesSent: UInt64
        let packetsLost: Int64
        let packetsRecovered: UInt64
        let packetsRetransmitted: UInt64
        let packetsDropped: [String: UInt64]
        let nacksReceived: UInt64
        let nacksSent: UInt64
        let keyframeRequestsReceived: UInt64
        let keyframeRequestsSent: UInt64
        let dtlsHandshakes: [String: UInt64]
    }

    struct Track: Encodable {
        let codec: String
        /// Of simulcast: each encoding is listed.
        let rid: String?
        let packetsReceived: UInt64
        let bytesReceived: UInt64
        let packetsLost: Int64
        let packetsRecovered: UInt64
        let jitterSeconds: Double
        let bitsPerSecond: Double
        let nacksSent: UInt64
        let keyframesReceived: UInt64
        let keyframeRequestsSent: UInt64
        let subscriptions: Int
    }

    struct Subscription: Encodable {
        let packetsForwarded: UInt64
        let bytesSent: UInt64
        let packetsRetransmitted: UInt64
        let nacksReceived: UInt64
        let keyframeRequestsReceived: UInt64
        let fractionLost: Double
        let roundTripSeconds: Double?
        /// Of a simulcast track, which encoding is forwarded: 0 for the lowest.
        let encoding: Int?
        /// Of a scalable encoding, the highest layers that are forwarded.
        let spatialLayer: Int?
        let temporalLayer: Int?
        /// What keeps it from being better: `wish`, `network`, `publisher` or `server`.
        let why: String
    }

    /// What is known of a viewer's network.
    struct Bandwidth: Encodable {
        let estimateBitsPerSecond: Double
        let allocatedBitsPerSecond: Double
        let wantedBitsPerSecond: Double
        let queueSeconds: Double
        let fractionLost: Double
    }

    struct Peer: Encodable {
        let id: UInt64
        let state: String
        let worker: Int
        let srtpProfile: String?
        let tracks: [Track]
        let subscriptions: [Subscription]
        /// Where the peer's feedback tells of it.
        let bandwidth: Bandwidth?
    }

    struct Stream: Encodable {
        let room: String
        let stream: String
        let privacy: Privacy
        let publisher: Peer?
        let viewers: [Peer]
    }

    let privacy: Privacy
    let totals: Totals
    /// Only for the operator.
    let streams: [Stream]?

    init(defaultPrivacy: PrivacyMode, census: Census, workers: [WorkerSnapshot], roster: [RosterEntry]?) {
        privacy = Privacy(defaultPrivacy)
        let counters = workers.map(\.counters).reduce(into: WorkerCounters()) { $0.merge($1) }
        totals = Totals(
            peers: Dictionary(uniqueKeysWithValues: Session.Role.allCases.map { ($0.rawValue, census.peers[$0] ?? 0) }),
            rooms: Dictionary(uniqueKeysWithValues: PrivacyMode.allCases.map { ($0.rawValue, census.rooms[$0] ?? 0) }),
            streams: census.streamCount,
            subscriptions: workers.map(\.subscriptionCount).reduce(0, +),
            workers: workers.count,
            packetsReceived: counters.packetsReceived,
            packetsForwarded: counters.packetsForwarded,
            bytesReceived: counters.bytesReceived,
            bytesSent: counters.bytesSent,
            packetsLost: counters.packetsLost,
            packetsRecovered: counters.packetsRecovered,
            packetsRetransmitted: counters.packetsRetransmitted,
            packetsDropped: Dictionary(
                uniqueKeysWithValues: DropReason.allCases.map { ($0.label, counters.drops[$0.rawValue]) }
            ),
            nacksReceived: counters.nacksReceived,
            nacksSent: counters.nacksSent,
            keyframeRequestsReceived: counters.keyframeRequestsReceived,
            keyframeRequestsSent: counters.keyframeRequestsSent,
            dtlsHandshakes: ["completed": counters.dtlsHandshakesCompleted, "failed": counters.dtlsHandshakesFailed]
        )
        guard let roster else {
            streams = nil
            return
        }
        var peers: [PeerID: Peer] = [:]
        for worker in workers {
            for peer in worker.peers { peers[peer.peer] = Peer(peer, worker: worker.worker) }
        }
        streams = roster.map { entry in
            Stream(
                room: entry.room,
                stream: entry.stream,
                privacy: Privacy(entry.privacy),
                publisher: entry.publisher.flatMap { peers[$0] },
                viewers: entry.viewers.compactMap { peers[$0] }
            )
        }
    }
}

extension StatisticsDocument.Peer {
    init(_ snapshot: PeerSnapshot, worker: WorkerIndex) {
        id = snapshot.peer.rawValue
        state = snapshot.state.rawValue
        self.worker = worker.rawValue
        srtpProfile = snapshot.srtpProfile
        tracks = snapshot.tracks.map { track in
            StatisticsDocument.Track(
                codec: track.codec.rawValue,
                rid: track.rid,
                packetsReceived: track.packetsReceived,
                bytesReceived: track.bytesReceived,
                packetsLost: track.packetsLost,
                packetsRecovered: track.packetsRecovered,
                jitterSeconds: track.jitterSeconds,
                bitsPerSecond: track.bitsPerSecond,
                nacksSent: track.nacksSent,
                keyframesReceived: track.keyframesReceived,
                keyframeRequestsSent: track.keyframeRequestsSent,
                subscriptions: track.subscriptionCount
            )
        }
        subscriptions = snapshot.subscriptions.map { subscription in
            StatisticsDocument.Subscription(
                packetsForwarded: subscription.packetsForwarded,
                bytesSent: subscription.bytesSent,
                packetsRetransmitted: subscription.packetsRetransmitted,
                nacksReceived: subscription.nacksReceived,
                keyframeRequestsReceived: subscription.keyframeRequestsReceived,
                fractionLost: subscription.fractionLost,
                roundTripSeconds: subscription.roundTripSeconds,
                encoding: subscription.encoding,
                spatialLayer: subscription.spatialLayer,
                temporalLayer: subscription.temporalLayer,
                why: subscription.why.rawValue
            )
        }
        bandwidth = snapshot.bandwidth.map { bandwidth in
            StatisticsDocument.Bandwidth(
                estimateBitsPerSecond: bandwidth.estimate.rounded(),
                allocatedBitsPerSecond: bandwidth.allocated.rounded(),
                wantedBitsPerSecond: bandwidth.wanted.rounded(),
                queueSeconds: bandwidth.queueSeconds,
                fractionLost: bandwidth.fractionLost
            )
        }
    }
}

extension WorkerCounters {
    /// Adds another worker's counters.
    mutating func merge(_ other: WorkerCounters) {
        packetsReceived += other.packetsReceived
        bytesReceived += other.bytesReceived
        packetsForwarded += other.packetsForwarded
        bytesSent += other.bytesSent
        packetsRetransmitted += other.packetsRetransmitted
        packetsRecovered += other.packetsRecovered
        packetsLost += other.packetsLost
        nacksReceived += other.nacksReceived
        nacksSent += other.nacksSent
        keyframeRequestsReceived += other.keyframeRequestsReceived
        keyframeRequestsSent += other.keyframeRequestsSent
        dtlsHandshakesCompleted += other.dtlsHandshakesCompleted
        dtlsHandshakesFailed += other.dtlsHandshakesFailed
        for index in drops.indices { drops[index] += other.drops[index] }
        loopSeconds.merge(other.loopSeconds)
        forwardLatencySeconds.merge(other.forwardLatencySeconds)
        egressBatchPackets.merge(other.egressBatchPackets)
    }
}
