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
    /// Nil when the offer has no BUNDLE group at all.
    let bundle: Bundle?
    let maximumEncodings: Int

    /// - Parameters:
    ///   - text: The request's body.
    ///   - limits: Bounds its size, its m-lines and their attributes.
    public init(parsing text: [UInt8], limits: Limits) throws(NegotiationError) {
        let description: SessionDescription
        do throws(SDPError) {
            description = try SessionDescription(
                parsing: text,
                maximumBytes: limits.bodyBytes,
                maximumMediaSections: limits.mediaSections,
                maximumLines: limits.descriptionLines,
                maximumAttributes: limits.descriptionAttributes
            )
        } catch {
            throw NegotiationError(.malformed, error.explanation)
        }
        guard !description.mediaSections.isEmpty else {
            throw NegotiationError(.malformed, "the offer has no m-line")
        }
        let session = OfferedAttributes(description.attributes)
        guard !session.isLite else {
            throw NegotiationError(
                .unservable,
                "the offer is ICE-lite as this server is; one side has to be a full ICE agent"
            )
        }
        // Fail secure: a declaration that can't be read is none that may be left out.
        guard !session.isPrivacyUnclear else {
            throw NegotiationError(.malformed, "a=x-sluice-privacy has to be transport or e2ee")
        }
        declaredPrivacy = session.privacy
        allowsMixedHeaderExtensions = session.allowsMixedExtensions
        maximumEncodings = limits.encodingsPerTrack

        var sections = description.mediaSections.enumerated().map { index, section in
            OfferedSection(section, line: index + 1, session: session)
        }
        bundle = try Bundle(session, sections)
        if let bundle {
            let mids = Set(bundle.mids)
            for place in sections.indices where !mids.contains(sections[place].mid) { sections[place].leaveOut() }
        }
        self.sections = sections
        remote = try Self.remote(of: sections, session: session, tagged: bundle?.taggedMID)
    }

    /// The one transport: that of the m-line which stands for the bundle (RFC 9143 §7.1.3), or of the first that can be used.
    private static func remote(
        of sections: [OfferedSection],
        session: OfferedAttributes,
        tagged: String?
    ) throws(NegotiationError) -> RemoteEndpoint {
        guard let usable = sections.first(where: \.isUsable) else {
            let reasons = sections.compactMap(\.problem)
            throw NegotiationError(
                .unservable,
                mediaLine: sections.first?.line,
                reasons.first ?? "no m-line is audio or video over UDP/TLS/RTP/SAVPF"
            )
        }
        let first = sections.first { $0.mid == tagged } ?? usable
        // Some write it in other m-lines only.
        let places = [first.attributes, session] + (tagged == nil ? [] : sections.map(\.attributes))
        guard let place = places.first(where: { $0.usernameFragment != nil && $0.password != nil }),
            let ufrag = place.usernameFragment, let password = place.password
        else {
            throw NegotiationError(.unservable, mediaLine: first.line, "a=ice-ufrag and a=ice-pwd are missing")
        }
        guard let credentials = ICECredentials(validatingUsernameFragment: ufrag, password: password) else {
            throw NegotiationError(
                .malformed,
                mediaLine: first.line,
                "a=ice-ufrag has to be 4 to 256 and a=ice-pwd 22 to 256 letters, digits, + or / (RFC 8839 section 5.4)"
            )
        }
        let own = first.attributes.fingerprints + session.fingerprints
        let fingerprints = own.isEmpty ? places.lazy.map(\.fingerprints).first { !$0.isEmpty } ?? [] : own
        guard !fingerprints.isEmpty else {
            throw NegotiationError(
                .unservable,
                mediaLine: first.line,
                places.contains(where: \.hasFingerprint)
                    ? "no a=fingerprint is a valid sha-256, sha-384 or sha-512"
                    : "a=fingerprint is missing: media has to be encrypted by DTLS-SRTP"
            )
        }
        let role: DTLSRole
        switch places.lazy.compactMap(\.setup).first {
        case "passive": role = .active
        case "actpass", "active", nil: role = .passive
        case let other?:
            throw NegotiationError(
                .unservable,
                mediaLine: first.line,
                "a=setup:\(String(decoding: other.utf8.prefix(16), as: UTF8.self)) can't be answered; "
                    + "use actpass, active or passive"
            )
        }
        return RemoteEndpoint(credentials: credentials, fingerprints: fingerprints, dtlsRole: role)
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
        case .tooManyLines(let maximum): "there are more than \(maximum) lines"
        case .tooManyAttributes(let maximum, let line):
            "line \(line): the session and each m-line have at most \(maximum) attributes"
        case .badMediaLine(let line): "line \(line) is not a valid m-line"
        case .missing(let what): "\(what) is missing"
        }
    }
}
