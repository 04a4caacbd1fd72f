/// Which packets of one source have been received (RFC 3711 §3.3.2): of the last ones each, of those before in which ranges they lay.
///
/// A sender that starts again may go on anywhere, which is no replay. So an index outside of the window is accepted where no other was
/// near, and the window moves there. No index is accepted twice.
struct ReplayWindow {
    /// Packets that the window reaches back: as far as a retransmission may come late at 1000 packets a second.
    static let size: UInt64 = 1024
    /// So far ahead a sender starts again, rather than that so much was lost (RFC 3550 A.1).
    static let newBeginning: UInt64 = 3000
    /// Ranges that are remembered; where there are more, those that are closest to each other become one.
    static let maximumRanges = 8

    /// The highest index received; nil before the first.
    private(set) var highest: UInt64?
    /// The range that the window is the end of.
    private var lowest: UInt64 = 0
    private var end: UInt64 = 0
    /// Bit `i mod 1024` is set when index `i`, of the last 1024 up to `end`, was received.
    private var bits = InlineArray<16, UInt64>(repeating: 0)
    /// Where the window lay before, in ascending order: all in these ranges counts as received.
    private var used: [ClosedRange<UInt64>] = []

    init() {}

    /// The window of a source that comes back: all up to an index counts as received.
    init(after highest: UInt64?) {
        guard let highest else { return }
        self.highest = highest
        end = highest
        bits = InlineArray(repeating: .max)
    }

    /// Whether a packet with this index is neither a replay nor too old to tell.
    func accepts(_ index: UInt64) -> Bool {
        guard highest != nil else { return true }
        if !used.isEmpty, used.contains(where: { $0.contains(index) }) { return false }
        if index > end { return true }
        if end - index < Self.size { return !contains(index) }
        return index < lowest
    }

    /// Whether an index lies before what the window reaches.
    func isTooOld(_ index: UInt64) -> Bool { highest.map { index <= $0 && $0 - index >= Self.size } ?? false }

    /// Notes a packet that was accepted and found authentic.
    mutating func insert(_ index: UInt64) {
        if highest == nil {
            lowest = index
            end = index
        } else if index > end {
            if index - end >= Self.newBeginning {
                move(to: index)
            } else if index - end >= Self.size {
                bits = InlineArray(repeating: 0)
                end = index
            } else {
                var skipped = end + 1
                while skipped < index {
                    clear(skipped)
                    skipped += 1
                }
                end = index
            }
        } else if end - index >= Self.size {
            move(to: index)
        }
        lowest = min(lowest, index)
        highest = max(highest ?? 0, index)
        let place = Int(index & (Self.size - 1))
        bits[place >> 6] |= 1 << UInt64(place & 63)
    }

    /// Begins another range.
    private mutating func move(to index: UInt64) {
        used.append(lowest...end)
        used.sort { $0.lowerBound < $1.lowerBound }
        if used.count > Self.maximumRanges {
            let closest = used.indices.dropLast().min { gap(after: $0) < gap(after: $1) }
            if let closest {
                let end = max(used[closest].upperBound, used[closest + 1].upperBound)
                used.replaceSubrange(closest...(closest + 1), with: [used[closest].lowerBound...end])
            }
        }
        bits = InlineArray(repeating: 0)
        lowest = index
        end = index
    }

    private func gap(after place: Int) -> UInt64 {
        let next = used[place + 1].lowerBound
        return next - min(next, used[place].upperBound)
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
