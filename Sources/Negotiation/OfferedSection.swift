import Commands
import Wire

/// One m-line of an offer.
struct OfferedSection: Sendable {
    /// A codec that the m-line offers and that we forward.
    struct Format: Sendable, Hashable {
        var payloadType: UInt8
        var codec: Codec
        var configuration: CodecConfiguration
        var parameters: String
        var retransmissionPayloadType: UInt8?
        /// Of redundant audio data (RFC 2198) whose frames are of this format.
        var redundancyPayloadType: UInt8?
        var feedback: FeedbackOptions
        /// `channels` of its rtpmap.
        var channels: Int
    }

    let section: MediaSection
    let attributes: OfferedAttributes
    /// From 1.
    let line: Int
    /// Nil for m-lines that are neither audio nor video.
    let kind: MediaKind?
    /// Empty when there is none.
    let mid: String
    /// Why the m-line can't be used, if so.
    private(set) var problem: String?
    /// Whether the peer wants to send on it, or to receive.
    let sends: Bool
    let receives: Bool
    /// The codecs we know, in the offer's order.
    let formats: [Format]
    let headerExtensions: [HeaderExtensionMapping]

    var isUsable: Bool { problem == nil }
    /// Whether it is used for media, in any direction.
    var isServed: Bool { isUsable && !formats.isEmpty }

    /// - Parameter section: Its attributes are given up once they are read.
    init(_ section: MediaSection, line: Int, session: OfferedAttributes) {
        let attributes = OfferedAttributes(section.attributes)
        var section = section
        section.attributes = []
        self.section = section
        self.attributes = attributes
        self.line = line
        kind = MediaKind(rawValue: section.kind)
        mid = attributes.mid ?? ""
        problem = Self.problem(of: section, attributes, kind: kind)
        let direction = attributes.direction ?? session.direction ?? .sendrecv
        sends = direction == .sendrecv || direction == .sendonly
        receives = direction == .sendrecv || direction == .recvonly
        formats = Self.formats(of: section, attributes)
        headerExtensions = attributes.extensions(in: session)
    }

    /// All media shares one transport: an m-line that is on another is not served.
    mutating func leaveOut() {
        problem = problem ?? "it is not in the BUNDLE group: all media shares one port here"
    }

    private static func problem(of section: MediaSection, _ attributes: OfferedAttributes, kind: MediaKind?) -> String?
    {
        guard kind != nil else { return "only audio and video are served" }
        guard isKnown(section.proto) else {
            return "the protocol is \(String(decoding: section.proto.utf8.prefix(32), as: UTF8.self)); "
                + "it has to be UDP/TLS/RTP/SAVPF"
        }
        guard section.port != 0 || attributes.isBundleOnly else { return "the m-line is switched off (port 0)" }
        guard attributes.isMultiplexed else { return "a=rtcp-mux is missing: RTP and RTCP share one port here" }
        guard attributes.mid?.utf8.count ?? 0 <= OfferedAttributes.maximumIdentifierBytes else {
            return "a=mid is longer than \(OfferedAttributes.maximumIdentifierBytes) bytes"
        }
        return nil
    }

    private static func isKnown(_ proto: String) -> Bool {
        proto == "UDP/TLS/RTP/SAVPF" || proto == "UDP/TLS/RTP/SAVP" || proto == "RTP/SAVPF"
    }

    /// Whether the m-line can stay for its transport's sake, although nothing of it is served.
    var canCarryTransport: Bool {
        guard section.port != 0 || attributes.isBundleOnly, !mid.isEmpty else { return false }
        if kind == nil { return section.kind == "application" && section.proto.hasSuffix("DTLS/SCTP") }
        return isUsable
    }

    /// The formats that we forward, most preferred first. Each is looked at once, however often it is named.
    private static func formats(of section: MediaSection, _ attributes: OfferedAttributes) -> [Format] {
        var seen: Set<UInt8> = []
        let types = section.formats.compactMap { UInt8($0) }.filter { seen.insert($0).inserted }
        var retransmissions: [UInt8: UInt8] = [:]
        var redundancies: [UInt8: UInt8] = [:]
        for type in types {
            let parameters = attributes.parameters[type] ?? ""
            switch attributes.maps[type]?.encodingName.lowercased() {
            case "rtx":
                guard let original = FormatParameters(text: parameters)["apt"].flatMap({ UInt8($0) }),
                    retransmissions[original] == nil
                else { continue }
                retransmissions[original] = type
            case "red":
                // RFC 2198 §5: `111/111`, a payload type for each of a packet's frames.
                let originals = parameters.split(separator: "/", maxSplits: 8, omittingEmptySubsequences: false)
                guard let original = originals.first.flatMap({ UInt8($0) }), redundancies[original] == nil,
                    originals.allSatisfy({ $0 == originals[0] })
                else { continue }
                redundancies[original] = type
            default: continue
            }
        }
        return types.compactMap { type -> Format? in
            let parameters = attributes.parameters[type] ?? ""
            guard let map = attributes.maps[type], let codec = codecs[map.encodingName.lowercased()],
                codec.clockRate == map.clockRate, codec.kind.rawValue == section.kind,
                let configuration = CodecConfiguration(codec, parameters)
            else { return nil }
            return Format(
                payloadType: type,
                codec: codec,
                configuration: configuration,
                parameters: parameters,
                retransmissionPayloadType: retransmissions[type],
                redundancyPayloadType: codec == .opus ? redundancies[type] : nil,
                feedback: attributes.feedback(of: type),
                channels: map.channels
            )
        }
    }

    private static let codecs = Dictionary(uniqueKeysWithValues: Codec.allCases.map { ($0.rawValue.lowercased(), $0) })
}

extension OfferedSection {
    /// What a publisher is asked to send: the first codec of its list, and of that what most viewers can decode.
    var formatToReceive: Format? {
        guard let first = formats.first else { return nil }
        return formats.filter { $0.codec == first.codec }.min { $0.configuration.rarity < $1.configuration.rarity }
    }

    /// What a viewer is sent a track as: what its decoder is best at; nil when it has none for it.
    func formatToSend(_ track: ForwardableTrack) -> Format? {
        var best: (format: Format, fitness: Int)?
        for format in formats {
            guard let fitness = format.configuration.fitness(for: track.configuration), fitness < best?.fitness ?? .max
            else { continue }
            best = (format, fitness)
        }
        return best?.format
    }

    var noCommonCodec: NegotiationError {
        let offered = section.formats.compactMap { UInt8($0).flatMap { attributes.maps[$0]?.encodingName } }
        let names = offered.prefix(12).map { String(decoding: $0.utf8.prefix(32), as: UTF8.self) }
        let ours = Codec.allCases.filter { $0.kind == kind }.map(\.rawValue)
        return NegotiationError(
            .noCommonCodec,
            mediaLine: line,
            "the m-line offers \(names.joined(separator: ", ")); "
                + "this server forwards \(ours.joined(separator: ", "))"
        )
    }
}
