import Transport
import Wire

/// Tells a packet that belongs to a source's sequence from one that may begin another: an encoder that starts again keeps its SSRC, and
/// counts from anywhere (RFC 3550 A.1).
struct SequenceOrder {
    /// `MAX_MISORDER`: a packet that is further behind, and was not asked for, belongs to another sequence.
    static let maximumMisorder: UInt64 = 100
    /// `MAX_DROPOUT`: so does one that is so far ahead.
    static let maximumDropout: UInt64 = 3000
    /// And one that is this far ahead, when nobody could have sent what is between in the time that has passed.
    static let largeGap: UInt64 = 512
    /// No source sends faster: 100 Mbit/s.
    private static let shortestInterval = Duration.microseconds(100)

    private var unwrapper = SequenceNumberUnwrapper()
    private(set) var highest: UInt64?
    private var latestAt = Instant(nanoseconds: 0)

    /// The extended number of a packet that belongs to the sequence.
    ///
    /// - Parameters:
    ///   - arrivedAt: When it reached this machine: what was read in one turn need not have come at once.
    ///   - isMissing: Whether a packet is asked for again: that one may come late.
    /// - Returns: Nil when it does not belong there.
    mutating func place(_ sequenceNumber: UInt16, arrivedAt: Instant, isMissing: (UInt64) -> Bool) -> UInt64? {
        let sequence = unwrapper.nearest(to: sequenceNumber)
        if let highest {
            if sequence > highest {
                let gap = sequence - highest - 1
                if gap >= Self.maximumDropout { return nil }
                if gap > Self.largeGap, arrivedAt - latestAt < Self.shortestInterval * Int(gap) { return nil }
            } else if highest - sequence >= Self.maximumMisorder, !isMissing(sequence) {
                return nil
            }
        }
        latestAt = arrivedAt
        highest = max(highest ?? 0, unwrapper.unwrap(sequenceNumber))
        return sequence
    }

    /// The extended number of a packet that came by another way, such as RTX: it moves nothing.
    ///
    /// - Returns: Nil when it is too far away to be the sequence's.
    func placeOfRetransmission(_ sequenceNumber: UInt16) -> UInt64? {
        guard let highest else { return nil }
        let sequence = unwrapper.nearest(to: sequenceNumber)
        return sequence <= highest + Self.maximumMisorder ? sequence : nil
    }
}

/// A packet that does not belong to its source's sequence. It is kept until the next one: when that follows it, both begin a new one.
struct OutlyingPacket {
    let bytes: [UInt8]
    let header: RTPHeader
    let record: PacketRecord
    let audioLevel: UInt8?

    /// Whether this number comes directly behind it.
    func isFollowed(by sequenceNumber: UInt16) -> Bool { sequenceNumber == header.sequenceNumber &+ 1 }
}
