import Commands
import Wire

/// What negotiation looks at of the attributes of a session or an m-line. Each line is read once, and lists have an end: so what it takes
/// grows with the text's length alone.
struct OfferedAttributes: Sendable {
    enum Direction: String, Sendable {
        case sendrecv
        case sendonly
        case recvonly
        case inactive
    }

    /// Longest value in bytes that is looked at: several times what encoders write, parameter sets included.
    private static let maximumBytes = 2048
    /// Longest name in bytes that may be one of those that are looked for.
    private static let maximumNameBytes = 32
    /// Longest MID in bytes: it is written into packets.
    static let maximumIdentifierBytes = 64
    private static let maximumSources = 256
    private static let maximumGroups = 64
    private static let maximumBundles = 16
    private static let maximumRIDs = 64
    private static let maximumFingerprints = 8

    // Of a session only.
    private(set) var isLite = false
    private(set) var allowsMixedExtensions = false
    private(set) var privacy: PrivacyMode?
    /// Whether a declaration can't be read, or two differ.
    private(set) var isPrivacyUnclear = false
    /// The values of `a=group`.
    private(set) var bundles: [String] = []

    private(set) var mid: String?
    private(set) var direction: Direction?
    private(set) var isMultiplexed = false
    private(set) var isReducedSize = false
    private(set) var isBundleOnly = false

    private(set) var usernameFragment: String?
    private(set) var password: String?
    private(set) var setup: String?
    private(set) var fingerprints: [CertificateFingerprint] = []
    private(set) var hasFingerprint = false

    private(set) var maps: [UInt8: RTPMap] = [:]
    private(set) var parameters: [UInt8: String] = [:]
    private var feedback: [UInt8: FeedbackOptions] = [:]
    private var feedbackOfAll: FeedbackOptions = []
    /// The first of each meaning, in their order.
    private(set) var extensions: [HeaderExtensionMapping] = []

    private(set) var simulcast: Simulcast?
    private(set) var rids: [String: RestrictionIdentifier] = [:]
    /// Announced by `a=ssrc`, each once, in their order.
    private(set) var ssrcs: [UInt32] = []
    private var knownSSRCs: Set<UInt32> = []
    private(set) var groups: [SSRCGroup] = []
    private(set) var sctpLines: [SDPAttribute] = []

    init(_ attributes: [SDPAttribute]) {
        for attribute in attributes where attribute.name.utf8.count <= Self.maximumNameBytes {
            if attribute.name == "x-sluice-privacy" {
                notePrivacy(attribute.value)
                continue
            }
            guard let value = attribute.value else {
                note(attribute.name)
                continue
            }
            if attribute.name == "group" {
                if bundles.count < Self.maximumBundles { bundles.append(value) }
            } else if value.utf8.count <= Self.maximumBytes {
                note(attribute, value)
            }
        }
    }

    private mutating func notePrivacy(_ value: String?) {
        let mode = value.flatMap(PrivacyMode.init)
        if mode == nil || privacy ?? mode != mode { isPrivacyUnclear = true }
        privacy = privacy ?? mode
    }

    func feedback(of payloadType: UInt8) -> FeedbackOptions {
        feedback[payloadType, default: []].union(feedbackOfAll)
    }

    /// The session's extensions and the m-line's.
    func extensions(in session: OfferedAttributes) -> [HeaderExtensionMapping] {
        var meanings = Set(session.extensions.map(\.meaning))
        return session.extensions + extensions.filter { meanings.insert($0.meaning).inserted }
    }

    private mutating func note(_ property: String) {
        switch property {
        case "sendrecv", "sendonly", "recvonly", "inactive": direction = direction ?? Direction(rawValue: property)
        case "rtcp-mux", "rtcp-mux-only": isMultiplexed = true
        case "rtcp-rsize": isReducedSize = true
        case "bundle-only": isBundleOnly = true
        case "ice-lite": isLite = true
        case "extmap-allow-mixed": allowsMixedExtensions = true
        default: break
        }
    }

    private mutating func note(_ attribute: SDPAttribute, _ value: String) {
        switch attribute.name {
        case "mid": mid = mid ?? value.words(atMost: 1).first.map(String.init)
        case "ice-ufrag": usernameFragment = usernameFragment ?? value
        case "ice-pwd": password = password ?? value
        case "setup": setup = setup ?? value.words(atMost: 1).first?.lowercased()
        case "fingerprint":
            hasFingerprint = true
            guard fingerprints.count < Self.maximumFingerprints, let fingerprint = CertificateFingerprint(value) else {
                break
            }
            fingerprints.append(fingerprint)
        case "rtpmap":
            guard let map = RTPMap(value), maps[map.payloadType] == nil else { break }
            maps[map.payloadType] = map
        case "fmtp": noteParameters(value)
        case "rtcp-fb": noteFeedback(value)
        case "extmap": noteExtension(value)
        case "simulcast": simulcast = simulcast ?? Simulcast(value)
        case "rid":
            guard rids.count < Self.maximumRIDs, let rid = RestrictionIdentifier(value) else { break }
            rids[rid.id] = rid
        case "ssrc":
            guard ssrcs.count < Self.maximumSources, let ssrc = value.words(atMost: 2).first.flatMap({ UInt32($0) }),
                knownSSRCs.insert(ssrc).inserted
            else { break }
            ssrcs.append(ssrc)
        case "ssrc-group":
            guard groups.count < Self.maximumGroups, let group = SSRCGroup(value) else { break }
            groups.append(group)
        case "sctp-port", "sctpmap":
            if sctpLines.count < 2 { sctpLines.append(attribute) }
        default: break
        }
    }

    private mutating func noteParameters(_ value: String) {
        let fields = value.words(atMost: 2)
        guard fields.count == 2, let payloadType = UInt8(fields[0]) else { return }
        parameters[payloadType] = String(fields[1])
    }

    private mutating func noteFeedback(_ value: String) {
        let words = value.words(atMost: 4)
        guard words.count >= 2 else { return }
        let option: FeedbackOptions
        switch (words[1], words.count > 2 ? words[2] : nil) {
        case ("nack", nil): option = .nack
        case ("nack", "pli"): option = .pictureLossIndication
        case ("ccm", "fir"): option = .fullIntraRequest
        case ("goog-remb", nil): option = .receiverEstimatedMaximumBitrate
        case ("transport-cc", nil): option = .transportWideCongestionControl
        default: return
        }
        if words[0] == "*" {
            feedbackOfAll.insert(option)
        } else if let payloadType = UInt8(words[0]) {
            feedback[payloadType, default: []].insert(option)
        }
    }

    private static let meanings = Dictionary(uniqueKeysWithValues: HeaderExtension.allCases.map { ($0.uri, $0) })

    private mutating func noteExtension(_ value: String) {
        guard let map = ExtensionMap(value), map.direction != "inactive", let meaning = Self.meanings[map.uri],
            !extensions.contains(where: { $0.meaning == meaning })
        else { return }
        extensions.append(HeaderExtensionMapping(id: map.id, meaning: meaning))
    }
}
