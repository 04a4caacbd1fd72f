extension Codec {
    /// Whether a decoder that has seen nothing yet can start with the packet that carries this payload. Always so for
    /// audio. A payload that can't be parsed starts nothing.
    @inlinable
    public func startsKeyframe(payload: RawSpan) -> Bool {
        switch self {
        case .opus: true
        case .vp8: VP8Descriptor(parsing: payload)?.startsKeyframe ?? false
        case .vp9: VP9Descriptor(parsing: payload)?.startsKeyframe ?? false
        case .h264: H264Payload(parsing: payload)?.startsKeyframe ?? false
        case .h265: H265Payload(parsing: payload)?.startsKeyframe ?? false
        case .av1: AV1AggregationHeader(parsing: payload)?.startsKeyframe ?? false
        }
    }
}
