public import Commands
public import Wire

/// An offer as JSEP (RFC 9429) has browsers write it, checked for what we need of it.
public struct Offer: Sendable {
    /// What an `a=x-sluice-privacy` line declares.
    public let declaredPrivacy: PrivacyMode?

    /// The client's certificate, and its ICE credentials: others than before are another connection, or an ICE restart.
    public var fingerprints: [CertificateFingerprint] { remote.fingerprints }
    public var credentials: ICECredentials { remote.credentials }

    let sections: [OfferedSection]
    let remote: RemoteEndpoint
    let allowsMixedHeaderExtensions: Bool
    /// Whether the offer has a BUNDLE group at all.
    let usesBundle: Bool
    let maximumEncodings: Int

    /// - Parameters:
    ///   - text: The request's body.
    ///   - limits: Bounds its size and its m-lines.
    public init(parsing text: [UInt8], limits: Limits) throws(NegotiationError) {
        let description: SessionDescription
        do throws(SDPError) {
            description = try SessionDescription(
                parsing: text,
                maximumBytes: limits.bodyBytes,
                maximumMediaSections: limits.mediaSections
            )
        } catch {
            throw NegotiationError(.malformed, error.explanation)
        }
        guard !description.mediaSections.isEmpty else {
            throw NegotiationError(.malformed, "the offer has no m-line")
        }
        guard !description.has("ice-lite") else {
            throw NegotiationError(
                .unservable,
                "the offer is ICE-lite as this server is; one side has to be a full ICE agent"
            )
        }
        declaredPrivacy = description.value("x-sluice-privacy").flatMap(PrivacyMode.init)
        allowsMixedHeaderExtensions = description.has("extmap-allow-mixed")
        maximumEncodings = limits.encodingsPerTrack

        let bundle = description.attributes.first { $0.name == "group" && $0.value?.hasPrefix("BUNDLE") == true }
        usesBundle = bundle != nil
        let bundled = bundle?.value?.split(separator: " ").dropFirst().map(String.init)
        sections = description.mediaSections.enumerated().map { index, section in
            OfferedSection(section, line: index + 1, session: description, bundled: bundled)
        }
        remote = try Self.remote(of: description, sections: sections)
    }

    /// The transport of the bundle: that of the first m-line that can be used.
    private static func remote(
        of description: SessionDescription,
        sections: [OfferedSection]
    ) throws(NegotiationError) -> RemoteEndpoint {
        guard let first = sections.first(where: \.isUsable) else {
            let reasons = sections.compactMap(\.problem)
            throw NegotiationError(
                .unservable,
                mediaLine: sections.first?.line,
                reasons.first ?? "no m-line is audio or video over UDP/TLS/RTP/SAVPF"
            )
        }
        func value(_ name: String) -> String? { first.section.value(name) ?? description.value(name) }
        guard let ufrag = value("ice-ufrag"), let password = value("ice-pwd") else {
            throw NegotiationError(.unservable, mediaLine: first.line, "a=ice-ufrag and a=ice-pwd are missing")
        }
        guard let credentials = ICECredentials(validatingUsernameFragment: ufrag, password: password) else {
            throw NegotiationError(
                .malformed,
                mediaLine: first.line,
                "a=ice-ufrag has to be 4 to 256 and a=ice-pwd 22 to 256 letters, digits, + or / (RFC 8839 section 5.4)"
            )
        }
        let lines =
            first.section.values("fingerprint")
            + description.attributes.compactMap {
                $0.name == "fingerprint" ? $0.value : nil
            }
        let fingerprints = lines.prefix(8).compactMap { CertificateFingerprint($0) }
        guard !fingerprints.isEmpty else {
            throw NegotiationError(
                .unservable,
                mediaLine: first.line,
                lines.isEmpty
                    ? "a=fingerprint is missing: media has to be encrypted by DTLS-SRTP"
                    : "no a=fingerprint is a valid sha-256, sha-384 or sha-512"
            )
        }
        let role: DTLSRole
        switch value("setup") {
        case "passive": role = .active
        case "actpass", "active", nil: role = .passive
        case let other?:
            throw NegotiationError(
                .unservable,
                mediaLine: first.line,
                "a=setup:\(other.prefix(16)) can't be answered; use actpass, active or passive"
            )
        }
        return RemoteEndpoint(credentials: credentials, fingerprints: fingerprints, dtlsRole: role)
    }
}

/// One m-line of an offer.
struct OfferedSection: Sendable {
    /// A codec that the m-line offers and that we forward.
    struct Format: Sendable, Hashable {
        var payloadType: UInt8
        var codec: Codec
        var parameters: String
        var retransmissionPayloadType: UInt8?
        var feedback: FeedbackOptions
        /// `channels` of its rtpmap.
        var channels: Int
    }

    let section: MediaSection
    /// From 1.
    let line: Int
    /// Nil for m-lines that are neither audio nor video.
    let kind: MediaKind?
    let mid: String
    /// Why the m-line can't be used, if so.
    let problem: String?
    /// Whether the peer wants to send on it, or to receive.
    let sends: Bool
    let receives: Bool
    /// The codecs we know, in the offer's order.
    let formats: [Format]
    let headerExtensions: [HeaderExtensionMapping]

