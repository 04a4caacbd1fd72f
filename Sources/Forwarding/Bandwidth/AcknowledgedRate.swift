import Transport

/// How fast the viewer gets what it is sent, by the arrivals that it reports.
struct AcknowledgedRate {
    /// Bytes are counted in steps of 25 ms, over the last 400 ms.
    private static let step = Duration.milliseconds(25)
    private static let steps = 16
    private static let recentSteps = 6
    private static let leastSteps: UInt64 = 8
    private static let leastPackets = 6

    private var bytes = InlineArray<16, Int>(repeating: 0)
    private var packets = InlineArray<16, Int>(repeating: 0)
    /// Number of the step that arrives now, and of the first one that was counted.
    private var latest: UInt64?
    private var first: UInt64 = 0

    /// - Parameter arrival: On the viewer's clock.
    mutating func add(_ byteCount: Int, arrival: Instant) {
        let number = arrival.nanoseconds / UInt64(Self.step.wholeNanoseconds)
        if let latest {
            // What overtook others counts with them.
            if number > latest {
                let passed = min(number - latest, UInt64(Self.steps))
                for offset in 1...passed {
                    let place = Int((number - passed + offset) % UInt64(Self.steps))
                    bytes[place] = 0
                    packets[place] = 0
                }
                // It begins anew after a silence.
                if number - latest >= UInt64(Self.steps) { first = number }
                self.latest = number
            }
        } else {
            latest = number
            first = number
        }
        guard let latest else { return }
        bytes[Int(latest % UInt64(Self.steps))] += byteCount
        packets[Int(latest % UInt64(Self.steps))] += 1
    }

    /// In bits per second; nil while too little is known.
    var bitsPerSecond: Double? { bitsPerSecond(overLast: Self.steps) }

    /// The same of the last moment only, which is much or little by chance, except where a queue stands: then packets arrive as fast as
    /// the bottleneck lets them.
    var bottleneckBitsPerSecond: Double? {
        // A slow one lets few through.
        bitsPerSecond(overLast: Self.recentSteps) ?? bitsPerSecond(overLast: Self.steps, leastPackets: 2)
    }

    private func bitsPerSecond(overLast count: Int, leastPackets: Int = Self.leastPackets) -> Double? {
        guard let latest, latest - first >= Self.leastSteps else { return nil }
        let spanned = min(latest - first + 1, UInt64(count))
        var bytes = 0
        var packets = 0
        for offset in 0..<spanned {
            bytes += self.bytes[Int((latest - offset) % UInt64(Self.steps))]
            packets += self.packets[Int((latest - offset) % UInt64(Self.steps))]
        }
        // Behind a pause there are few, which say little.
        guard packets >= leastPackets else { return nil }
        // The step that is under way is only half known.
        return Double(bytes * 8) / ((Double(spanned) - 0.5) * Self.step.seconds)
    }
}
