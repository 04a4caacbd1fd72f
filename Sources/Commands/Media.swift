public import Wire

/// A header extension and the local identifier (1 to 255; 15 only in the two-byte form) that an SDP gave it.
public struct HeaderExtensionMapping: Sendable, Hashable {
    public let id: UInt8
    public let meaning: HeaderExtension

    public init(id: UInt8, meaning: HeaderExtension) {
        self.id = id
        self.meaning = meaning
    }
}

/// RTCP feedback that both sides of an m-line agreed on (`a=rtcp-fb`, RFC 4585).
public struct FeedbackOptions: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Generic NACK: lost packets are asked for again.
    public static let nack = FeedbackOptions(rawValue: 1 << 0)
    /// Picture loss indication.
    public static let pictureLossIndication = FeedbackOptions(rawValue: 1 << 1)
    /// Full intra request (RFC 5104 §4.3.1).
    public static let fullIntraRequest = FeedbackOptions(rawValue: 1 << 2)
    /// Receiver estimated maximum bitrate.
    public static let receiverEstimatedMaximumBitrate = FeedbackOptions(rawValue: 1 << 3)
    /// Transport-wide congestion control feedback.
    public static let transportWideCongestionControl = FeedbackOptions(rawValue: 1 << 4)
}

/// What both ends agreed on for one m-line: everything a worker needs to receive or to send its RTP.
public struct MediaParameters: Sendable, Hashable {
    /// The m-line's MID (RFC 9143), as ASCII; empty when the offer has none.
    public var mid: String
    /// The one codec in use.
    public var codec: Codec
    /// `a=fmtp` parameters of that codec as in the SDP, such as `profile-level-id=42e01f;packetization-mode=1`.
    public var formatParameters: String
    /// The codec's payload type, 0 to 127.
    public var payloadType: UInt8
    /// The payload type of RTX (RFC 4588) for that codec, when negotiated.
    public var retransmissionPayloadType: UInt8?
    /// The payload type of redundant audio data (RFC 2198) whose frames are of that codec, when negotiated.
    public var redundancyPayloadType: UInt8?
    /// Header extensions with the identifiers in use on this m-line.
    public var headerExtensions: [HeaderExtensionMapping]
    /// Feedback messages in use.
    public var feedback: FeedbackOptions
    /// Whether `a=extmap-allow-mixed` was agreed: one- and two-byte header extensions may both be sent (RFC 8285 §6).
    public var allowsMixedHeaderExtensions: Bool
    /// Whether RTCP may be sent in reduced size (RFC 5506).
    public var allowsReducedSizeRTCP: Bool

    public init(
        mid: String,
        codec: Codec,
        formatParameters: String = "",
        payloadType: UInt8,
        retransmissionPayloadType: UInt8? = nil,
        redundancyPayloadType: UInt8? = nil,
        headerExtensions: [HeaderExtensionMapping] = [],
        feedback: FeedbackOptions = [],
        allowsMixedHeaderExtensions: Bool = false,
        allowsReducedSizeRTCP: Bool = false
    ) {
        self.mid = mid
        self.codec = codec
        self.formatParameters = formatParameters
        self.payloadType = payloadType
        self.retransmissionPayloadType = retransmissionPayloadType
        self.redundancyPayloadType = redundancyPayloadType
        self.headerExtensions = headerExtensions
        self.feedback = feedback
        self.allowsMixedHeaderExtensions = allowsMixedHeaderExtensions
        self.allowsReducedSizeRTCP = allowsReducedSizeRTCP
    }
}

/// A track that a peer publishes to us.
public struct PublishedTrack: Sendable, Hashable {
    /// The track that this m-line feeds.
    public var track: TrackID
    /// What was negotiated for it.
    public var parameters: MediaParameters
    /// SSRCs announced by `a=ssrc`, each with its RTX SSRC from `a=ssrc-group:FID`. Empty when the offer names none: then
    /// packets are recognised by MID, or by payload type.
    public var announcedSources: [AnnouncedSource]
    /// Which of a simulcast m-line's encodings it is, as its packets say (RFC 8852); nil where an m-line has one encoding, or tells
    /// its encodings apart by their SSRCs.
    public var rid: String?

    public init(
        track: TrackID,
        parameters: MediaParameters,
        announcedSources: [AnnouncedSource] = [],
        rid: String? = nil
    ) {
        self.track = track
        self.parameters = parameters
        self.announcedSources = announcedSources
        self.rid = rid
    }
}

/// One RTP source announced in an SDP.
public struct AnnouncedSource: Sendable, Hashable {
    public var ssrc: UInt32
    public var retransmissionSSRC: UInt32?

    public init(ssrc: UInt32, retransmissionSSRC: UInt32? = nil) {
        self.ssrc = ssrc
        self.retransmissionSSRC = retransmissionSSRC
    }
}

/// A track that we forward to a peer.
public struct SubscribedTrack: Sendable, Hashable {
    /// The track to forward.
    public var track: TrackID
    /// Of a simulcast track, of which one encoding is forwarded at a time, the encodings above the lowest, in ascending order. The
    /// lowest has the track's own id.
    public var higherEncodings: [TrackID]
    /// The place of the best encoding that the viewer wants.
    public var highestEncoding = Int.max
    /// The worker that the track's publisher lives on.
    public var home: WorkerIndex
    /// What was negotiated with the viewer.
    public var parameters: MediaParameters
    /// The SSRC that we send with; in the answer's `a=ssrc`.
    public var ssrc: UInt32
    /// The SSRC of retransmissions, present when RTX was negotiated.
    public var retransmissionSSRC: UInt32?
    /// RTCP SDES CNAME, the same for all tracks of a stream so that the viewer keeps them in sync.
    public var cname: String

    public init(
        track: TrackID,
        higherEncodings: [TrackID] = [],
        home: WorkerIndex,
        parameters: MediaParameters,
        ssrc: UInt32,
        retransmissionSSRC: UInt32?,
        cname: String
    ) {
        self.track = track
        self.higherEncodings = higherEncodings
        self.home = home
        self.parameters = parameters
        self.ssrc = ssrc
        self.retransmissionSSRC = retransmissionSSRC
        self.cname = cname
    }
}
