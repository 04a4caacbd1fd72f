import CLibuv
import Commands

/// Commands on their way to a worker, and the bell that wakes it.
final class Mailbox: Sendable {
    /// `@unchecked Sendable`: `uv_async_send` is the one libuv call that any thread may make. The handle's memory belongs to
    /// the worker, which takes the bell out of its mailbox (`close`) before it closes and frees the handle.
    private struct Bell: @unchecked Sendable {
        let handle: UnsafeMutablePointer<uv_async_t>

        func ring() { uv_async_send(handle) }
    }

    private struct State: Sendable {
        var commands: [Command] = []
        var isStopping = false
        /// Nobody takes anything any more.
        var isOver = false
        var bell: Bell?
    }

    private let state = Locked(State())

    /// From now on `send` and `wake` ring this bell.
    func open(_ bell: UnsafeMutablePointer<uv_async_t>) {
        let bell = Bell(handle: bell)
        state.withLock { $0.bell = bell }
        // Mail may have come before.
        bell.ring()
    }

    /// The bell is rung no more. What waits is answered, and so is whatever still comes: somebody may wait for it.
    func close() {
        let unread = state.withLock { state in
            let unread = state.commands
            state = State(isStopping: true, isOver: true)
            return unread
        }
        for command in unread { command.answerForNobody() }
    }

    func send(_ command: Command) {
        let isTaken = state.withLock { state in
            guard !state.isOver else { return false }
            state.commands.append(command)
            state.bell?.ring()
            return true
        }
        // Not under the lock: an answer may bring the next command.
        if !isTaken { command.answerForNobody() }
    }

    func stop() {
        state.withLock { state in
            state.isStopping = true
            state.bell?.ring()
        }
    }

    /// There is something in a relay ring.
    func wake() {
        state.withLock { state in
            state.bell?.ring()
        }
    }

    /// Takes what waits.
    func take() -> (commands: [Command], isStopping: Bool) {
        state.withLock { state in
            let commands = state.commands
            state.commands = []
            return (commands, state.isStopping)
        }
    }
}
