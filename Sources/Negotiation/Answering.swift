import Commands
import Wire

extension Offer {
    /// Header extensions that we take from publishers, and pass on or act upon.
    private static let publisherExtensions: Set<HeaderExtension> = [
        .audioLevel, .transportSequenceNumber, .mid, .videoOrientation, .dependencyDescriptor, .playoutDelay,
        .absoluteCaptureTime, .colorSpace, .videoContentType, .videoTiming,
    ]
    /// Those by which a publisher's packets say which encoding they belong to.
    private static let encodingExtensions: Set<HeaderExtension> = [.rtpStreamID, .repairedRTPStreamID]
    /// Header extensions that we send to viewers.
    private static let viewerExtensions: Set<HeaderExtension> = publisherExtensions.subtracting([
        .transportSequenceNumber
    ])
    private static let publisherFeedback: FeedbackOptions = [
        .nack, .pictureLossIndication, .fullIntraRequest, .receiverEstimatedMaximumBitrate,
        .transportWideCongestionControl,
    ]
    private static let viewerFeedback: FeedbackOptions = [.nack, .pictureLossIndication, .fullIntraRequest]

    /// Answers a publisher: each m-line that it sends on gets the first codec of its list that we forward.
    ///
    /// Encodings of simulcast beyond the limit, and other restrictions, are declined by leaving them out (RFC 8853 §5.3.2).
    ///
    /// - Parameters:
    ///   - version: Counts the session's descriptions (RFC 8866 §5.2).
    ///   - allowsSilence: Whether an offer that sends nothing is answered too: in a session that goes on.
    public func answerPublisher(
        local: LocalEndpoint,
        version: UInt64 = 1,
        allowsSilence: Bool = false
    ) throws(NegotiationError) -> PublisherAnswer {
        try checkBundle()
        var answers: [MediaSection] = []
        var sources: [NegotiatedSource] = []
        for section in sections {
            guard section.isUsable else {
                answers.append(section.rejection)
                continue
            }
            guard let format = section.formats.first else {
                guard !section.sends else { throw section.noCommonCodec }
                answers.append(section.rejection)
                continue
            }
            let encodings = section.encodings(of: format, maximum: maximumEncodings)
            let isIdentified = encodings.contains { $0.rid != nil }
            let parameters = parameters(
                of: section,
                format: format,
                extensions: isIdentified
                    ? Self.publisherExtensions.union(Self.encodingExtensions) : Self.publisherExtensions,
                feedback: Self.publisherFeedback
            )
            if section.sends { sources.append(NegotiatedSource(parameters: parameters, encodings: encodings)) }
            // What isn't sent now may be later: browsers rely on what was answered then.
            var answer = section.answer(
                parameters,
                channels: format.channels,
                direction: section.sends ? "recvonly" : "inactive",
                local: local,
                remote: remote
            )
            if isIdentified { answer.attributes += section.simulcastAnswer(encodings) }
            answers.append(answer)
        }
        guard !sources.isEmpty || allowsSilence else {
            throw NegotiationError(
                .unservable,
                mediaLine: 1,
                "no m-line sends anything: a publisher's direction has to be sendonly or sendrecv"
            )
        }
        return PublisherAnswer(text: text(answers, local: local, version: version), remote: remote, sources: sources)
    }

