import NIOCore
import NIOWebSocket
import Worker

/// All connections of clients that are open, and whose they are: an address that opens them and asks for nothing takes no more than its
/// own, one that guesses tokens and is not listened to any more opens few, and a stop finds all of them.
final class ClientConnections: Sendable {
    private struct Entry: Sendable {
        let channel: any Channel
        /// The address that the PROXY header named, when there was one.
        var named: String?
        /// Whose limit it counts towards; nil for a proxy's.
        var counted: String?
    }

    private struct State: Sendable {
        var entries: [ObjectIdentifier: Entry] = [:]
        var sockets: [ObjectIdentifier: ControlSocket] = [:]
        var open: [String: Int] = [:]
        /// Those that unwelcome addresses have opened in the current second.
        var recent: [String: Int] = [:]
        var second: Int64 = 0
        var isStopping = false
    }

    private let limit: Int
    private let unwelcomePerSecond: Int
    private let proxies: TrustedProxies
    private let isUnwelcome: @Sendable (String) -> Bool
    private let start = ContinuousClock.now
    private let state = Locked(State())

    /// - Parameters:
    ///   - limit: Connections that one address may have.
    ///   - unwelcomePerSecond: Connections that an unwelcome one may open in a second.
    ///   - proxies: Whose connections are many clients': they are not counted.
    ///   - isUnwelcome: Whether an address is.
    init(
        limit: Int,
        unwelcomePerSecond: Int,
        proxies: TrustedProxies,
        isUnwelcome: @escaping @Sendable (String) -> Bool
    ) {
        self.limit = limit
        self.unwelcomePerSecond = unwelcomePerSecond
        self.proxies = proxies
        self.isUnwelcome = isUnwelcome
    }

    /// Enters a connection until it is closed.
    ///
    /// - Returns: Whether its address may have it.
    func admits(_ channel: any Channel) -> Bool {
        let id = ObjectIdentifier(channel)
        let peer = channel.remoteAddress?.ipAddress ?? ""
        let entry = Entry(channel: channel)
        guard count(id, entry, as: proxies.contains(peer) ? nil : ClientAddress.network(of: peer)) else { return false }
        channel.closeFuture.whenComplete { [self] _ in forget(id) }
        return true
    }

    /// Enters whose connection it is that came over a proxy.
    ///
    /// - Returns: Whether that address may have it.
    func name(_ channel: any Channel, as address: String) -> Bool {
        let id = ObjectIdentifier(channel)
        guard var entry = state.withLock({ $0.entries[id] }) else { return false }
        entry.named = address
        return count(id, entry, as: proxies.contains(address) ? nil : ClientAddress.network(of: address))
    }

    /// The IP address that a connection is from, as far as it can be believed.
    func peer(of channel: any Channel) -> String {
        state.withLock { $0.entries[ObjectIdentifier(channel)]?.named } ?? channel.remoteAddress?.ipAddress ?? ""
    }

    private func count(_ id: ObjectIdentifier, _ entry: Entry, as address: String?) -> Bool {
        if let address, isUnwelcome(address), !admitsUnwelcome(address) { return false }
        return state.withLock { state in
            guard !state.isStopping else { return false }
            var entry = entry
            if let address {
                guard state.open[address, default: 0] < limit else { return false }
                state.open[address, default: 0] += 1
                entry.counted = address
            }
            state.entries[id] = entry
            return true
        }
    }

    private func forget(_ id: ObjectIdentifier) {
        state.withLock { state in
            guard let entry = state.entries.removeValue(forKey: id), let address = entry.counted else { return }
            let left = (state.open[address] ?? 1) - 1
            state.open[address] = left > 0 ? left : nil
        }
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

    // MARK: The stop

    /// Enters a control WebSocket, which a stop says goodbye to.
    func add(_ socket: ControlSocket) {
        let isStopping = state.withLock { state in
            state.sockets[ObjectIdentifier(socket)] = socket
            return state.isStopping
        }
        if isStopping { socket.goAway() }
    }

    func remove(_ socket: ControlSocket) { state.withLock { $0.sockets[ObjectIdentifier(socket)] = nil } }

    /// Whether none is open.
    var isEmpty: Bool { state.withLock { $0.entries.isEmpty } }

    /// Says goodbye to all control WebSockets; no connection is let in any more.
    func stop() {
        let sockets = state.withLock { state in
            state.isStopping = true
            return Array(state.sockets.values)
        }
        for socket in sockets { socket.goAway() }
    }

    /// Closes what is still open, whatever it waits for.
    func closeAll() {
        for entry in state.withLock({ Array($0.entries.values) }) { entry.channel.close(promise: nil) }
    }
}

extension ControlSocket {
    /// RFC 6455 §7.4.1: an endpoint is going away, such as a server going down.
    func goAway() { close(.goingAway, "The server is stopping: come back in a moment.") }
}
