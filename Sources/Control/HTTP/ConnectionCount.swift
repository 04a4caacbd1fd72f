import NIOCore
import Worker

/// Counts each client address' connections: one that opens them and asks for nothing takes no more than its own.
final class ConnectionCount: Sendable {
    private let limit: Int
    private let counts = Locked<[String: Int]>([:])

    /// - Parameter limit: Connections that one address may have.
    init(limit: Int) { self.limit = limit }

    /// Counts a connection until it is closed.
    ///
    /// - Returns: Whether its address may have it.
    func admits(_ channel: any Channel) -> Bool {
        let address = channel.remoteAddress?.ipAddress ?? ""
        let isAdmitted = counts.withLock { counts in
            guard counts[address, default: 0] < limit else { return false }
            counts[address, default: 0] += 1
            return true
        }
        guard isAdmitted else { return false }
        channel.closeFuture.whenComplete { [self] _ in
            counts.withLock { counts in
                let left = (counts[address] ?? 1) - 1
                counts[address] = left > 0 ? left : nil
            }
        }
        return true
    }
}