    /// Answers a viewer: each m-line that it receives on gets the next track of its kind.
    ///
    /// - Parameters:
    ///   - tracks: The stream's tracks. Those without an m-line are left out.
    ///   - streamLabel: The `a=msid` stream identifier that ties the tracks together.
    ///   - cname: RTCP's name for the one who sends.
    ///   - makeSSRC: Gives random SSRCs.
    public func answerViewer(
        tracks: [ForwardableTrack],
        streamLabel: String,
        cname: String,
        local: LocalEndpoint,
        makeSSRC: () -> UInt32
    ) throws(NegotiationError) -> ViewerAnswer {
        try checkBundle()
        var waiting = tracks
        var answers: [MediaSection] = []
        var subscriptions: [SubscribedTrack] = []
        for section in sections {
            guard section.isUsable else {
                answers.append(section.rejection)
                continue
            }
            guard section.receives, let place = waiting.firstIndex(where: { $0.codec.kind == section.kind }) else {
                answers.append(section.inactive(local: local, remote: remote, isMixed: allowsMixedHeaderExtensions))
                continue
            }
            let track = waiting.remove(at: place)
            guard let format = section.formats.first(where: { $0.canCarry(track) }) else {
                throw NegotiationError(
                    .noCommonCodec,
                    mediaLine: section.line,
                    "the stream's \(track.codec.kind.rawValue) is \(track.codec.rawValue)"
                        + (track.formatParameters.isEmpty ? "" : " (\(track.formatParameters))")
                        + ", which the m-line doesn't offer"
                )
            }
            let parameters = parameters(
                of: section,
                format: format,
                extensions: Self.viewerExtensions,
                feedback: Self.viewerFeedback
            )
            let subscription = SubscribedTrack(
                track: track.track,
                higherEncodings: track.higherEncodings,
                home: track.home,
                parameters: parameters,
                ssrc: makeSSRC(),
                retransmissionSSRC: parameters.retransmissionPayloadType.map { _ in makeSSRC() },
                cname: cname
            )
            var answer = section.answer(
                parameters,
                channels: format.channels,
                direction: "sendonly",
                local: local,
                remote: remote
            )
            let label = "\(streamLabel) \(track.codec.kind.rawValue)\(subscriptions.count)"
            answer.attributes.append(SDPAttribute("msid", label))
            if let retransmission = subscription.retransmissionSSRC {
                answer.attributes.append(SDPAttribute("ssrc-group", "FID \(subscription.ssrc) \(retransmission)"))
            }
            for ssrc in [subscription.ssrc] + (subscription.retransmissionSSRC.map { [$0] } ?? []) {
                answer.attributes.append(SDPAttribute("ssrc", "\(ssrc) cname:\(cname)"))
                answer.attributes.append(SDPAttribute("ssrc", "\(ssrc) msid:\(label)"))
            }
            answers.append(answer)
            subscriptions.append(subscription)
        }
        guard !subscriptions.isEmpty else {
            throw NegotiationError(
                .unservable,
                mediaLine: 1,
                "no m-line receives what the stream has: a viewer's direction has to be recvonly or sendrecv"
            )
        }
        return ViewerAnswer(text: text(answers, local: local), remote: remote, subscriptions: subscriptions)
    }

    /// All media shares one port, so several m-lines have to be bundled (RFC 9143).
    private func checkBundle() throws(NegotiationError) {
        guard usesBundle || sections.count(where: \.isUsable) <= 1 else {
            throw NegotiationError(
                .unservable,
                mediaLine: 2,
                "a=group:BUNDLE is missing: all media shares one port here"
            )
        }
    }

    func parameters(
        of section: OfferedSection,
        format: OfferedSection.Format,
        extensions: Set<HeaderExtension>,
        feedback: FeedbackOptions
    ) -> MediaParameters {
        var seen: Set<HeaderExtension> = []
        let mappings = section.headerExtensions.filter { mapping in
            extensions.contains(mapping.meaning) && seen.insert(mapping.meaning).inserted
        }
        return MediaParameters(
            mid: section.mid,
            codec: format.codec,
            formatParameters: format.parameters,
            payloadType: format.payloadType,
            // RTX without NACK would never be used.
            retransmissionPayloadType: format.feedback.contains(.nack) ? format.retransmissionPayloadType : nil,
            headerExtensions: mappings,
            feedback: format.feedback.intersection(feedback),
            allowsMixedHeaderExtensions: allowsMixedHeaderExtensions,
            allowsReducedSizeRTCP: section.section.has("rtcp-rsize")
        )
    }

