import Transport
import Wire

/// How many bits a second each layer of an encoding takes on its way to a viewer, over the last one to two seconds.
struct LayerRates {
    private static let window = Duration.seconds(1)
    /// Less of it says little.
    private static let minimumSpan = Duration.milliseconds(300)
    /// What our header, SRTP's tag, UDP and IP add to a payload.
    private static let overheadBytes = 64
    /// Layers that are told apart in each direction; higher ones count as the highest.
    private static let side = 4

    /// By spatial, then by temporal layer.
    private var current = InlineArray<16, UInt32>(repeating: 0)
    private var before = InlineArray<16, UInt32>(repeating: 0)
    private var since: Instant?
    private var spanBefore = Duration.zero
    /// Bits per second of all layers in whole windows, with a minus: the least of the last seconds is the peak.
    private var negativePeak = MovingMinimum(window: .seconds(4))

    @inline(__always)
    mutating func add(_ record: PacketRecord) {
        if let since {
            if record.receivedAt - since >= Self.window * 2 {
                // After a silence: what was before it says nothing of what comes.
                before = InlineArray(repeating: 0)
                current = InlineArray(repeating: 0)
                spanBefore = .zero
                self.since = record.receivedAt
            } else if record.receivedAt - since >= Self.window {
                turn(at: record.receivedAt)
            }
        } else {
            since = record.receivedAt
        }
        let spatial = min(Int(record.layer.spatial), Self.side - 1)
        let temporal = min(Int(record.layer.temporal), Self.side - 1)
        current[spatial * Self.side + temporal] &+= UInt32(
            truncatingIfNeeded: record.payloadLength + Self.overheadBytes
        )
    }

    private mutating func turn(at now: Instant) {
        guard let since else { return }
        var bytes = 0
        for place in current.indices { bytes += Int(current[place]) }
        negativePeak.observe(-Int64(Double(bytes * 8) / (now - since).seconds), at: now)
        before = current
        current = InlineArray(repeating: 0)
        spanBefore = now - since
        self.since = now
    }

    /// How many times the present rate the highest of the last seconds was; at least 1. What varies that much needs more room.
    func peakFactor(now: Instant) -> Double {
        guard negativePeak.value < 0, let rate = bitsPerSecond(upTo: .none, now: now), rate > 0 else { return 1 }
        return min(2, max(1, Double(-negativePeak.value) / rate))
    }

    /// Of all layers up to a limit, in bits per second; nil while too little is known.
    func bitsPerSecond(upTo limit: LayerLimit, now: Instant) -> Double? {
        guard let since else { return nil }
        let span = spanBefore + (now - since)
        guard span >= Self.minimumSpan else { return nil }
        var bytes = 0
        for spatial in 0...min(Int(limit.spatial), Self.side - 1) {
            for temporal in 0...min(Int(limit.temporal), Self.side - 1) {
                bytes += Int(current[spatial * Self.side + temporal]) + Int(before[spatial * Self.side + temporal])
            }
        }
        return Double(bytes * 8) / span.seconds
    }
}
