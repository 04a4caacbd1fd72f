import NIOCore
import Worker

/// Counts each client address' connections: one that opens them and asks for nothing takes no more than its own, and one that guesses
/// tokens, and is not listened to any more, opens few.
final class ConnectionCount: Sendable {
    private struct State: Sendable {
        var open: [String: Int] = [:]
        /// Those that unwelcome addresses have opened in the current second.
        var recent: [String: Int] = [:]
        var second: Int64 = 0
    }

    private let limit: Int
    private let unwelcomePerSecond: Int
    private let isUnwelcome: @Sendable (String) -> Bool
    private let start = ContinuousClock.now
    private let state = Locked(State())

    /// - Parameters:
    ///   - limit: Connections that one address may have.
    ///   - unwelcomePerSecond: Connections that an unwelcome one may open in a second.
    ///   - isUnwelcome: Whether an address is.
    init(limit: Int, unwelcomePerSecond: Int, isUnwelcome: @escaping @Sendable (String) -> Bool) {
        self.limit = limit
        self.unwelcomePerSecond = unwelcomePerSecond
        self.isUnwelcome = isUnwelcome
    }

    /// Counts a connection until it is closed.
    ///
    /// - Returns: Whether its address may have it.
    func admits(_ channel: any Channel) -> Bool {
        let address = ClientAddress.of(channel)
        guard !isUnwelcome(address) || admitsUnwelcome(address) else { return false }
        let isAdmitted = state.withLock { state in
            guard state.open[address, default: 0] < limit else { return false }
            state.open[address, default: 0] += 1
            return true
        }
        guard isAdmitted else { return false }
        channel.closeFuture.whenComplete { [self] _ in
            state.withLock { state in
                let left = (state.open[address] ?? 1) - 1
                state.open[address] = left > 0 ? left : nil
            }
        }
        return true
    }

    private func admitsUnwelcome(_ address: String) -> Bool {
        let second = start.duration(to: .now).components.seconds
        return state.withLock { state in
            if state.second != second {
                state.second = second
                state.recent.removeAll()
            }
            state.recent[address, default: 0] += 1
            return state.recent[address, default: 0] <= unwelcomePerSecond
        }
    }
}
