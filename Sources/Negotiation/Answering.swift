import Commands
import Wire

extension Offer {
    /// Header extensions that we take from publishers, and pass on or act upon.
    private static let publisherExtensions: Set<HeaderExtension> = [
        .audioLevel, .transportSequenceNumber, .mid, .videoOrientation, .dependencyDescriptor, .playoutDelay,
        .absoluteCaptureTime, .colorSpace, .videoContentType, .videoTiming,
        // Also where there is one encoding: a client that was answered without them on one m-line leaves them out of those that it makes
        // later, and simulcast on these fails then.
        .rtpStreamID, .repairedRTPStreamID,
    ]
    /// Header extensions that we send to viewers.
    private static let viewerExtensions: Set<HeaderExtension> = publisherExtensions.subtracting([
        .transportSequenceNumber, .rtpStreamID, .repairedRTPStreamID,
    ])
    private static let publisherFeedback: FeedbackOptions = [
        .nack, .pictureLossIndication, .fullIntraRequest, .receiverEstimatedMaximumBitrate,
        .transportWideCongestionControl,
    ]
    private static let viewerFeedback: FeedbackOptions = [.nack, .pictureLossIndication, .fullIntraRequest]
    /// What a viewer's feedback tells of its network, where it can be sent more or less: reading it is not free.
    private static let bandwidthExtensions: Set<HeaderExtension> = [.transportSequenceNumber]
    private static let bandwidthFeedback: FeedbackOptions = [.transportWideCongestionControl]

    /// Answers a publisher: each m-line that it sends on gets the first codec of its list that we forward, in the profile that most viewers
    /// can decode.
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
            guard section.isUsable, let format = section.formatToReceive else {
                if section.isUsable, section.sends { throw section.noCommonCodec }
                answers.append(declined(section, local: local))
                continue
            }
            let encodings = section.encodings(of: format, maximum: maximumEncodings)
            let parameters = parameters(
                of: section,
                format: format,
                extensions: Self.publisherExtensions,
                feedback: Self.publisherFeedback
            )
            if section.sends {
                sources.append(NegotiatedSource(line: section.line, parameters: parameters, encodings: encodings))
            }
            // What isn't sent now may be later: browsers rely on what was answered then.
            var answer = section.answer(
                parameters,
                formatParameters: format.parametersToReceive,
                channels: format.channels,
                direction: section.sends ? "recvonly" : "inactive",
                local: local,
                remote: remote
            )
            if encodings.contains(where: { $0.rid != nil }) { answer.attributes += section.simulcastAnswer(encodings) }
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

