public import Commands
import Wire

/// The m-lines of a session that we offer, on which a client receives the tracks that it subscribed to.
///
/// An m-line stays for as long as its session (RFC 9429 §5.2.2). One whose track is gone is inactive until another track of its kind
/// takes it over, so that an offer is never longer than the most tracks that there were at a time.
public struct OutgoingMedia: Sendable {
    /// What packets of a configuration are marked with.
    private struct PayloadTypes {
        let media: UInt8
        /// Video's, of what is sent again.
        var retransmission: UInt8?
        /// Audio's, of redundant audio data.
        var redundancy: UInt8?
    }

    /// A track on its m-line.
    private struct Sending {
        let track: ForwardableTrack
        /// Who publishes it.
        let publisher: String
        let ssrc: UInt32
        let retransmissionSSRC: UInt32?
        /// `a=msid`'s stream and track.
        let label: String
        let cname: String
        let payloadType: UInt8
        /// Whether the offer that waits for its answer, or one before, has it.
        var isOffered = false
        /// Whether the client takes it; nil before it has answered.
        var isAccepted: Bool?
    }

    private struct Line {
        let mid: String
        let kind: MediaKind
        /// What the m-line looks like while it has no track: as with its last one.
        var format: CodecConfiguration
        var sending: Sending?
    }

    /// Header extensions that we send; an extension's identifier is its place, from 1.
    private static let extensions: [(meaning: HeaderExtension, kinds: Set<MediaKind>)] = [
        (.mid, [.audio, .video]), (.audioLevel, [.audio]), (.absoluteCaptureTime, [.audio, .video]),
        (.videoOrientation, [.video]), (.dependencyDescriptor, [.video]), (.playoutDelay, [.video]),
        (.colorSpace, [.video]), (.videoContentType, [.video]), (.videoTiming, [.video]),
        (.transportSequenceNumber, [.audio, .video]),
    ]
    private static let feedback: [MediaKind: FeedbackOptions] = [
        .audio: [.transportWideCongestionControl],
        .video: [.nack, .pictureLossIndication, .fullIntraRequest, .transportWideCongestionControl],
    ]
    /// Dynamic payload types (RFC 3551 §6), then those that RTCP's range leaves (RFC 5761 §4).
    private static let payloadTypes: [UInt8] = Array(96...127) + Array(35...63)

    /// Of the room that it is in.
    public let privacy: PrivacyMode
    private let maximumLines: Int
    private let maximumLinesPerPublisher: Int
    private var ssrcs: SSRCSequence
    private var lines: [Line] = []
    /// One for each configuration, for as long as the session (RFC 3264 §8.3.2). There are more payload types than configurations.
    private var formats: [CodecConfiguration: PayloadTypes] = [:]
    private var freePayloadTypes = Self.payloadTypes[...]
    private var hasChanged = false
    /// The last offer's number.
    public private(set) var version: UInt64 = 0
    /// M-lines of the last offer.
    private var offeredLineCount = 0
    /// Whether an offer waits for its answer.
    public private(set) var awaitsAnswer = false

    /// - Parameters:
    ///   - privacy: The room's.
    ///   - maximumLines: Most m-lines.
    ///   - maximumLinesPerPublisher: Most of them for the tracks of one publisher, so that the others get theirs.
    ///   - ssrcs: What the session sends with.
    public init(privacy: PrivacyMode, maximumLines: Int, maximumLinesPerPublisher: Int, ssrcs: SSRCSequence) {
        self.privacy = privacy
        self.maximumLines = maximumLines
        self.maximumLinesPerPublisher = maximumLinesPerPublisher
        self.ssrcs = ssrcs
    }

    /// M-lines, those without a track included.
    public var lineCount: Int { lines.count }

