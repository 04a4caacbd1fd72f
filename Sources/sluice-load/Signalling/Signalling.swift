/// How clients get into a session with the server that is measured.
protocol Signalling: Sendable {
    /// Publishes stream number `publisher`.
    func publish(_ publisher: Int) async throws -> PeerPlan
    /// Watches these publishers' streams as one viewer: with one session, or one for each stream.
    func watch(_ streams: [Int], viewer: Int, startedAt: UInt64) async throws -> [PeerPlan]
    /// Leaves nothing behind on the server that would not go by itself.
    func finish() async throws
    /// What the server has sent over WebSockets until now, by type of message; nil where there are none.
    var received: [String: MessageTally.Traffic]? { get }
}

extension Signalling {
    var received: [String: MessageTally.Traffic]? { nil }
}