    private func text(_ answers: [MediaSection], local: LocalEndpoint, version: UInt64 = 1) -> String {
        var description = SessionDescription(origin: "- \(local.sessionID >> 1) \(version) IN IP4 127.0.0.1")
        if usesBundle {
            let mids = answers.filter { $0.port != 0 }.compactMap { $0.value("mid") }
            description.attributes.append(SDPAttribute("group", (["BUNDLE"] + mids).joined(separator: " ")))
        }
        if allowsMixedHeaderExtensions { description.attributes.append(SDPAttribute("extmap-allow-mixed")) }
        description.attributes.append(SDPAttribute("ice-lite"))
        description.attributes.append(SDPAttribute("ice-options", "trickle"))
        description.attributes.append(SDPAttribute("x-sluice-privacy", local.privacy.rawValue))
        description.mediaSections = answers
        return description.text
    }
}

extension OfferedSection.Format {
    /// Whether a decoder for this format plays the track.
    func canCarry(_ track: ForwardableTrack) -> Bool {
        guard codec == track.codec else { return false }
        let ours = FormatParameters(text: parameters)
        let theirs = FormatParameters(text: track.formatParameters)
        switch codec {
        case .h264:
            // RFC 6184 §8.2.2: the packetization mode has to be the same, and the profile one that the viewer decodes. The
            // level is the sender's business: browsers decode more than they say.
            return (ours["packetization-mode"] ?? "0") == (theirs["packetization-mode"] ?? "0")
                && H264Profile(ours["profile-level-id"]).decodes(H264Profile(theirs["profile-level-id"]))
        case .vp9: return (ours["profile-id"] ?? "0") == (theirs["profile-id"] ?? "0")
        case .av1: return (ours["profile"] ?? "0") == (theirs["profile"] ?? "0")
        case .h265: return (ours["profile-id"] ?? "1") == (theirs["profile-id"] ?? "1")
        case .vp8, .opus: return true
        }
    }
}

/// The profile in an H.264 `profile-level-id` (RFC 6184 §8.1), as far as it decides who can decode whom.
enum H264Profile: Hashable {
    /// Baseline and Constrained Baseline: nobody uses what they differ in.
    case baseline
    case main
    case high
    case other(String)

    /// - Parameter text: Six hexadecimal digits; nil means Baseline.
    init(_ text: String?) {
        guard let text, text.utf8.count == 6, let value = UInt32(text, radix: 16) else {
            self = .baseline
            return
        }
        switch value >> 16 {
        case 0x42: self = .baseline
        // Main with constraint_set0 is Constrained Baseline as well (H.264 §A.2.1).
        case 0x4D: self = value & 0x8000 != 0 ? .baseline : .main
        case 0x64: self = .high
        default: self = .other(String(text.prefix(4)).lowercased())
        }
    }

    /// Whether a decoder for this profile decodes that one: each of the three contains those before it.
    func decodes(_ profile: H264Profile) -> Bool {
        switch (self, profile) {
        case (.baseline, .baseline), (.main, .baseline), (.main, .main): true
        case (.high, .baseline), (.high, .main), (.high, .high): true
        default: self == profile
        }
    }
}

extension OfferedSection {
    var noCommonCodec: NegotiationError {
        let offered = section.values("rtpmap").compactMap { RTPMap($0)?.encodingName }.prefix(12)
        let ours = Codec.allCases.filter { $0.kind == kind }.map(\.rawValue)
        return NegotiationError(
            .noCommonCodec,
            mediaLine: line,
            "the m-line offers \(offered.joined(separator: ", ")); "
                + "this server forwards \(ours.joined(separator: ", "))"
        )
    }

