/// How many packets a viewer may have sent again: what is sent again may be lost too, and asked for without end.
struct RetransmissionBudget {
    /// At most as many as were forwarded, plus this many.
    private static let burst = 256
    /// While too much is sent, at most one in so many of those, plus this many.
    private static let congestedShare = 10
    private static let congestedBurst = 10

    private var credit = burst
    /// In parts of a packet.
    private var congestedCredit = congestedBurst * congestedShare

    var isLeft: Bool { credit > 0 }
    var isLeftWhileCongested: Bool { congestedCredit >= Self.congestedShare }

    /// So many packets were forwarded.
    mutating func earn(_ packets: Int) {
        credit = min(credit + packets, Self.burst)
        congestedCredit = min(congestedCredit + packets, Self.congestedBurst * Self.congestedShare)
    }

    /// One was sent again.
    mutating func take(isCongested: Bool) {
        credit -= 1
        if isCongested { congestedCredit -= Self.congestedShare }
    }
}
