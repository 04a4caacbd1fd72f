import Transport

/// What RFC 3550 §6.4.1 has a receiver count of one RTP source. Retransmissions on an RTX source don't enter here.
struct ReceptionStatistics {
    private let clockRate: Double
    private var firstSequence: UInt64?
    private(set) var highestSequence: UInt64 = 0
    /// Packets received, duplicates left out.
    private(set) var received: UInt64 = 0
    /// Bytes of RTP packets received, headers included, encryption left out.
    private(set) var bytes: UInt64 = 0
    private var expectedAtReport: UInt64 = 0
    private var receivedAtReport: UInt64 = 0
    private var jitter: Double = 0
    private var lastTransit: Double?
    private var rateWindowStart: Instant?
    private var rateWindowBytes: UInt64 = 0
    /// Received bits per second over the last whole second.
    private(set) var bitsPerSecond: Double = 0

    init(clockRate: UInt32) { self.clockRate = Double(clockRate) }

    /// Packets that the source has sent, as far as its sequence numbers tell.
    var expected: UInt64 { firstSequence.map { highestSequence - $0 + 1 } ?? 0 }

    /// The highest sequence number with its cycles, as a report block has it.
    var extendedHighestSequence: UInt32 { UInt32(truncatingIfNeeded: highestSequence &- 1 << 16) }

    /// Expected less received.
    var lost: Int64 { Int64(clamping: expected) - Int64(clamping: received) }

    /// Interarrival jitter in seconds.
    var jitterSeconds: Double { jitter / clockRate }

    /// Interarrival jitter in timestamp units.
    var jitterUnits: UInt32 { UInt32(clamping: Int64(jitter)) }

    /// Counts one packet that was not seen before.
    ///
    /// - Parameter arrival: When it reached this machine: jitter is the network's, not how long it waited to be read.
    mutating func record(sequence: UInt64, timestamp: UInt32, byteCount: Int, arrivedAt arrival: Instant, now: Instant)
    {
        // RFC 3550 A.1 counts from the first packet; one that was sent before it and comes later widens the range.
        firstSequence = min(firstSequence ?? sequence, sequence)
        highestSequence = max(highestSequence, sequence)
        received += 1
        bytes += UInt64(byteCount)

        // RFC 3550 A.8. The transit time's absolute value means nothing, so wrapping differences are enough.
        let arrivalUnits = Double(arrival.nanoseconds) * 1e-9 * clockRate
        let transit = arrivalUnits - Double(timestamp)
        if let lastTransit {
            let difference = abs(transit - lastTransit)
            // A timestamp that wrapped or jumped is no jitter.
            if difference < clockRate * 10 { jitter += (difference - jitter) / 16 }
        }
        lastTransit = transit

        if let start = rateWindowStart, now < start + .seconds(1) {
            rateWindowBytes += UInt64(byteCount)
        } else {
            if let start = rateWindowStart {
                bitsPerSecond = Double(rateWindowBytes) * 8 / max((now - start).seconds, 1)
            }
            rateWindowStart = now
            rateWindowBytes = UInt64(byteCount)
        }
    }

    /// Fraction lost since the last call, as 8-bit fixed point (RFC 3550 A.3).
    mutating func takeFractionLost() -> UInt8 {
        let expectedInterval = Int64(clamping: expected) - Int64(clamping: expectedAtReport)
        let receivedInterval = Int64(clamping: received) - Int64(clamping: receivedAtReport)
        expectedAtReport = expected
        receivedAtReport = received
        let lostInterval = expectedInterval - receivedInterval
        guard expectedInterval > 0, lostInterval > 0 else { return 0 }
        return UInt8(clamping: lostInterval * 256 / expectedInterval)
    }
}