    /// Answers a viewer: each m-line that it receives on gets the next track that it can play.
    ///
    /// - Parameters:
    ///   - tracks: The stream's tracks. Those without an m-line are left out.
    ///   - streamLabel: The `a=msid` stream identifier that ties the tracks together.
    ///   - cname: RTCP's name for the one who sends.
    ///   - ssrcs: What the session sends with.
    public func answerViewer(
        tracks: [ForwardableTrack],
        streamLabel: String,
        cname: String,
        local: LocalEndpoint,
        ssrcs: SSRCSequence
    ) throws(NegotiationError) -> ViewerAnswer {
        try checkBundle()
        var ssrcs = ssrcs
        let isScalable = tracks.contains(where: \.isScalable)
        var waiting = tracks
        /// M-lines for which there is nothing that they could play.
        var unused: [OfferedSection] = []
        var answers: [MediaSection] = []
        var subscriptions: [SubscribedTrack] = []
        for section in sections {
            guard section.isUsable else {
                answers.append(declined(section, local: local))
                continue
            }
            guard section.receives, let place = waiting.firstIndex(where: { section.formatToSend($0) != nil }),
                let format = section.formatToSend(waiting[place])
            else {
                if section.receives { unused.append(section) }
                answers.append(inactive(section, local: local))
                continue
            }
            let track = waiting.remove(at: place)
            let parameters = parameters(
                of: section,
                format: format,
                extensions: Self.viewerExtensions.union(isScalable ? Self.bandwidthExtensions : []),
                feedback: Self.viewerFeedback.union(isScalable ? Self.bandwidthFeedback : []),
                // A frame that is encrypted end to end is opened with its packet's payload as a whole.
                allowsRedundancy: local.privacy == .transport
            )
            let subscription = SubscribedTrack(
                track: track.track,
                higherEncodings: track.higherEncodings,
                home: track.home,
                parameters: parameters,
                ssrc: ssrcs.draw(),
                retransmissionSSRC: parameters.retransmissionPayloadType == nil ? nil : ssrcs.draw(),
                cname: cname
            )
            var answer = section.answer(
                parameters,
                formatParameters: format.parametersToSend(track),
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
        for section in unused {
            guard let track = waiting.first(where: { $0.codec.kind == section.kind }) else { continue }
            throw NegotiationError(
                .noCommonCodec,
                mediaLine: section.line,
                "the stream's \(track.codec.kind.rawValue) is \(track.codec.rawValue)"
                    + (track.formatParameters.isEmpty ? "" : " (\(track.formatParameters))")
                    + ", which the m-line doesn't offer"
            )
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
        guard bundle != nil || sections.count(where: \.isUsable) <= 1 else {
            throw NegotiationError(
                .unservable,
                mediaLine: 2,
                "a=group:BUNDLE is missing: all media shares one port here"
            )
        }
    }

    /// The answer to an m-line that is not served. One that stands for the transport stays.
    private func declined(_ section: OfferedSection, local: LocalEndpoint) -> MediaSection {
        let isTagged = !section.mid.isEmpty && section.mid == bundle?.taggedMID && section.canCarryTransport
        return isTagged ? section.transport(local: local, remote: remote) : section.rejection
    }

    /// The answer to an m-line that nothing is sent on.
    private func inactive(_ section: OfferedSection, local: LocalEndpoint) -> MediaSection {
        guard let format = section.formats.first else { return declined(section, local: local) }
        let parameters = MediaParameters(
            mid: section.mid,
            codec: format.codec,
            payloadType: format.payloadType,
            allowsReducedSizeRTCP: section.attributes.isReducedSize
        )
        return section.answer(
            parameters,
            formatParameters: format.parameters,
            channels: format.channels,
            direction: "inactive",
            local: local,
            remote: remote
        )
    }

    func parameters(
        of section: OfferedSection,
        format: OfferedSection.Format,
        extensions: Set<HeaderExtension>,
        feedback: FeedbackOptions,
        allowsRedundancy: Bool = false
    ) -> MediaParameters {
        let feedback = format.feedback.intersection(feedback)
        var extensions = extensions
        // One is of no use without the other.
        if !feedback.contains(.transportWideCongestionControl) { extensions.remove(.transportSequenceNumber) }
        return MediaParameters(
            mid: section.mid,
            codec: format.codec,
            formatParameters: format.parameters,
            payloadType: format.payloadType,
            // RTX without NACK would never be used.
            retransmissionPayloadType: format.feedback.contains(.nack) ? format.retransmissionPayloadType : nil,
            redundancyPayloadType: allowsRedundancy ? format.redundancyPayloadType : nil,
            headerExtensions: section.headerExtensions.filter { extensions.contains($0.meaning) },
            feedback: feedback,
            allowsMixedHeaderExtensions: allowsMixedHeaderExtensions,
            allowsReducedSizeRTCP: section.attributes.isReducedSize
        )
    }

    private func text(_ answers: [MediaSection], local: LocalEndpoint, version: UInt64 = 1) -> String {
        var description = SessionDescription(origin: "- \(local.sessionID >> 1) \(version) IN IP4 127.0.0.1")
        if let bundle { description.attributes.append(bundle.answer(answers)) }
        if allowsMixedHeaderExtensions { description.attributes.append(SDPAttribute("extmap-allow-mixed")) }
        description.attributes.append(SDPAttribute("ice-lite"))
        description.attributes.append(SDPAttribute("ice-options", "trickle"))
        description.attributes.append(SDPAttribute("x-sluice-privacy", local.privacy.rawValue))
        description.mediaSections = answers
        return description.text
    }
}

extension OfferedSection.Format {
    /// Its parameters as a publisher is answered: who would send stereo is asked to (`stereo`, RFC 7587 §6.1).
    var parametersToReceive: String {
        guard configuration == .opus(isStereo: true) else { return parameters }
        return FormatParameters(text: parameters).setting("stereo", to: "1").text
    }

    /// Its parameters as a viewer is answered: that what we send is stereo (`sprop-stereo`), and `stereo` for those who look at that.
    func parametersToSend(_ track: ForwardableTrack) -> String {
        guard track.configuration == .opus(isStereo: true) else { return parameters }
        return FormatParameters(text: parameters).setting("stereo", to: "1").setting("sprop-stereo", to: "1").text
    }
}

extension OfferedSection {
    /// The answer to an m-line that we don't serve: port 0 (RFC 3264 §6).
    var rejection: MediaSection {
        var answer = MediaSection(kind: section.kind, port: 0, proto: section.proto, formats: section.formats)
        if !mid.isEmpty { answer.attributes.append(SDPAttribute("mid", mid)) }
        answer.attributes.append(SDPAttribute("inactive"))
        return answer
    }

    /// The answer to an m-line of which nothing is served, but the transport: with its own format (RFC 9143 §7.3.1).
    func transport(local: LocalEndpoint, remote: RemoteEndpoint) -> MediaSection {
        var answer = MediaSection(
            kind: section.kind,
            port: 9,
            proto: section.proto,
            formats: Array(section.formats.prefix(1))
        )
        answer.attributes = transportAttributes("inactive", local: local, remote: remote)
        if kind == nil {
            answer.attributes += attributes.sctpLines
        } else {
            answer.attributes.append(SDPAttribute("rtcp-mux"))
            if let type = section.formats.first.flatMap({ UInt8($0) }), let map = attributes.maps[type] {
                let suffix = map.channels > 1 ? "/\(map.channels)" : ""
                answer.attributes.append(
                    SDPAttribute("rtpmap", "\(type) \(map.encodingName)/\(map.clockRate)\(suffix)")
                )
            }
        }
        return answer
    }

    private func transportAttributes(
        _ direction: String,
        local: LocalEndpoint,
        remote: RemoteEndpoint
    ) -> [SDPAttribute] {
        (mid.isEmpty ? [] : [SDPAttribute("mid", mid)]) + [
            SDPAttribute(direction), SDPAttribute("ice-ufrag", local.credentials.usernameFragment),
            SDPAttribute("ice-pwd", local.credentials.password), SDPAttribute("fingerprint", local.fingerprint.text),
            SDPAttribute("setup", remote.dtlsRole == .active ? "active" : "passive"),
        ] + local.candidates.map { SDPAttribute("candidate", $0.text) } + [SDPAttribute("end-of-candidates")]
    }

    /// The answer to an m-line that we serve.
    func answer(
        _ parameters: MediaParameters,
        formatParameters: String,
        channels: Int,
        direction: String,
        local: LocalEndpoint,
        remote: RemoteEndpoint
    ) -> MediaSection {
        let payloadType = parameters.payloadType
        var answer = MediaSection(kind: section.kind, port: 9, proto: section.proto, formats: ["\(payloadType)"])
        func add(_ name: String, _ value: String? = nil) { answer.attributes.append(SDPAttribute(name, value)) }

        answer.attributes = transportAttributes(direction, local: local, remote: remote)
        add("rtcp-mux")
        if parameters.allowsReducedSizeRTCP { add("rtcp-rsize") }
        for mapping in parameters.headerExtensions { add("extmap", "\(mapping.id) \(mapping.meaning.uri)") }

        let channelSuffix = channels > 1 ? "/\(channels)" : ""
        let name = parameters.codec.rawValue
        add("rtpmap", "\(payloadType) \(name)/\(parameters.codec.clockRate)\(channelSuffix)")
        if !formatParameters.isEmpty { add("fmtp", "\(payloadType) \(formatParameters)") }
        for text in parameters.feedback.lines { add("rtcp-fb", "\(payloadType) \(text)") }
        if let retransmission = parameters.retransmissionPayloadType {
            answer.formats.append("\(retransmission)")
            add("rtpmap", "\(retransmission) rtx/\(parameters.codec.clockRate)")
            add("fmtp", "\(retransmission) apt=\(payloadType)")
        }
        if let redundancy = parameters.redundancyPayloadType {
            answer.formats.append("\(redundancy)")
            add("rtpmap", "\(redundancy) red/\(parameters.codec.clockRate)\(channelSuffix)")
            add("fmtp", "\(redundancy) \(payloadType)/\(payloadType)")
        }
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
