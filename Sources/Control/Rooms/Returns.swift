/// The stays of a room that their clients ended because their page went away: it may only be loaded again.
///
/// Whoever presents the secret of one comes back as what they were, once and for a while. Nobody collects them: what a guest has is
/// worth nothing any more once the host has locked the room or removed somebody.
struct Returns: Sendable {
    struct Ticket: Sendable, Equatable {
        let resumption: String
        let isHost: Bool
        /// Never logged.
        let address: String
        let expires: ContinuousClock.Instant
    }

    private let capacity: Int
    private var tickets: [Ticket] = []

    /// - Parameter capacity: Tickets at most.
    init(capacity: Int) { self.capacity = capacity }

    /// Whether a host may still come back: until then the room waits for it.
    func awaitsHost(at now: ContinuousClock.Instant) -> Bool { tickets.contains { $0.isHost && $0.expires > now } }

    mutating func add(_ ticket: Ticket, at now: ContinuousClock.Instant) {
        tickets.removeAll { $0.expires <= now }
        tickets.append(ticket)
        // However many guests leave, they cost no host its return.
        if tickets.count > capacity { tickets.remove(at: tickets.firstIndex { !$0.isHost } ?? 0) }
    }

    func ticket(_ resumption: String?, at now: ContinuousClock.Instant) -> Ticket? {
        tickets.first { $0.resumption == resumption && $0.expires > now }
    }

    /// It is good for one return.
    mutating func use(_ ticket: Ticket) { tickets.removeAll { $0 == ticket } }

    mutating func dropGuests() { tickets.removeAll { !$0.isHost } }

    /// Somebody at this address was removed.
    mutating func drop(from address: String) { tickets.removeAll { !$0.isHost || $0.address == address } }
}