    /// The answer to an m-line that we don't serve: port 0 (RFC 3264 §6).
    var rejection: MediaSection {
        var answer = MediaSection(kind: section.kind, port: 0, proto: section.proto, formats: section.formats)
        if !mid.isEmpty { answer.attributes.append(SDPAttribute("mid", mid)) }
        answer.attributes.append(SDPAttribute("inactive"))
        return answer
    }

    /// The answer to an m-line that nothing is sent on.
    func inactive(local: LocalEndpoint, remote: RemoteEndpoint, isMixed: Bool) -> MediaSection {
        guard let format = formats.first else { return rejection }
        let parameters = MediaParameters(
            mid: mid,
            codec: format.codec,
            formatParameters: format.parameters,
            payloadType: format.payloadType,
            allowsMixedHeaderExtensions: isMixed,
            allowsReducedSizeRTCP: section.has("rtcp-rsize")
        )
        return answer(parameters, channels: format.channels, direction: "inactive", local: local, remote: remote)
    }

    /// The answer to an m-line that we serve.
    func answer(
        _ parameters: MediaParameters,
        channels: Int,
        direction: String,
        local: LocalEndpoint,
        remote: RemoteEndpoint
    ) -> MediaSection {
        let payloadType = parameters.payloadType
        var answer = MediaSection(kind: section.kind, port: 9, proto: section.proto, formats: ["\(payloadType)"])
        func add(_ name: String, _ value: String? = nil) { answer.attributes.append(SDPAttribute(name, value)) }

        if !mid.isEmpty { add("mid", mid) }
        add(direction)
        add("ice-ufrag", local.credentials.usernameFragment)
        add("ice-pwd", local.credentials.password)
        add("fingerprint", local.fingerprint.text)
        add("setup", remote.dtlsRole == .active ? "active" : "passive")
        add("rtcp-mux")
        if parameters.allowsReducedSizeRTCP { add("rtcp-rsize") }
        for mapping in parameters.headerExtensions { add("extmap", "\(mapping.id) \(mapping.meaning.uri)") }

        let channelSuffix = channels > 1 ? "/\(channels)" : ""
        let name = parameters.codec.rawValue
        add("rtpmap", "\(payloadType) \(name)/\(parameters.codec.clockRate)\(channelSuffix)")
        if !parameters.formatParameters.isEmpty { add("fmtp", "\(payloadType) \(parameters.formatParameters)") }
        for text in parameters.feedback.lines { add("rtcp-fb", "\(payloadType) \(text)") }
        if let retransmission = parameters.retransmissionPayloadType {
            answer.formats.append("\(retransmission)")
            add("rtpmap", "\(retransmission) rtx/\(parameters.codec.clockRate)")
            add("fmtp", "\(retransmission) apt=\(payloadType)")
        }
        for candidate in local.candidates { add("candidate", candidate.text) }
        add("end-of-candidates")
        return answer
    }
}

extension FeedbackOptions {
    /// As `a=rtcp-fb` has them.
    var lines: [String] {
        var lines: [String] = []
        if contains(.nack) { lines.append("nack") }
        if contains(.pictureLossIndication) { lines.append("nack pli") }
        if contains(.fullIntraRequest) { lines.append("ccm fir") }
        if contains(.receiverEstimatedMaximumBitrate) { lines.append("goog-remb") }
        if contains(.transportWideCongestionControl) { lines.append("transport-cc") }
        return lines
    }
}

extension LocalEndpoint {
    /// The answer to an ICE restart: a trickle fragment with our new credentials and the same candidates (RFC 9725 §4.3.3).
    ///
    /// - Parameter mid: The m-line that carries the bundle's transport, as the request named it.
    public func restartAnswer(mid: String?) -> String {
        "a=ice-lite\r\n"
            + TrickleFragment(sections: [
                TrickleFragment.Section(
                    mid: mid,
                    usernameFragment: credentials.usernameFragment,
                    password: credentials.password,
                    candidates: candidates.map(\.text),
                    endOfCandidates: true
                )
            ]).text
    }
}