    var isUsable: Bool { problem == nil }

    init(_ section: MediaSection, line: Int, session: SessionDescription, bundled: [String]?) {
        self.section = section
        self.line = line
        kind = MediaKind(rawValue: section.kind)
        mid = section.value("mid") ?? ""
        problem = Self.problem(of: section, kind: kind, bundled: bundled)
        let direction =
            ["sendrecv", "sendonly", "recvonly", "inactive"].first { section.has($0) }
            ?? ["sendrecv", "sendonly", "recvonly", "inactive"].first { session.has($0) } ?? "sendrecv"
        sends = direction == "sendrecv" || direction == "sendonly"
        receives = direction == "sendrecv" || direction == "recvonly"
        formats = Self.formats(of: section)
        headerExtensions = (session.attributes + section.attributes).compactMap { attribute in
            guard attribute.name == "extmap", let value = attribute.value, let map = ExtensionMap(value),
                map.direction != "inactive",
                let meaning = HeaderExtension.allCases.first(where: { $0.uri == map.uri })
            else { return nil }
            return HeaderExtensionMapping(id: map.id, meaning: meaning)
        }
    }

    private static func problem(of section: MediaSection, kind: MediaKind?, bundled: [String]?) -> String? {
        guard kind != nil else { return "only audio and video are served" }
        guard
            section.proto == "UDP/TLS/RTP/SAVPF" || section.proto == "UDP/TLS/RTP/SAVP" || section.proto == "RTP/SAVPF"
        else { return "the protocol is \(section.proto.prefix(32)); it has to be UDP/TLS/RTP/SAVPF" }
        guard section.port != 0 || section.has("bundle-only") else { return "the m-line is switched off (port 0)" }
        guard section.has("rtcp-mux") || section.has("rtcp-mux-only") else {
            return "a=rtcp-mux is missing: RTP and RTCP share one port here"
        }
        if let bundled, let mid = section.value("mid"), !bundled.contains(mid) {
            return "it is not in the BUNDLE group: all media shares one port here"
        }
        return nil
    }

    /// Longest `a=fmtp` in bytes that is looked at: several times what encoders write, parameter sets included.
    private static let maximumParameterBytes = 2048

    /// The formats that we forward, most preferred first. Each attribute is looked at once, however many there are.
    private static func formats(of section: MediaSection) -> [Format] {
        var maps: [String: RTPMap] = [:]
        for map in section.values("rtpmap").compactMap(RTPMap.init) where maps["\(map.payloadType)"] == nil {
            maps["\(map.payloadType)"] = map
        }
        var parameters: [String: String] = [:]
        for value in section.values("fmtp") {
            let fields = value.split(separator: " ", maxSplits: 1)
            if fields.count == 2, fields[1].utf8.count <= maximumParameterBytes {
                parameters[String(fields[0])] = String(fields[1])
            }
        }
        var retransmissions: [String: UInt8] = [:]
        for format in section.formats {
            guard let map = maps[format], map.encodingName.lowercased() == "rtx",
                let original = parameters[format].flatMap({ FormatParameters(text: $0)["apt"] }),
                retransmissions[original] == nil
            else { continue }
            retransmissions[original] = map.payloadType
        }
        let feedback = feedback(of: section)
        return section.formats.compactMap { format -> Format? in
            guard let map = maps[format],
                let codec = Codec.allCases.first(where: { $0.rawValue.lowercased() == map.encodingName.lowercased() }),
                codec.clockRate == map.clockRate, codec.kind.rawValue == section.kind
            else { return nil }
            return Format(
                payloadType: map.payloadType,
                codec: codec,
                parameters: parameters[format] ?? "",
                retransmissionPayloadType: retransmissions[format],
                feedback: feedback[format, default: []].union(feedback["*", default: []]),
                channels: map.channels
            )
        }
    }

    /// What each format, or `*` for all, may be answered with.
    private static func feedback(of section: MediaSection) -> [String: FeedbackOptions] {
        var feedback: [String: FeedbackOptions] = [:]
        for value in section.values("rtcp-fb") {
            let fields = value.split(separator: " ", maxSplits: 1)
            guard fields.count == 2 else { continue }
            let option: FeedbackOptions? =
                switch fields[1] {
                case "nack": .nack
                case "nack pli": .pictureLossIndication
                case "ccm fir": .fullIntraRequest
                case "goog-remb": .receiverEstimatedMaximumBitrate
                case "transport-cc": .transportWideCongestionControl
                default: nil
                }
            if let option { feedback[String(fields[0]), default: []].insert(option) }
        }
        return feedback
    }
}

extension SDPError {
    /// For people.
    var explanation: String {
        switch self {
        case .tooLong(let maximum): "the description is longer than \(maximum) bytes"
        case .notText: "the description is not UTF-8 text"
        case .badLine(let line): "line \(line) is not of the form <letter>=<value>"
        case .badVersion: "the first line has to be v=0"
        case .tooManyMediaSections(let maximum): "there are more than \(maximum) m-lines"
        case .badMediaLine(let line): "line \(line) is not a valid m-line"
        case .missing(let what): "\(what) is missing"
        }
    }
}
