/// The packets of one batch on their way to one viewer, and the padding that makes them equally long.
///
/// The kernel cuts a message into equal datagrams (UDP GSO), only the last may be shorter. Encoders cut a frame into packets
/// that differ by a byte or so; a few bytes of RTP padding make one message of them.
///
/// Invariant: packets `0 ..< count` are filled; their pointers are the history's and valid for this turn.
final class PacketRun {
    struct Packet: BitwiseCopyable {
        var record: UnsafePointer<PacketRecord>
        /// Bytes of our header and the payload.
        var length: Int
        /// Bytes of RTP padding to add, 0 to `maximumPadding`.
        var padding = 0
    }

    /// Most bytes that a packet is lengthened by: more than encoders' packets differ by, and hardly more than 1 % of one.
    static let maximumPadding = 16

    private(set) var count = 0
    /// Of all of them, without padding.
    private(set) var byteCount = 0
    /// Packets that were left out because of overload.
    var shedCount = 0
    private let packets = UnsafeMutablePointer<Packet>.allocate(capacity: Encoding.maximumPending)

    deinit { packets.deallocate() }

    @inline(__always)
    subscript(index: Int) -> Packet {
        precondition(index >= 0 && index < count)
        return packets[index]
    }

    @inline(__always)
    func append(_ record: UnsafePointer<PacketRecord>, length: Int) {
        precondition(count < Encoding.maximumPending)
        (packets + count).initialize(to: Packet(record: record, length: length))
        count += 1
        byteCount += length
    }

    func removeAll() {
        count = 0
        byteCount = 0
        shedCount = 0
    }

    /// Forgets the packets, and not how many were left out.
    func removePackets() {
        count = 0
        byteCount = 0
    }

    /// Forgets those of the packets that something is true of.
    func removePackets(where isRemoved: (UnsafePointer<PacketRecord>) -> Bool) {
        let before = count
        removePackets()
        for index in 0..<before where !isRemoved(packets[index].record) {
            packets[count] = packets[index]
            byteCount += packets[index].length
            count += 1
        }
    }

    /// Pads packets to the longest of those around them, from each packet as far as the lengths are close to each other.
    func equalizeLengths() {
        var start = 0
        while start < count {
            var shortest = packets[start].length
            var longest = shortest
            var end = start + 1
            while end < count {
                let length = packets[end].length
                let low = min(shortest, length)
                let high = max(longest, length)
                if high - low > Self.maximumPadding { break }
                shortest = low
                longest = high
                end += 1
            }
            // The last one may be shorter than the others, when nothing of its size follows.
            if shortest != longest {
                for index in start..<end where index + 1 < end || end < count {
                    packets[index].padding = longest - packets[index].length
                }
            }
            start = end
        }
    }
}
