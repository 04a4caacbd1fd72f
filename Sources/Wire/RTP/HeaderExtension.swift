/// RTP header extensions (RFC 8285) that Sluice understands or passes on, by what they mean.
public enum HeaderExtension: UInt8, Sendable, Hashable, CaseIterable {
    /// RFC 6464 client-to-mixer audio level.
    case audioLevel
    /// Absolute send time, 24 bits of 6.18 fixed point seconds. Rewritten for each viewer at the moment of sending.
    case absoluteSendTime
    /// Transport-wide congestion control sequence number. It counts packets of one hop: each viewer that reports by it gets its own.
    case transportSequenceNumber
    /// RFC 9143 §15 MID. Written for each viewer.
    case mid
    /// RFC 8852 RtpStreamId. Ends at Sluice.
    case rtpStreamID
    /// RFC 8852 RepairedRtpStreamId. Ends at Sluice.
    case repairedRTPStreamID
    /// RFC 5450 transmission time offset. Ends at Sluice: the offset is of the first hop.
    case transmissionTimeOffset
    /// 3GPP TS 26.114 coordination of video orientation.
    case videoOrientation
    /// AV1 RTP dependency descriptor.
    case dependencyDescriptor
    /// Playout delay limits.
    case playoutDelay
    /// Absolute capture time.
    case absoluteCaptureTime
    /// Colour space.
    case colorSpace
    /// Video content type (camera or screen).
    case videoContentType
    /// Video timing.
    case videoTiming

    /// The URI that names it in `a=extmap`.
    public var uri: String {
        switch self {
        case .audioLevel: "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
        case .absoluteSendTime: "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
        case .transportSequenceNumber:
            "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
        case .mid: "urn:ietf:params:rtp-hdrext:sdes:mid"
        case .rtpStreamID: "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
        case .repairedRTPStreamID: "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
        case .transmissionTimeOffset: "urn:ietf:params:rtp-hdrext:toffset"
        case .videoOrientation: "urn:3gpp:video-orientation"
        case .dependencyDescriptor:
            "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
        case .playoutDelay: "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
        case .absoluteCaptureTime: "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
        case .colorSpace: "http://www.webrtc.org/experiments/rtp-hdrext/color-space"
        case .videoContentType: "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type"
        case .videoTiming: "http://www.webrtc.org/experiments/rtp-hdrext/video-timing"
        }
    }
}
