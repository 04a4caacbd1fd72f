import Transport
import Wire

/// The offers and answers that the load generator writes, and what it reads from a server's.
enum Descriptions {
    private static let midExtension = "urn:ietf:params:rtp-hdrext:sdes:mid"
    private static let payloadTypes: [UInt8: PeerPlan.Media] = [
        PublisherSources.audioPayloadType: .audio,
        PublisherSources.videoPayloadType: .video,
        PublisherSources.retransmissionPayloadType: .retransmission,
    ]

    /// A publisher's offer of one stream.
    static func publisherOffer(_ publisher: Int, credentials: ICECredentials, plan: LoadPlan) -> String {
        offer(direction: "sendonly", sources: PublisherSources(publisher: publisher), credentials, plan)
    }

    /// A viewer's offer to take one stream.
    static func viewerOffer(credentials: ICECredentials, plan: LoadPlan) -> String {
        offer(direction: "recvonly", sources: nil, credentials, plan)
    }

    /// What the media thread needs from a server's answer to one of the offers above.
    static func plan(
        _ role: PeerPlan.Role,
        answer: String,
        local: ICECredentials
    ) throws(LoadError) -> PeerPlan {
        let description = try parse(answer)
        return try plan(role, description, isOfferer: true, local: local, payloadTypes: payloadTypes)
    }

    /// Answers a server's offer of streams: takes all of them.
    static func answer(
        offer: String,
        role: PeerPlan.Role,
        local: ICECredentials
    ) throws(LoadError) -> (answer: String, plan: PeerPlan) {
        let description = try parse(offer)
        var payloadTypes: [UInt8: PeerPlan.Media] = [:]
        var sections: [MediaSection] = []
        for section in description.mediaSections {
            for map in section.values("rtpmap").compactMap(RTPMap.init) {
                payloadTypes[map.payloadType] =
                    map.encodingName.lowercased() == "rtx"
                    ? .retransmission : (section.kind == "audio" ? .audio : .video)
            }
            let mid = section.value("mid") ?? "\(sections.count)"
            var answer = MediaSection(kind: section.kind, port: 9, proto: section.proto, formats: section.formats)
            answer.attributes = transportAttributes(mid: mid, local) + [SDPAttribute("recvonly")]
            for name in ["rtpmap", "fmtp", "rtcp-fb"] {
                answer.attributes += section.values(name).map { SDPAttribute(name, $0) }
            }
            sections.append(answer)
        }
        let text = text(sections)
        return (text, try plan(role, description, isOfferer: false, local: local, payloadTypes: payloadTypes))
    }

    /// The MIDs of a publisher's offer.
    static func mids(of plan: LoadPlan) -> [String] { plan.hasAudio ? ["0", "1"] : ["1"] }

    // MARK: Writing

