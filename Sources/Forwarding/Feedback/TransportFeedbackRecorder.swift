import Transport
import Wire

/// Remembers when each packet of a publisher arrived, by its transport-wide sequence number, until that is reported
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3). Without these reports a libwebrtc sender never leaves its start
/// bitrate.
struct TransportFeedbackRecorder {
    /// Packets that one report covers at most; more than a fast publisher sends between two.
    private static let capacity = 2048
    private static let nanosecondsPerTick = UInt64(TransportFeedback.tickMicroseconds) * 1_000

    private var unwrapper = SequenceNumberUnwrapper()
    /// The number that `arrivals` begins with.
    private var base: UInt64 = 0
    /// In ticks, or `TransportFeedback.notReceived`.
    private var arrivals: ContiguousArray<Int64> = []
    private var firstPendingAt: Instant?
    private var mediaSSRC: UInt32 = 0
    private var count: UInt8 = 0

    init() {
        arrivals.reserveCapacity(Self.capacity)
    }

    /// Notes a packet's arrival. One that comes after its number was reported as missing is left out: its loss has been
    /// acted upon.
    ///
    /// - Parameter arrival: When it reached this machine, which may be long before it was read.
    mutating func record(_ number: UInt16, mediaSSRC: UInt32, arrivedAt arrival: Instant, now: Instant) {
        let sequence = unwrapper.unwrap(number)
        self.mediaSSRC = mediaSSRC
        if base == 0 { base = sequence }
        guard sequence >= base else { return }
        if sequence - base >= UInt64(Self.capacity) {
            // A jump this far is a new beginning.
            arrivals.removeAll(keepingCapacity: true)
            base = sequence
        }
        let index = Int(sequence - base)
        while arrivals.count <= index { arrivals.append(TransportFeedback.notReceived) }
        arrivals[index] = Int64(clamping: arrival.nanoseconds / Self.nanosecondsPerTick)
        if firstPendingAt == nil { firstPendingAt = now }
    }

    /// When `writeNext` has to be called next; nil while nothing waits.
    func deadline(interval: Duration) -> Instant? { firstPendingAt.map { $0 + interval } }

    /// Appends one feedback packet about what waits.
    ///
    /// - Returns: False when nothing waits. Call again until then: a report that would be too long is split.
    mutating func writeNext(sender: UInt32, to buffer: inout [UInt8]) -> Bool {
        // A report begins with a packet that arrived: what is missing before it is reported with it or never.
        guard firstPendingAt != nil else { return false }
        let written = arrivals.withUnsafeBufferPointer { arrivals in
            TransportFeedback.write(
                sender: sender,
                media: mediaSSRC,
                baseSequence: UInt16(truncatingIfNeeded: base),
                count: count,
                arrivals: arrivals[...],
                to: &buffer
            )
        }
        guard written > 0 else {
            arrivals.removeAll(keepingCapacity: true)
            firstPendingAt = nil
            return false
        }
        count &+= 1
        base += UInt64(written)
        arrivals.removeFirst(written)
        if arrivals.isEmpty { firstPendingAt = nil }
        return true
    }
}
