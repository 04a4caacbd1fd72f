/// Which of the last packets of one source have been received (RFC 3711 §3.3.2).
struct ReplayWindow {
    /// Packets that the window reaches back: as far as a retransmission may come late at 1000 packets a second.
    static let size: UInt64 = 1024

    /// The highest index received; nil before the first.
    private(set) var highest: UInt64?
    /// Bit `i mod 1024` is set when index `i`, of the last 1024, was received.
    private var bits = InlineArray<16, UInt64>(repeating: 0)

    /// Whether a packet with this index is neither a replay nor too old to tell.
    func accepts(_ index: UInt64) -> Bool {
        guard let highest, index <= highest else { return true }
        return highest - index < Self.size && !contains(index)
    }

    /// Whether an index lies before what the window reaches.
    func isTooOld(_ index: UInt64) -> Bool { highest.map { index <= $0 && $0 - index >= Self.size } ?? false }

    /// Notes a packet that was accepted and found authentic.
    mutating func insert(_ index: UInt64) {
        if let highest {
            if index > highest {
                if index - highest >= Self.size {
                    bits = InlineArray(repeating: 0)
                } else {
                    var skipped = highest + 1
                    while skipped < index {
                        clear(skipped)
                        skipped += 1
                    }
                }
                self.highest = index
            }
        } else {
            highest = index
        }
        let place = Int(index & (Self.size - 1))
        bits[place >> 6] |= 1 << UInt64(place & 63)
    }

    private func contains(_ index: UInt64) -> Bool {
        let place = Int(index & (Self.size - 1))
        return bits[place >> 6] & 1 << UInt64(place & 63) != 0
    }

    private mutating func clear(_ index: UInt64) {
        let place = Int(index & (Self.size - 1))
        bits[place >> 6] &= ~(1 << UInt64(place & 63))
    }
}
