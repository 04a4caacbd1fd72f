public import Wire

/// Datagrams on their way to the kernel, one behind the other in one slab. Those that follow each other to one destination and
/// are equally long, but for a last shorter one, are one message: the kernel takes it whole and cuts it itself (UDP GSO).
///
/// Invariant: messages `first ..< end` are filled, and their bytes lie in the slab in this order, without gaps, up to
/// `usedBytes`. Whoever flushes takes messages from the front; while the kernel takes none, they wait here.
public final class EgressBatch {
    /// One or more datagrams to one destination.
    public struct Message: BitwiseCopyable {
        /// Where its bytes begin in the slab.
        var offset: Int
        /// Bytes of all its datagrams.
        public internal(set) var byteCount: Int
        /// Bytes of each datagram; the last one may have fewer.
        public internal(set) var segmentBytes: Int
        /// Datagrams in it.
        public internal(set) var segmentCount: Int
        public internal(set) var destination: AddressPair
    }

    /// Longest datagram in bytes: an Ethernet frame's worth of UDP payload.
    public static let slotBytes = 1536
    /// Most datagrams in one message, which is what old kernels take (`UDP_MAX_SEGMENTS`).
    static let maximumSegments = 64
    /// Most bytes of one message: an IP packet has 65,535, headers included.
    static let maximumMessageBytes = 65_000

    /// Bytes at which a batch should be flushed. What was sealed is then still in the processor's cache when the kernel copies it.
    static let flushBytes = 256 * 1024
    /// Bytes at which it is full.
    private static let capacityBytes = 4 << 20
    private static let capacityMessages = 4096

    /// Bytes that wait, those of messages already taken included.
    private(set) var usedBytes = 0
    /// Datagrams that wait.
    public private(set) var datagramCount = 0

    private let slab: UnsafeMutableRawPointer
    private let messages: UnsafeMutablePointer<Message>
    private var first = 0
    private var end = 0

    public init() {
        slab = .allocate(byteCount: Self.capacityBytes, alignment: 64)
        messages = .allocate(capacity: Self.capacityMessages)
    }

    deinit {
        slab.deallocate()
        messages.deallocate()
    }

    /// Whether nothing waits.
    public var isEmpty: Bool { first == end }
    /// Messages that wait.
    public var messageCount: Int { end - first }

    /// Whether it is time to flush.
    @inline(__always)
    var wantsFlush: Bool { usedBytes >= Self.flushBytes || end == Self.capacityMessages }

    /// Whether this many datagrams of any length fit.
    @inline(__always)
    func hasRoom(for datagrams: Int) -> Bool {
        usedBytes + datagrams * Self.slotBytes <= Self.capacityBytes && end + datagrams <= Self.capacityMessages
    }

    /// Where the next datagram goes: `slotBytes` bytes. There must be room for it.
    @inline(__always)
    var freeSlot: UnsafeMutableRawPointer { slab + usedBytes }

    /// Takes the next datagram, whose `length` bytes lie in the free slot. One of no length, which could not be sealed, is
    /// left out.
    @inline(__always)
    func commit(length: Int, to destination: AddressPair) {
        guard length > 0 else { return }
        datagramCount += 1
        let offset = usedBytes
        usedBytes += length
        if end > first {
            let last = messages + (end - 1)
            let isWhole = last.pointee.byteCount == last.pointee.segmentBytes * last.pointee.segmentCount
            if isWhole, length <= last.pointee.segmentBytes, last.pointee.segmentCount < Self.maximumSegments,
                last.pointee.byteCount + length <= Self.maximumMessageBytes, last.pointee.destination == destination
            {
                last.pointee.byteCount += length
                last.pointee.segmentCount += 1
                return
            }
        }
        (messages + end).initialize(
            to: Message(
                offset: offset,
                byteCount: length,
                segmentBytes: length,
                segmentCount: 1,
                destination: destination
            )
        )
        end += 1
    }

    /// A message that waits.
    ///
    /// - Parameter index: 0 is the oldest.
    @inline(__always)
    public func message(at index: Int) -> Message {
        precondition(index >= 0 && index < messageCount)
        return messages[first + index]
    }

    /// A message's bytes, valid until it is removed.
    @inline(__always)
    public func bytes(of message: Message) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: slab + message.offset, count: message.byteCount)
    }

    /// Forgets the oldest messages, which the kernel has taken or never will.
    public func removeFirst(_ count: Int) {
        precondition(count >= 0 && count <= messageCount)
        for index in first..<(first + count) { datagramCount -= messages[index].segmentCount }
        first += count
        if first == end {
            removeAll()
        } else if first > Self.capacityMessages / 2 || messages[first].offset > Self.capacityBytes / 2 {
            moveToFront()
        }
    }

    /// Forgets the oldest datagrams; of a message that is only partly among them, the rest stays.
    public func removeFirstDatagrams(_ count: Int) {
        var left = count
        while left > 0, first < end {
            if messages[first].segmentCount <= left {
                left -= messages[first].segmentCount
                removeFirst(1)
            } else {
                messages[first].offset += left * messages[first].segmentBytes
                messages[first].byteCount -= left * messages[first].segmentBytes
                messages[first].segmentCount -= left
                datagramCount -= left
                left = 0
            }
        }
    }

    /// Forgets everything.
    public func removeAll() {
        first = 0
        end = 0
        usedBytes = 0
        datagramCount = 0
    }

    private func moveToFront() {
        let start = messages[first].offset
        (slab).copyMemory(from: slab + start, byteCount: usedBytes - start)
        for index in first..<end {
            var message = messages[index]
            message.offset -= start
            messages[index - first] = message
        }
        end -= first
        first = 0
        usedBytes -= start
    }
}
