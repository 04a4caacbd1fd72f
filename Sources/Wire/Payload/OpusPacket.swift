/// The table-of-contents byte of an Opus packet (RFC 6716 §3.1).
public struct OpusPacket: Sendable, BitwiseCopyable, Hashable {
    /// One frame's duration in samples at 48 kHz: 120 to 2880.
    public var frameSamples: Int
    /// 1 to 48.
    public var frameCount: Int
    public var isStereo: Bool

    /// - Returns: Nil when the payload is empty, or says that it is longer than 120 ms.
    public init?(parsing payload: RawSpan) {
        guard payload.byteCount >= 1 else { return nil }
        let contents = payload.byte(at: 0)
        let configuration = contents >> 3
        switch configuration {
        case 0..<12: frameSamples = [480, 960, 1920, 2880][Int(configuration & 3)]
        case 12..<16: frameSamples = [480, 960][Int(configuration & 1)]
        default: frameSamples = [120, 240, 480, 960][Int(configuration & 3)]
        }
        isStereo = contents & 0x04 != 0
        switch contents & 0x03 {
        case 0: frameCount = 1
        case 1, 2: frameCount = 2
        default:
            guard payload.byteCount >= 2 else { return nil }
            frameCount = Int(payload.byte(at: 1) & 0x3F)
        }
        guard frameCount > 0, frameCount * frameSamples <= 5760 else { return nil }
    }
}