    /// Gives a track an m-line: one that is free, or a new one.
    ///
    /// - Parameters:
    ///   - publisher: Whose track it is.
    ///   - place: Of the track in its stream.
    ///   - label: `a=msid`'s stream, which ties a stream's tracks together.
    ///   - cname: RTCP's name for the one who sends.
    /// - Returns: The m-line's MID.
    public mutating func add(
        _ track: ForwardableTrack,
        of publisher: String,
        place: Int,
        label: String,
        cname: String
    ) throws(NegotiationError) -> String {
        let kind = track.codec.kind
        let format = track.configuration.offered
        let free = lines.firstIndex { $0.kind == kind && $0.sending == nil }
        guard free != nil || lines.count < maximumLines else {
            throw NegotiationError(.unservable, "the session has \(maximumLines) m-lines, and more are not allowed")
        }
        guard lines.count(where: { $0.sending?.publisher == publisher }) < maximumLinesPerPublisher else {
            throw NegotiationError(
                .unservable,
                "the session has \(maximumLinesPerPublisher) m-lines of this publisher, and more are not allowed"
            )
        }
        guard let types = types(of: format) else {
            throw NegotiationError(.unservable, "the session has used up all payload types")
        }
        let sending = Sending(
            track: track,
            publisher: publisher,
            ssrc: ssrcs.draw(),
            retransmissionSSRC: types.retransmission == nil ? nil : ssrcs.draw(),
            label: "\(label) \(kind.rawValue)\(place)",
            cname: cname,
            payloadType: types.media
        )
        hasChanged = true
        if let free {
            lines[free].sending = sending
            lines[free].format = format
            return lines[free].mid
        }
        let mid = "\(lines.count)"
        lines.append(Line(mid: mid, kind: kind, format: format, sending: sending))
        return mid
    }

    /// Frees a track's m-line.
    ///
    /// - Returns: The SSRC to stop sending with; nil when nothing is sent.
    public mutating func remove(_ track: TrackID) -> UInt32? {
        guard let place = lines.firstIndex(where: { $0.sending?.track.track == track }),
            let sending = lines[place].sending
        else { return nil }
        lines[place].sending = nil
        hasChanged = true
        return sending.isAccepted == true ? sending.ssrc : nil
    }

    /// The SSRC that a track is sent with; nil before the client has accepted it.
    public func ssrc(of track: TrackID) -> UInt32? {
        for line in lines {
            if let sending = line.sending, sending.track.track == track {
                return sending.isAccepted == true ? sending.ssrc : nil
            }
        }
        return nil
    }

    /// The tracks that the client has accepted, in one pass.
    public var acceptedTracks: Set<TrackID> {
        Set(lines.lazy.compactMap { $0.sending?.isAccepted == true ? $0.sending?.track.track : nil })
    }

    /// The MID of a track's m-line; nil where the client has declined it.
    public func mid(of track: TrackID) -> String? {
        lines.first { $0.sending?.track.track == track && $0.sending?.isAccepted != false }?.mid
    }

    /// The next offer; nil while another one waits for its answer, or nothing has changed.
    ///
    /// - Parameter restarts: Whether an offer is wanted although nothing has changed: for an ICE restart.
    public mutating func nextOffer(local: LocalEndpoint, restarts: Bool = false) -> String? {
        guard !awaitsAnswer, !lines.isEmpty, hasChanged || restarts else { return nil }
        hasChanged = false
        awaitsAnswer = true
        version += 1
        offeredLineCount = lines.count
        for place in lines.indices { lines[place].sending?.isOffered = true }
        var description = SessionDescription(origin: "- \(local.sessionID >> 1) \(version) IN IP4 127.0.0.1")
        let mids = lines.map(\.mid).joined(separator: " ")
        description.attributes = [
            SDPAttribute("group", "BUNDLE \(mids)"), SDPAttribute("extmap-allow-mixed"), SDPAttribute("ice-lite"),
            SDPAttribute("ice-options", "trickle"), SDPAttribute("x-sluice-privacy", local.privacy.rawValue),
        ]
        description.mediaSections = lines.map { section(for: $0, local: local) }
        return description.text
    }

    /// The client gave up on the offer, or is not there any more: the same is offered again.
    public mutating func abandonOffer() {
        awaitsAnswer = false
        hasChanged = true
    }

    /// What an answer brought.
    public struct Accepted: Sendable {
        public var remote: RemoteEndpoint
        /// Tracks to send from now on.
        public var beginning: [SubscribedTrack]
        /// Tracks that the client can't receive or doesn't want.
        public var declined: [TrackID]
    }

