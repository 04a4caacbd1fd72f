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
    struct Source: BitwiseCopyable {
        let ssrc: UInt32
        /// Index into `lines`.
        var line: Int
        /// Index into `tracks`; nil while nothing is sent on its line.
        var track: Int?
        /// Whether it carries retransmissions (RFC 4588).
        var isRetransmission: Bool
        /// The source whose packets it repeats, when the SDP said so.
        var original: UInt32?
        /// Whether the last SDP named it.
        var isAnnounced = false
        /// When a packet of it came last.
        var lastHeard: Instant
    }

    /// An m-line, or one encoding of it. What a source is on is known for as long as the session lives, whatever is negotiated
    /// meanwhile: packets say no more what they are of once we have reported on them (RFC 9143 §14, RFC 8852 §3).
    private struct Line: Equatable {
        let mid: String
        let rid: String?
        /// Its place among the encodings of its m-line that have no RID.
        let place: Int
    }

    private static let noMeaning = UInt8.max

    var tracks: [IncomingTrack]
    private(set) var sources: [Source] = []
    private var lines: [Line] = []
    /// Of each track its line, as an index into `lines`.
    private var linesOfTracks: [Int] = []
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
        forgetLines()
        linesOfTracks = []
        for index in self.tracks.indices { linesOfTracks.append(line(ofTrackAt: index)) }
        for index in sources.indices {
            let before = sources[index].track.map { before[$0].track }
            sources[index].track =
                linesOfTracks.firstIndex(of: sources[index].line)
                ?? self.tracks.firstIndex { $0.track === before && $0.parameters.mid.isEmpty }
            sources[index].isAnnounced = false
        }
        meanings = [UInt8](repeating: Self.noMeaning, count: 256)
        for (index, entry) in tracks.enumerated() {
            for mapping in entry.published.parameters.headerExtensions {
                meanings[Int(mapping.id)] = mapping.meaning.rawValue
            }
            for announced in entry.published.announcedSources {
                announce(announced.ssrc, track: index)
                if let ssrc = announced.retransmissionSSRC { announce(ssrc, track: index, original: announced.ssrc) }
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

    /// The same, of which a packet came; nil while nothing is sent on its line.
    @inline(__always)
    mutating func hear(_ ssrc: UInt32, now: Instant) -> Source? {
        for index in sources.indices where sources[index].ssrc == ssrc {
            sources[index].lastHeard = now
            return sources[index].track == nil ? nil : sources[index]
        }
        return nil
    }

    /// Finds out what an unknown source carries: by its MID, else by a payload type that only one m-line has
    /// (RFC 8843 §9.2); and which encoding of a simulcast m-line, by its RID (RFC 8852 §3).
    ///
    /// - Parameter rid: That of the source, or of the one whose packets it repeats.
    /// - Returns: Nil when it belongs nowhere.
    mutating func identify(_ header: RTPHeader, mid: String?, rid: String?, now: Instant) -> Source? {
        // What is known to be of a line that is inactive now is not another's for its payload type.
        if mid == nil, self.source(header.ssrc) != nil { return nil }
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
        return learn(
            Source(
                ssrc: header.ssrc,
                line: linesOfTracks[match.track],
                track: match.track,
                isRetransmission: match.isRetransmission,
                lastHeard: now
            )
        )
    }

    private mutating func announce(_ ssrc: UInt32, track: Int, original: UInt32? = nil) {
        _ = learn(
            Source(
                ssrc: ssrc,
                line: linesOfTracks[track],
                track: track,
                isRetransmission: original != nil,
                original: original,
                isAnnounced: true,
                lastHeard: source(ssrc)?.lastHeard ?? Instant(nanoseconds: 0)
            )
        )
    }

    /// Where there are as many sources as may be, the one that was silent for longest gives way (RFC 3550 §6.3.5), but none that the
    /// SDP names.
    private mutating func learn(_ source: Source) -> Source? {
        if let place = sources.firstIndex(where: { $0.ssrc == source.ssrc }) {
            sources[place] = source
        } else if sources.count < maximumSources {
            sources.append(source)
        } else {
            let others = sources.indices.filter { !sources[$0].isAnnounced }
            guard let place = others.min(by: { sources[$0].lastHeard < sources[$1].lastHeard }) else { return nil }
            sources[place] = source
        }
        return source
    }

    /// Lines that no source is on, when there are many.
    private mutating func forgetLines() {
        guard lines.count > maximumSources * 2 else { return }
        let before = lines
        lines = []
        for index in sources.indices {
            let line = before[sources[index].line]
            if let known = lines.firstIndex(of: line) {
                sources[index].line = known
            } else {
                lines.append(line)
                sources[index].line = lines.count - 1
            }
        }
    }

    private mutating func line(ofTrackAt index: Int) -> Int {
        let track = tracks[index]
        let mid = track.parameters.mid
        let line = Line(
            mid: mid,
            rid: track.rid,
            place: track.rid == nil ? tracks[..<index].count { $0.parameters.mid == mid && $0.rid == nil } : 0
        )
        if let known = lines.firstIndex(of: line) { return known }
        lines.append(line)
        return lines.count - 1
    }
}
