/// How clients get into a session with the server that is measured.
protocol Signalling: Sendable {
    /// Publishes stream number `publisher`.
    func publish(_ publisher: Int) async throws -> PeerPlan
    /// Watches these publishers' streams as one viewer: with one session, or one for each stream.
    func watch(_ streams: [Int], viewer: Int, startedAt: UInt64) async throws -> [PeerPlan]
    /// Leaves nothing behind on the server that would not go by itself.
    func finish() async throws
}