    private static func offer(
        direction: String,
        sources: PublisherSources?,
        _ credentials: ICECredentials,
        _ plan: LoadPlan
    ) -> String {
        var sections: [MediaSection] = []
        if plan.hasAudio {
            let type = "\(PublisherSources.audioPayloadType)"
            var section = MediaSection(kind: "audio", port: 9, proto: "UDP/TLS/RTP/SAVPF", formats: [type])
            section.attributes = transportAttributes(mid: "0", credentials)
            section.attributes += [
                SDPAttribute("extmap", "4 \(midExtension)"),
                SDPAttribute(direction),
                SDPAttribute("rtpmap", "\(type) opus/48000/2"),
                SDPAttribute("fmtp", "\(type) minptime=10;useinbandfec=1"),
            ]
            if let sources { section.attributes += announcement(of: sources.audio) }
            sections.append(section)
        }
        let type = "\(PublisherSources.videoPayloadType)"
        let repair = "\(PublisherSources.retransmissionPayloadType)"
        var section = MediaSection(kind: "video", port: 9, proto: "UDP/TLS/RTP/SAVPF", formats: [type, repair])
        section.attributes = transportAttributes(mid: "1", credentials)
        section.attributes += [
            SDPAttribute("extmap", "4 \(midExtension)"),
            SDPAttribute(direction),
            SDPAttribute("rtpmap", "\(type) \(plan.codec.rawValue)/90000"),
            SDPAttribute("rtcp-fb", "\(type) nack"),
            SDPAttribute("rtcp-fb", "\(type) nack pli"),
            SDPAttribute("rtcp-fb", "\(type) ccm fir"),
            SDPAttribute("rtpmap", "\(repair) rtx/90000"),
            SDPAttribute("fmtp", "\(repair) apt=\(type)"),
        ]
        if plan.codec == .h264 {
            section.attributes.append(
                SDPAttribute("fmtp", "\(type) level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
            )
        }
        if let sources {
            section.attributes.append(SDPAttribute("ssrc-group", "FID \(sources.video) \(sources.retransmission)"))
            section.attributes += announcement(of: sources.video) + announcement(of: sources.retransmission)
        }
        sections.append(section)
        return text(sections)
    }

    private static func announcement(of ssrc: UInt32) -> [SDPAttribute] {
        [SDPAttribute("ssrc", "\(ssrc) cname:sluice-load")]
    }

    /// We are always the DTLS client, so that the server's cost of a handshake is that of any server.
    private static func transportAttributes(mid: String, _ credentials: ICECredentials) -> [SDPAttribute] {
        [
            SDPAttribute("mid", mid),
            SDPAttribute("ice-ufrag", credentials.usernameFragment),
            SDPAttribute("ice-pwd", credentials.password),
            SDPAttribute("fingerprint", ClientIdentity.shared.certificate.fingerprint.text),
            SDPAttribute("setup", "active"),
            SDPAttribute("rtcp-mux"),
            SDPAttribute("rtcp-rsize"),
        ]
    }

    private static func text(_ sections: [MediaSection]) -> String {
        let mids = sections.compactMap { $0.value("mid") }.joined(separator: " ")
        return SessionDescription(
            origin: "sluice-load \(UInt32.random(in: 1...UInt32(Int32.max))) 1 IN IP4 127.0.0.1",
            attributes: [SDPAttribute("group", "BUNDLE \(mids)")],
            mediaSections: sections
        ).text
    }

    // MARK: Reading

    private static func parse(_ text: String) throws(LoadError) -> SessionDescription {
        do throws(SDPError) {
            return try SessionDescription(parsing: Array(text.utf8), maximumMediaSections: 256)
        } catch {
            throw LoadError("the server's SDP can't be read: \(error)")
        }
    }

    private static func plan(
        _ role: PeerPlan.Role,
        _ description: SessionDescription,
        isOfferer: Bool,
        local: ICECredentials,
        payloadTypes: [UInt8: PeerPlan.Media]
    ) throws(LoadError) -> PeerPlan {
        guard let section = description.mediaSections.first(where: { $0.port != 0 }) else {
            throw LoadError("the server's SDP refuses every m-line")
        }
        func value(_ name: String) -> String? { section.value(name) ?? description.value(name) }
        guard let fragment = value("ice-ufrag"), let password = value("ice-pwd"),
            let fingerprint = value("fingerprint").flatMap(CertificateFingerprint.init)
        else { throw LoadError("the server's SDP has no ICE credentials or no fingerprint") }
        let candidates = section.values("candidate").compactMap(ICECandidate.init)
        guard let candidate = candidates.first(where: { $0.transport.lowercased() == "udp" && $0.component == 1 })
        else {
            throw LoadError("the server's SDP has no UDP candidate")
        }
        return PeerPlan(
            role: role,
            server: candidate.address,
            local: local,
            remote: ICECredentials(usernameFragment: fragment, password: password),
            fingerprints: [fingerprint],
            isControlling: isOfferer || description.has("ice-lite"),
            payloadTypes: payloadTypes
        )
    }
}
