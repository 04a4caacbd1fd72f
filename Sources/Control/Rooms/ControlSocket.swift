import NIOCore
import NIOWebSocket
import Worker

/// What waits for all clients together to be read.
final class ControlBacklog: Sendable {
    /// A socket with less than this is not the one that is behind.
    private static let fairBytes = 64 * 1024
    private let maximumBytes: Int
    private let bytes = Locked(0)

    init(maximumBytes: Int) { self.maximumBytes = maximumBytes }

    fileprivate func add(_ count: Int) { bytes.withLock { $0 += count } }

    /// Whether one for whom so much waits has to go, because too much waits in all.
    fileprivate func isTooMuch(withWaiting count: Int) -> Bool {
        count > Self.fairBytes && bytes.withLock { $0 } > maximumBytes
    }
}

/// The sending half of one control WebSocket. Messages wait in a bounded queue; a reader that is too slow for it is let go.
final class ControlSocket: Sendable {
    /// What is put on the wire.
    enum Outgoing: Sendable {
        case text(String)
        case ping
        case pong(ByteBuffer)
        case close(WebSocketErrorCode, String)
    }

    private struct State: Sendable {
        var queue: [Outgoing] = []
        /// How many of the queue are taken already.
        var takenCount = 0
        /// Of texts that wait.
        var waitingBytes = 0
        /// Nothing is taken in any more.
        var isOver = false

        mutating func take() -> Outgoing? {
            guard takenCount < queue.count else { return nil }
            let message = queue[takenCount]
            takenCount += 1
            if case .text(let text) = message { waitingBytes -= text.utf8.count }
            // Those that are taken go in batches: each by itself would move all others.
            if takenCount == queue.count || takenCount == 64 {
                queue.removeFirst(takenCount)
                takenCount = 0
            }
            return message
        }
    }

    /// Rings when something waits, and ends when nothing more will come.
    let bell: AsyncStream<Void>
    /// Ends when the socket is over, however much of it is still to be written.
    let end: AsyncStream<Void>
    private let ring: AsyncStream<Void>.Continuation
    private let over: AsyncStream<Void>.Continuation
    private let capacity: Int
    private let maximumBytes: Int
    private let backlog: ControlBacklog
    private let state = Locked(State())

    /// - Parameters:
    ///   - capacity: Messages that wait at most.
    ///   - maximumBytes: Bytes of them.
    ///   - backlog: What counts them together with those of all others.
    init(capacity: Int, maximumBytes: Int, backlog: ControlBacklog) {
        self.capacity = capacity
        self.maximumBytes = maximumBytes
        self.backlog = backlog
        (bell, ring) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        (end, over) = AsyncStream.makeStream(of: Void.self)
    }

    deinit { backlog.add(-state.withLock { $0.waitingBytes }) }

    /// Queues a message. One that doesn't fit any more ends the socket, and what waited is forgotten: its client comes back and is
    /// told how things stand.
    func send(_ message: Outgoing) {
        let isTooMuch = state.withLock { state in
            guard !state.isOver else { return false }
            let before = state.waitingBytes
            state.queue.append(message)
            if case .text(let text) = message { state.waitingBytes += text.utf8.count }
            backlog.add(state.waitingBytes - before)
            guard
                state.queue.count - state.takenCount > capacity || state.waitingBytes > maximumBytes
                    || backlog.isTooMuch(withWaiting: state.waitingBytes)
            else { return false }
            backlog.add(-state.waitingBytes)
            state = State(queue: [.close(.policyViolation, "Too far behind: join again.")], isOver: true)
            return true
        }
        announce(isOver: isTooMuch)
    }

    func send(_ message: JSONValue) { send(.text(message.encoded)) }

    /// Says why, after what waits, and ends.
    func close(_ code: WebSocketErrorCode, _ reason: String) {
        state.withLock { state in
            guard !state.isOver else { return }
            state.queue.append(.close(code, reason))
            state.isOver = true
        }
        announce(isOver: true)
    }

    /// Ends, as was meant to be.
    func end(_ reason: String) { close(.normalClosure, reason) }

    /// Nothing more is sent than what waits.
    func finish() { end("") }

    /// Whether nothing can be sent any more.
    var isOver: Bool { state.withLock { $0.isOver } }

    /// The next one to write.
    func take() -> Outgoing? {
        state.withLock { state in
            let before = state.waitingBytes
            defer { backlog.add(state.waitingBytes - before) }
            return state.take()
        }
    }

    private func announce(isOver: Bool) {
        ring.yield()
        guard isOver else { return }
        ring.finish()
        over.finish()
    }

    /// A message's text; encoded once, it can be sent to many.
    static func text(of message: JSONValue) -> String { message.encoded }
}
