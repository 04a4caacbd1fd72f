import Transport

/// What was sent to a viewer lately, by transport-wide sequence number: the viewer's feedback says what became of it.
///
/// Packets that leave at one time are one entry, so that a frame of forty costs no more than one of audio. The log grows while it holds
/// less than feedback may be late, and keeps that size: steady state allocates nothing.
struct SendLog {
    struct Entry {
        /// The transport-wide sequence number of its first packet, extended beyond 16 bits.
        var first: UInt64
        var count: UInt32
        /// Of all its packets, IP and UDP headers included.
        var bytes: UInt32
        var sentAt: Instant
        /// The probe that it is part of, if not 0.
        var probe: UInt16

        var end: UInt64 { first + UInt64(count) }
        /// Of one of them. Those of a run are equally long but for the last.
        var bytesOfOne: Int { count == 0 ? 0 : Int(bytes / count) }
    }

    /// IPv4 and UDP. What IPv6 takes more is within the headroom of any allocation.
    static let headerBytes = 28
    private static let firstCapacity = 128
    private static let maximumCapacity = 4096
    /// Feedback that comes later says nothing of use.
    private static let memory = Duration.seconds(2)

    /// The number of the next packet.
    private(set) var next: UInt64 = 1
    /// A ring whose size is a power of two.
    private var entries: ContiguousArray<Entry> = []
    /// The oldest entry and the one behind the newest, counted since the beginning.
    private var start = 0
    private var end = 0

    /// Notes a packet, which is the next one.
    ///
    /// - Parameter byteCount: UDP payload.
    mutating func append(byteCount: Int, probe: UInt16 = 0, now: Instant) {
        defer { next += 1 }
        let bytes = UInt32(truncatingIfNeeded: byteCount + Self.headerBytes)
        if end > start {
            let last = (end - 1) & (entries.count - 1)
            if entries[last].sentAt == now, entries[last].probe == probe {
                entries[last].count += 1
                entries[last].bytes += bytes
                return
            }
        }
        if end - start == entries.count { makeRoom(now: now) }
        entries[end & (entries.count - 1)] = Entry(first: next, count: 1, bytes: bytes, sentAt: now, probe: probe)
        end += 1
    }

    /// The extended number of the latest packet with these 16 bits; nil when none was sent.
    func extended(_ number: UInt16) -> UInt64? {
        let behind = UInt64(UInt16(truncatingIfNeeded: next &- 1) &- number)
        return behind < next - 1 ? next - 1 - behind : nil
    }

    /// The place of the entry that a packet is part of, for `entry(at:)`; nil when it is forgotten, or was never sent.
    ///
    /// - Parameter hint: A place near which it is.
    func place(of sequence: UInt64, near hint: Int) -> Int? {
        guard end > start, sequence < next, sequence >= self[start].first else { return nil }
        var place = min(max(hint, start), end - 1)
        if self[place].first <= sequence, sequence < self[place].end { return place }
        if place + 1 < end, self[place + 1].first <= sequence, sequence < self[place + 1].end { return place + 1 }
        var low = start
        var high = end - 1
        while low < high {
            place = (low + high + 1) / 2
            if self[place].first <= sequence { low = place } else { high = place - 1 }
        }
        return low
    }

    func entry(at place: Int) -> Entry { self[place] }

    private subscript(place: Int) -> Entry { entries[place & (entries.count - 1)] }

    private mutating func makeRoom(now: Instant) {
        guard entries.isEmpty || (entries.count < Self.maximumCapacity && now - self[start].sentAt < Self.memory) else {
            start += 1
            return
        }
        var larger = ContiguousArray(
            repeating: Entry(first: 0, count: 0, bytes: 0, sentAt: now, probe: 0),
            count: max(Self.firstCapacity, entries.count * 2)
        )
        for place in start..<end { larger[place & (larger.count - 1)] = self[place] }
        entries = larger
    }
}
