public import Commands
public import Wire

/// Whether the server could read the media that it forwards. Says so in plain words wherever it is shown.
public enum PrivacyMode: String, Sendable, Hashable, CaseIterable {
    /// Encrypted from hop to hop: the server can see and record media.
    case transport
    /// Frames are encrypted by the clients: the server forwards what it can't read.
    case endToEnd = "e2ee"
}

/// Our side of a session, as the answer tells it.
public struct LocalEndpoint: Sendable {
    public private(set) var credentials: ICECredentials
    /// How often ICE was restarted.
    private var restarts: UInt32 = 0
    public var fingerprint: CertificateFingerprint
    /// Where the peer's worker can be reached, the best first.
    public var addresses: [SocketAddress]
    public var privacy: PrivacyMode
    /// The `o=` line's session id: random.
    public var sessionID: UInt64

    public init(
        credentials: ICECredentials,
        fingerprint: CertificateFingerprint,
        addresses: [SocketAddress],
        privacy: PrivacyMode,
        sessionID: UInt64
    ) {
        self.credentials = credentials
        self.fingerprint = fingerprint
        self.addresses = addresses
        self.privacy = privacy
        self.sessionID = sessionID
    }

    /// Takes new credentials, which restart ICE.
    public mutating func restart(_ credentials: ICECredentials) {
        self.credentials = credentials
        restarts = min(restarts + 1, Self.highestTypePreference - Self.lowestTypePreference)
    }

    // All our candidates are of one type, so its preference is free to say something else: a pair made after a restart is preferred to
    // those before. A browser whose network has changed would otherwise keep to the dead pair until it gives that up, 3.5 s later.
    private static let lowestTypePreference: UInt32 = 80
    private static let highestTypePreference: UInt32 = 126

    /// Our candidates: host candidates on the worker's port, the first the most preferred (RFC 8445 §5.1.2.1).
    var candidates: [ICECandidate] {
        let typePreference = Self.lowestTypePreference + restarts
        return addresses.enumerated().map { index, address in
            ICECandidate(
                foundation: "\(index + 1)",
                component: 1,
                transport: "udp",
                priority: typePreference << 24 | UInt32(65_535 - min(index, 65_535)) << 8 | 255,
                address: address,
                kind: .host
            )
        }
    }
}

/// The peer's side of a session, as its offer tells it.
public struct RemoteEndpoint: Sendable, Hashable {
    public var credentials: ICECredentials
    /// Its certificate has to match one of them; never empty.
    public var fingerprints: [CertificateFingerprint]
    /// The role that we take in the DTLS handshake.
    public var dtlsRole: DTLSRole
}

/// One m-line that a publisher sends: what a track is made of.
public struct NegotiatedSource: Sendable, Hashable {
    /// The m-line, from 1.
    public var line: Int
    public var parameters: MediaParameters
    /// The lowest first; more than one where it is simulcast.
    public var encodings: [NegotiatedEncoding]

    /// What a worker is told of the tracks that its encodings feed.
    ///
    /// - Parameter tracks: As many as there are encodings, the lowest first.
    public func published(as tracks: [TrackID]) -> [PublishedTrack] {
        zip(tracks, encodings).map { track, encoding in
            PublishedTrack(
                track: track,
                parameters: parameters,
                announcedSources: encoding.announcedSources,
                rid: encoding.rid
            )
        }
    }
}

extension Collection<NegotiatedSource> {
    /// Whether there may be a stream of them.
    public func checkAsStream(_ limits: Limits) throws(NegotiationError) {
        for kind in MediaKind.allCases {
            let ofKind = filter { $0.parameters.codec.kind == kind }
            guard ofKind.count > limits.tracksPerStreamAndKind else { continue }
            throw NegotiationError(
                .unservable,
                mediaLine: ofKind[limits.tracksPerStreamAndKind].line,
                "a stream has at most \(limits.tracksPerStreamAndKind) tracks of \(kind.rawValue)"
            )
        }
    }
}

/// One RTP encoding of a publisher's m-line.
public struct NegotiatedEncoding: Sendable, Hashable {
    /// As its packets say it (RFC 8852); nil where the m-line has one encoding, or tells them apart by their SSRCs.
    public var rid: String?
    public var announcedSources: [AnnouncedSource]

    public init(rid: String? = nil, announcedSources: [AnnouncedSource] = []) {
        self.rid = rid
        self.announcedSources = announcedSources
    }
}

/// A track that a viewer can be given.
public struct ForwardableTrack: Sendable, Hashable {
    public var track: TrackID
    /// Of a simulcast track the encodings above the lowest, in ascending order. The lowest has the track's own id.
    public var higherEncodings: [TrackID]
    public var home: WorkerIndex
    public let codec: Codec
    /// The publisher's `a=fmtp` parameters, for people.
    public let formatParameters: String
    /// What of them matters to a decoder.
    let configuration: CodecConfiguration

    public init(
        track: TrackID,
        higherEncodings: [TrackID] = [],
        home: WorkerIndex,
        codec: Codec,
        formatParameters: String
    ) {
        self.track = track
        self.higherEncodings = higherEncodings
        self.home = home
        self.codec = codec
        self.formatParameters = formatParameters
        configuration = CodecConfiguration(codec, formatParameters) ?? CodecConfiguration(codec)
    }

    /// Whether viewers can be sent more or less of it: one of several encodings, or layers of one. Those of VP8, H.264 and H.265 are
    /// temporal at most, which saves little.
    public var isScalable: Bool { !higherEncodings.isEmpty || codec == .vp9 || codec == .av1 }

    /// Whether a publisher's m-line is made as this track is: then its viewers need not negotiate again.
    public func fits(_ source: NegotiatedSource) -> Bool {
        source.parameters.codec == codec && source.encodings.count == encodings.count
            && CodecConfiguration(codec, source.parameters.formatParameters) == configuration
    }

    /// All its encodings, the lowest first.
    public var encodings: [TrackID] { [track] + higherEncodings }
}

/// An answer to a publisher.
public struct PublisherAnswer: Sendable {
    public var text: String
    public var remote: RemoteEndpoint
    public var sources: [NegotiatedSource]
}

/// An answer to a viewer.
public struct ViewerAnswer: Sendable {
    public var text: String
    public var remote: RemoteEndpoint
    public var subscriptions: [SubscribedTrack]
}
