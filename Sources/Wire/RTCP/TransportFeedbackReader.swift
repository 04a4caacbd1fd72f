/// Steps through what a feedback packet of transport-wide congestion control tells (draft-holmer-rmcat-transport-wide-cc-extensions-01
/// §3.1), without keeping it. It takes no more steps than the packet has bytes, however many packets it tells of.
public struct TransportFeedbackReader: Sendable {
    public enum Item: Sendable, Hashable {
        /// The next packet arrived at this time, in ticks of `TransportFeedback.tickMicroseconds` since the reference clock's start.
        case received(ticks: Int64)
        /// The next packets have not arrived.
        case missing(count: Int)
    }

    /// The transport-wide sequence number of the first packet.
    public let baseSequence: UInt16
    /// How many packets it tells of.
    public let packetCount: Int
    /// Grows by one with each feedback packet, and wraps.
    public let number: UInt8
    /// The reference time in ticks. It wraps after 24 bits of 64 ms, 12 days.
    public let referenceTicks: Int64

    /// The clock of the reference time starts anew after so many ticks.
    public static let referenceWrapTicks = TransportFeedback.ticksPerReference << 24

    private var chunkOffset: Int
    private var deltaOffset: Int
    private var ticks: Int64
    /// Packets that are not told of yet.
    private var remaining: Int
    private var chunk = Chunk()

    /// A packet status chunk, of which some symbols have been read.
    private struct Chunk: Sendable {
        private var bits: UInt16 = 0
        private var isRun = false
        private var isTwoBit = false
        private(set) var left = 0

        init() {}

        /// - Parameter remaining: No more symbols than this mean anything.
        init(_ bits: UInt16, remaining: Int) {
            self.bits = bits
            isRun = bits & 0x8000 == 0
            isTwoBit = bits & 0x4000 != 0
            left = min(remaining, isRun ? Int(bits & 0x1FFF) : isTwoBit ? 7 : 14)
        }

        /// The next symbol, and how many in a row are the same. There must be one left.
        mutating func next() -> (symbol: UInt16, count: Int) {
            if isRun {
                defer { left = 0 }
                return (bits >> 13 & 3, left)
            }
            left -= 1
            // The first symbol is the highest.
            if isTwoBit {
                let symbol = bits >> 12 & 3
                bits <<= 2
                return (symbol, 1)
            }
            let symbol = bits >> 13 & 1
            bits <<= 1
            return (symbol, 1)
        }

        /// Counts a received packet of a run; the others are left.
        mutating func takeOneOfRun(of count: Int) { left = count - 1 }
    }

    /// - Parameters: `offset` and `length` as `RTCPPacket.transportFeedback` gave them, of `bytes`.
    /// - Returns: Nil when the bytes end before what they announce.
    public init?(offset: Int, length: Int, in bytes: RawSpan) {
        let end = offset + length
        guard offset >= 0, length >= 8, end <= bytes.byteCount else { return nil }
        baseSequence = bytes.uint16(at: offset)
        packetCount = Int(bytes.uint16(at: offset + 2))
        referenceTicks = Int64(bytes.uint24(at: offset + 4)) * TransportFeedback.ticksPerReference
        number = bytes.byte(at: offset + 7)
        remaining = packetCount
        ticks = referenceTicks
        chunkOffset = offset + 8

        // Where the deltas begin, and whether all of them are there.
        var cursor = chunkOffset
        var told = 0
        var deltaBytes = 0
        while told < packetCount {
            guard cursor + 2 <= end else { return nil }
            var chunk = Chunk(bytes.uint16(at: cursor), remaining: packetCount - told)
            guard chunk.left > 0 else { return nil }
            cursor += 2
            told += chunk.left
            while chunk.left > 0 {
                let (symbol, count) = chunk.next()
                deltaBytes += Self.deltaBytes(symbol) * count
            }
        }
        guard cursor + deltaBytes <= end else { return nil }
        deltaOffset = cursor
    }

    /// What it tells next; nil at its end.
    ///
    /// - Parameter bytes: The same as it was made with.
    public mutating func next(in bytes: RawSpan) -> Item? {
        guard remaining > 0 else { return nil }
        if chunk.left == 0 {
            chunk = Chunk(bytes.uint16(at: chunkOffset), remaining: remaining)
            chunkOffset += 2
        }
        let (symbol, count) = chunk.next()
        switch Self.deltaBytes(symbol) {
        case 1:
            ticks += Int64(bytes.byte(at: deltaOffset))
            deltaOffset += 1
        case 2:
            ticks += Int64(Int16(bitPattern: bytes.uint16(at: deltaOffset)))
            deltaOffset += 2
        default:
            remaining -= count
            return .missing(count: count)
        }
        if count > 1 { chunk.takeOneOfRun(of: count) }
        remaining -= 1
        return .received(ticks: ticks)
    }

    /// A small delta takes a byte, a large one two; the symbol 3 is reserved and means nothing.
    private static func deltaBytes(_ symbol: UInt16) -> Int { symbol == 1 ? 1 : symbol == 2 ? 2 : 0 }
}