    /// Takes the answer to the last offer in. An answer is written as an offer is.
    public mutating func accept(answer: Offer) throws(NegotiationError) -> Accepted {
        guard awaitsAnswer else { throw NegotiationError(.unservable, "no offer waits for an answer") }
        guard answer.sections.count == offeredLineCount else {
            throw NegotiationError(
                .unservable,
                "the answer has \(answer.sections.count) m-lines, and the offer has \(offeredLineCount)"
            )
        }
        awaitsAnswer = false
        var accepted = Accepted(remote: answer.remote, beginning: [], declined: [])
        for (place, section) in answer.sections.enumerated() {
            guard var sending = lines[place].sending, sending.isOffered, sending.isAccepted == nil else { continue }
            guard section.isUsable, section.receives,
                let format = section.formats.first(where: {
                    $0.payloadType == sending.payloadType && $0.codec == sending.track.codec
                })
            else {
                lines[place].sending?.isAccepted = false
                accepted.declined.append(sending.track.track)
                continue
            }
            var parameters = answer.parameters(
                of: section,
                format: format,
                extensions: Set(Self.extensions.map(\.meaning)),
                feedback: Self.feedback[lines[place].kind] ?? [],
                allowsRedundancy: privacy == .transport
            )
            parameters.mid = lines[place].mid
            let retransmits = parameters.retransmissionPayloadType != nil
            accepted.beginning.append(
                SubscribedTrack(
                    track: sending.track.track,
                    higherEncodings: sending.track.higherEncodings,
                    home: sending.track.home,
                    parameters: parameters,
                    ssrc: sending.ssrc,
                    retransmissionSSRC: retransmits ? sending.retransmissionSSRC : nil,
                    cname: sending.cname
                )
            )
            sending.isAccepted = true
            lines[place].sending = sending
        }
        return accepted
    }

    // MARK: Parts

    private mutating func types(of format: CodecConfiguration) -> PayloadTypes? {
        if let known = formats[format] { return known }
        guard freePayloadTypes.count >= 2, let media = freePayloadTypes.popFirst() else { return nil }
        var types = PayloadTypes(media: media)
        if format.codec.kind == .video {
            types.retransmission = freePayloadTypes.popFirst()
        } else if privacy == .transport {
            // A frame that is encrypted end to end is opened with its packet's payload as a whole.
            types.redundancy = freePayloadTypes.popFirst()
        }
        formats[format] = types
        return types
    }

    private func section(for line: Line, local: LocalEndpoint) -> MediaSection {
        let types = formats[line.format] ?? PayloadTypes(media: 96)
        let codec = line.format.codec
        var section = MediaSection(
            kind: line.kind.rawValue,
            port: 9,
            proto: "UDP/TLS/RTP/SAVPF",
            formats: ["\(types.media)"]
        )
        func add(_ name: String, _ value: String? = nil) { section.attributes.append(SDPAttribute(name, value)) }
        add("mid", line.mid)
        add(line.sending != nil && line.sending?.isAccepted != false ? "sendonly" : "inactive")
        add("ice-ufrag", local.credentials.usernameFragment)
        add("ice-pwd", local.credentials.password)
        add("fingerprint", local.fingerprint.text)
        add("setup", "actpass")
        add("rtcp-mux")
        add("rtcp-rsize")
        for (place, entry) in Self.extensions.enumerated() where entry.kinds.contains(line.kind) {
            add("extmap", "\(place + 1) \(entry.meaning.uri)")
        }
        add("rtpmap", "\(types.media) \(codec.rawValue)/\(codec.clockRate)\(codec == .opus ? "/2" : "")")
        let parameters = line.format.offeredParameters
        if !parameters.isEmpty { add("fmtp", "\(types.media) \(parameters)") }
        for text in (Self.feedback[line.kind] ?? []).lines { add("rtcp-fb", "\(types.media) \(text)") }
        if let retransmission = types.retransmission {
            section.formats.append("\(retransmission)")
            add("rtpmap", "\(retransmission) rtx/\(codec.clockRate)")
            add("fmtp", "\(retransmission) apt=\(types.media)")
        }
        if let redundancy = types.redundancy {
            section.formats.append("\(redundancy)")
            add("rtpmap", "\(redundancy) red/\(codec.clockRate)/2")
            add("fmtp", "\(redundancy) \(types.media)/\(types.media)")
        }
        if let sending = line.sending, sending.isAccepted != false {
            add("msid", sending.label)
            if let retransmission = sending.retransmissionSSRC {
                add("ssrc-group", "FID \(sending.ssrc) \(retransmission)")
            }
            for ssrc in [sending.ssrc] + (sending.retransmissionSSRC.map { [$0] } ?? []) {
                add("ssrc", "\(ssrc) cname:\(sending.cname)")
            }
        }
        for candidate in local.candidates { add("candidate", candidate.text) }
        add("end-of-candidates")
        return section
    }
}
