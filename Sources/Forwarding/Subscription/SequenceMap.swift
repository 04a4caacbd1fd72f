import Wire

/// Which layers of an encoding a viewer is sent: those up to these.
struct LayerLimit: BitwiseCopyable, Equatable {
    var spatial: UInt8
    var temporal: UInt8

    /// All that there are.
    static let none = LayerLimit(spatial: .max, temporal: .max)
    static let lowest = LayerLimit(spatial: 0, temporal: 0)

    func limited(to other: LayerLimit) -> LayerLimit {
        LayerLimit(spatial: min(spatial, other.spatial), temporal: min(temporal, other.temporal))
    }

    func includes(_ layer: LayerInfo) -> Bool { layer.spatial <= spatial && layer.temporal <= temporal }

    /// Whether a packet ends a viewer's picture, though higher layers of it may follow for others: it needs a marker bit then
    /// (RFC 9628 §4.1; RTP payload format for AV1 v1.0 §4.2).
    func endsPicture(_ layer: LayerInfo) -> Bool { layer.spatial == spatial && layer.flags.contains(.endsFrame) }
}

/// How the packets of one encoding are numbered for one viewer: whole frames are left out in the middle, and the viewer sees no gap.
///
/// What is lost before us keeps its place: it may come late, and the viewer has to know that something is missing. So a packet is left out,
/// and its number given to the next, only when it comes in order. One that comes late and would be left out fills its place with padding.
struct SequenceMap {
    /// Packets in a row that are sent, those among them that are missing too.
    struct Span: BitwiseCopyable {
        /// The publisher's extended sequence number of the first of them, and of the first one behind them.
        var first: UInt64
        var end: UInt64
        /// Added, with wrapping, to the publisher's numbers.
        var offset: UInt64
        /// The same for the numbers of frames.
        var numbering: FrameNumbering
        /// What is sent of them.
        var limit: LayerLimit
    }

    /// Where packets are left out all the time, as many spans as frames are kept: those of a second at 60 frames a second.
    private static let capacity = 64

    /// The span that goes on.
    private(set) var current: Span
    /// Those before it, the oldest first, in a ring; empty while nothing was left out, which is most viewers' case.
    private var older: ContiguousArray<Span> = []
    private var oldest = 0
    /// The RTP timestamp of the frame that was left out last.
    private var omittedTimestamp: UInt32?

    /// - Parameters:
    ///   - first: The publisher's extended sequence number of the packet that the viewer starts with.
    ///   - offset: Added to it and to those that follow.
    init(first: UInt64, offset: UInt64, numbering: FrameNumbering, limit: LayerLimit = .none) {
        current = Span(first: first, end: .max, offset: offset, numbering: numbering, limit: limit)
    }

    /// From a packet on, another limit holds.
    mutating func change(to limit: LayerLimit, at sequence: UInt64) {
        guard limit != current.limit else { return }
        close(at: sequence, next: sequence)
        current.limit = limit
    }

    /// Leaves out the packet that comes next.
    ///
    /// - Parameters:
    ///   - sequence: Higher than those of all packets so far.
    ///   - timestamp: The publisher's: packets of one frame share it.
    ///   - countsFrames: Whether the numbers of frames are to have no gap either.
    mutating func omit(_ sequence: UInt64, timestamp: UInt32, countsFrames: Bool) {
        close(at: sequence, next: sequence + 1)
        current.offset &-= 1
        if countsFrames, omittedTimestamp != timestamp { current.numbering.leaveOutPicture() }
        omittedTimestamp = timestamp
    }

    /// The span of a packet; nil for one that was left out, and for one that is too old to be known.
    @inline(__always)
    func span(of sequence: UInt64) -> Span? {
        if sequence >= current.first { return current }
        return olderSpan { sequence >= $0.first }.flatMap { sequence < $0.end ? $0 : nil }
    }

    /// The span that an outgoing extended sequence number belongs to; nil for one that is too old to be known.
    @inline(__always)
    func span(ofOutgoing outgoing: UInt64) -> Span? {
        if outgoing >= current.first &+ current.offset { return current }
        return olderSpan { outgoing >= $0.first &+ $0.offset }
    }

    /// The latest of the older spans that `begins` is true of.
    private func olderSpan(where begins: (Span) -> Bool) -> Span? {
        for back in 1...max(1, older.count) where back <= older.count {
            let span = older[(oldest + older.count - back) % older.count]
            if begins(span) { return span }
        }
        return nil
    }

    /// Ends the current span before `end`, and begins another like it at `next`.
    private mutating func close(at end: UInt64, next: UInt64) {
        if current.first < end {
            var closed = current
            closed.end = end
            if older.count < Self.capacity {
                if older.isEmpty { older.reserveCapacity(Self.capacity) }
                older.append(closed)
            } else {
                older[oldest] = closed
                oldest = (oldest + 1) % Self.capacity
            }
        }
        current.first = next
    }
}
