import CLinux
public import Commands
import Forwarding
import Glibc
import Wire

/// What Control knows of a worker.
public struct WorkerHandle: Sendable {
    public let index: WorkerIndex
    /// Its UDP port.
    public let port: UInt16
    private let mailbox: Mailbox

    init(index: WorkerIndex, port: UInt16, mailbox: Mailbox) {
        self.index = index
        self.port = port
        self.mailbox = mailbox
    }

    /// Gives the worker a command. Never blocks; for a worker that has stopped it is answered at once.
    public func send(_ command: Command) { mailbox.send(command) }
}

/// All workers of the process.
public final class WorkerPool: Sendable {
    /// Bytes of a relay ring, which says where packets lie: two thousand packets. There are as many as workers squared.
    private static let relayBytes = 256 * 1024

    public let workers: [WorkerHandle]
    private let mailboxes: [Mailbox]
    private let threads: Locked<[pthread_t]>

    /// Binds all sockets and starts all threads.
    ///
    /// - Parameter onEvent: Called on the workers' threads.
    public init(
        configuration: WorkerConfiguration,
        onEvent: @escaping @Sendable (Event) -> Void
    ) throws(WorkerError) {
        let count = min(max(configuration.workerCount, 1), 64)
        let mailboxes = (0..<count).map { _ in Mailbox() }
        // rings[from][to]
        let rings = (0..<count).map { from in
            (0..<count).map { to in from == to ? nil : RelayRing(capacity: Self.relayBytes) }
        }
        var started: [Worker] = []
        var handles: [WorkerHandle] = []
        for index in 0..<count {
            let port = configuration.firstPort == 0 ? 0 : UInt16(clamping: Int(configuration.firstPort) + index)
            let socket = try UDPSocket(binding: SocketAddress(ip: configuration.listen, port: port))
            let worker = try Worker(
                index: WorkerIndex(rawValue: index),
                socket: socket,
                mailboxes: mailboxes,
                outgoingRelays: rings[index],
                incomingRelays: rings.map { $0[index] },
                configuration: configuration,
                onEvent: onEvent
            )
            started.append(worker)
            handles.append(
                WorkerHandle(index: WorkerIndex(rawValue: index), port: socket.address.port, mailbox: mailboxes[index])
            )
        }
        workers = handles
        self.mailboxes = mailboxes
        var threads: [pthread_t] = []
        for worker in started {
            var thread = pthread_t()
            let reference = Unmanaged.passRetained(worker).toOpaque()
            let result = pthread_create(&thread, nil, runWorker, reference)
            guard result == 0 else {
                Unmanaged<Worker>.fromOpaque(reference).release()
                for mailbox in mailboxes { mailbox.stop() }
                for thread in threads { pthread_join(thread, nil) }
                throw .loop(reason: String(cString: strerror(result)))
            }
            threads.append(thread)
        }
        self.threads = Locked(threads)
    }

    /// Ends all peers with a DTLS close_notify and waits until the threads are gone. May be called again.
    public func stop() {
        for mailbox in mailboxes { mailbox.stop() }
        let waiting = threads.withLock { threads in
            let waiting = threads
            threads = []
            return waiting
        }
        for thread in waiting { pthread_join(thread, nil) }
    }
}

private func runWorker(reference: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let reference else { return nil }
    let worker = Unmanaged<Worker>.fromOpaque(reference).takeRetainedValue()
    sluice_pthread_setname_np(pthread_self(), "sluice-\(worker.index.rawValue)")
    worker.run()
    return nil
}
