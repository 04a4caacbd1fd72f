/// Whether a track carries sound or pictures.
public enum MediaKind: String, Sendable, Hashable, CaseIterable {
    case audio
    case video
}

/// The codecs that Sluice forwards. It never decodes them; it knows each well enough to find keyframes and layers.
public enum Codec: String, Sendable, Hashable, CaseIterable {
    case opus = "opus"
    case vp8 = "VP8"
    case vp9 = "VP9"
    case h264 = "H264"
    case h265 = "H265"
    case av1 = "AV1"

    /// Audio for Opus, video for all others.
    public var kind: MediaKind { self == .opus ? .audio : .video }

    /// RTP timestamp units per second.
    public var clockRate: UInt32 { self == .opus ? 48_000 : 90_000 }
}
