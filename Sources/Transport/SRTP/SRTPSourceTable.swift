/// The sources that one peer sends, by SSRC, each with what is known of its packets' indexes.
///
/// A bounded number has a replay window. When another source appears, the one that was silent for longest gives way (RFC 3550
/// §6.3.5); its highest index is kept for as long as the keys are in use (RFC 3711 §3.3.2), so that nothing of it is accepted twice. A
/// source that comes back goes on from there.
struct SRTPSourceTable {
    /// What is known of a source.
    enum Place {
        /// It has a window.
        case active(Int)
        /// It gave way.
        case retired(highest: UInt64)
        case new
        /// It is new, and no more are remembered.
        case full
    }

    /// Most sources that gave way: 16 bytes and a table's share each, and only the peer with the keys can add one. No client begins so
    /// many in one session.
    static let maximumRetired = 2048

    private let capacity: Int
    private var ssrcs: ContiguousArray<UInt32> = []
    private var windows: ContiguousArray<ReplayWindow> = []
    /// When each was used last, counted in packets.
    private var usedAt: ContiguousArray<UInt64> = []
    private var packets: UInt64 = 0
    private var retired: [UInt32: UInt64] = [:]

    /// - Parameter capacity: Sources that have a window.
    init(capacity: Int) {
        self.capacity = max(1, capacity)
        ssrcs.reserveCapacity(4)
        windows.reserveCapacity(4)
        usedAt.reserveCapacity(4)
    }

    @inline(__always)
    func find(_ ssrc: UInt32) -> Place {
        for index in ssrcs.indices where ssrcs[index] == ssrc { return .active(index) }
        if ssrcs.count < capacity { return .new }
        if let highest = retired[ssrc] { return .retired(highest: highest) }
        return retired.count < Self.maximumRetired ? .new : .full
    }

    /// The highest index received of a source; nil before the first.
    @inline(__always)
    func highest(at place: Place) -> UInt64? {
        switch place {
        case .active(let index): windows[index].highest
        case .retired(let highest): highest
        case .new, .full: nil
        }
    }

    /// Whether a packet with this index is neither a replay nor too old to tell.
    @inline(__always)
    func accepts(_ packetIndex: UInt64, at place: Place) -> Bool {
        switch place {
        case .active(let index): windows[index].accepts(packetIndex)
        case .retired(let highest): packetIndex > highest
        case .new: true
        case .full: false
        }
    }

    /// Whether nobody knows any more if a packet with this index was received.
    func isTooOld(_ packetIndex: UInt64, at place: Place) -> Bool {
        switch place {
        case .active(let index): windows[index].isTooOld(packetIndex)
        case .retired(let highest): packetIndex <= highest
        case .new, .full: false
        }
    }

    /// Notes a packet that was accepted and found authentic.
    ///
    /// - Parameter place: What `find` said of the source, nothing having been noted since.
    @inline(__always)
    mutating func note(_ packetIndex: UInt64, of ssrc: UInt32, at place: Place) {
        packets += 1
        if case .active(let index) = place {
            windows[index].insert(packetIndex)
            usedAt[index] = packets
        } else {
            add(ssrc, packetIndex, highestBefore: highest(at: place))
        }
    }

    private mutating func add(_ ssrc: UInt32, _ packetIndex: UInt64, highestBefore: UInt64?) {
        var window = ReplayWindow(after: highestBefore)
        window.insert(packetIndex)
        if ssrcs.count < capacity {
            ssrcs.append(ssrc)
            windows.append(window)
            usedAt.append(packets)
            return
        }
        guard let oldest = usedAt.indices.min(by: { usedAt[$0] < usedAt[$1] }) else { return }
        retired[ssrc] = nil
        retired[ssrcs[oldest]] = windows[oldest].highest ?? 0
        ssrcs[oldest] = ssrc
        windows[oldest] = window
        usedAt[oldest] = packets
    }
}
