/// How many bytes the histories of one publisher may take, those of its address, or those of a worker; each within the next.
final class HistoryBudget {
    private let limit: Int
    private(set) var used = 0
    /// What it is part of. Set before anything is taken.
    var whole: HistoryBudget?
    /// Peers whose budgets are part of it.
    var peerCount = 0

    init(limit: Int, whole: HistoryBudget? = nil) {
        self.limit = limit
        self.whole = whole
    }

    /// Takes bytes, when there are as many left.
    func take(_ byteCount: Int) -> Bool {
        guard hasRoom(for: byteCount) else { return false }
        takeAnyhow(byteCount)
        return true
    }

    /// Takes what can't be done without.
    func takeAnyhow(_ byteCount: Int) {
        used += byteCount
        whole?.takeAnyhow(byteCount)
    }

    func giveBack(_ byteCount: Int) {
        used -= byteCount
        whole?.giveBack(byteCount)
    }

    private func hasRoom(for byteCount: Int) -> Bool {
        used + byteCount <= limit && (whole?.hasRoom(for: byteCount) ?? true)
    }
}
