import Commands
import Transport
import Wire

/// What a publisher negotiated, and which RTP source belongs to which of its tracks.
struct IncomingMedia {
    /// One m-line that the peer sends, or one encoding of it.
    struct IncomingTrack {
        let track: Track
        let parameters: MediaParameters
        /// Which encoding of a simulcast m-line it is, where packets say so.
        let rid: String?
        var bitrateCeiling: ReceiveBitrateCeiling
        /// The latest sender report's NTP middle bits and arrival, for LSR and DLSR.
        var lastSenderReport: (middleNTP: UInt32, receivedAt: Instant)?
    }

    /// What a source carries.
    struct Source {
        let ssrc: UInt32
        /// Index into `tracks`.
        let track: Int
        /// Whether it carries retransmissions (RFC 4588).
        let isRetransmission: Bool
        /// The source whose packets it repeats, when the SDP said so.
        var original: UInt32?
    }

    private static let noMeaning = UInt8.max

    var tracks: [IncomingTrack]
    private(set) var sources: [Source] = []
    /// `HeaderExtension.rawValue` by the identifier that the peer uses. Within a bundle an identifier means the same on each
    /// m-line (RFC 8843 §9.1).
    private var meanings = [UInt8](repeating: noMeaning, count: 256)
    private let maximumSources: Int

    init(tracks: [(track: Track, published: PublishedTrack)], limits: Limits) {
        maximumSources = limits.sourcesPerPeer
        self.tracks = []
        update(tracks: tracks, limits: limits)
    }

    /// Takes over what was negotiated anew. What is known of tracks that go on, and of their sources, is kept.
    mutating func update(tracks: [(track: Track, published: PublishedTrack)], limits: Limits) {
        let before = self.tracks
        self.tracks = tracks.map { entry in
            let known = before.first { $0.track === entry.track }
            return IncomingTrack(
                track: entry.track,
                parameters: entry.published.parameters,
                rid: entry.published.rid,
                bitrateCeiling: known?.bitrateCeiling
                    ?? ReceiveBitrateCeiling(maximum: limits.receiveBitsPerSecond),
                lastSenderReport: known?.lastSenderReport
            )
        }
        sources = sources.compactMap { source in
            let old = before[source.track]
            // Where another track takes its m-line over the source goes on: its packets say no more which encoding they are of once we
            // have reported on them.
            let place =
                self.tracks.firstIndex { $0.track === old.track }
                ?? self.tracks.firstIndex {
                    old.rid != nil && $0.parameters.mid == old.parameters.mid && $0.rid == old.rid
                }
            return place.map { place in
                Source(
                    ssrc: source.ssrc,
                    track: place,
                    isRetransmission: source.isRetransmission,
                    original: source.original
                )
            }
        }
        meanings = [UInt8](repeating: Self.noMeaning, count: 256)
        for (index, entry) in tracks.enumerated() {
            for mapping in entry.published.parameters.headerExtensions {
                meanings[Int(mapping.id)] = mapping.meaning.rawValue
            }
            for announced in entry.published.announcedSources {
                learn(announced.ssrc, track: index, isRetransmission: false)
                if let ssrc = announced.retransmissionSSRC {
                    learn(ssrc, track: index, isRetransmission: true, original: announced.ssrc)
                }
            }
        }
    }

    /// Whether any m-line negotiated transport-wide congestion control.
    var usesTransportFeedback: Bool {
        tracks.contains { $0.parameters.feedback.contains(.transportWideCongestionControl) }
    }

    /// What the peer's identifier of a header extension means.
    @inline(__always)
    func meaning(of identifier: UInt8) -> HeaderExtension? {
        HeaderExtension(rawValue: meanings[Int(identifier)])
    }

    /// The source with this SSRC, when it is known.
    @inline(__always)
    func source(_ ssrc: UInt32) -> Source? {
        for source in sources where source.ssrc == ssrc { return source }
        return nil
    }

    /// Finds out what an unknown source carries: by its MID, else by a payload type that only one m-line has
    /// (RFC 8843 §9.2); and which encoding of a simulcast m-line, by its RID (RFC 8852 §3).
    ///
    /// - Parameter rid: That of the source, or of the one whose packets it repeats.
    /// - Returns: Nil when it belongs nowhere, or when the peer has too many sources.
    mutating func identify(_ header: RTPHeader, mid: String?, rid: String?) -> Source? {
        var match: (track: Int, isRetransmission: Bool)?
        for (index, track) in tracks.enumerated() {
            if let mid, track.parameters.mid != mid { continue }
            if let wanted = track.rid, wanted != rid { continue }
            if header.payloadType == track.parameters.payloadType {
                guard match == nil else { return nil }
                match = (index, false)
            } else if header.payloadType == track.parameters.retransmissionPayloadType {
                guard match == nil else { return nil }
                match = (index, true)
            }
        }
        guard let match else { return nil }
        return learn(header.ssrc, track: match.track, isRetransmission: match.isRetransmission)
    }

    @discardableResult
    private mutating func learn(
        _ ssrc: UInt32,
        track: Int,
        isRetransmission: Bool,
        original: UInt32? = nil
    ) -> Source? {
        if let known = self.source(ssrc) { return known }
        guard sources.count < maximumSources else { return nil }
        let source = Source(ssrc: ssrc, track: track, isRetransmission: isRetransmission, original: original)
        sources.append(source)
        return source
    }
}
