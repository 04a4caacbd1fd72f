import Commands
import Foundation
import Logging
import ServiceLifecycle
import UnixSignals
import Worker

/// What ends the server: SIGTERM and SIGINT. The first asks it to stop, the second ends the process at once.
struct StopSignals: Sendable {
    /// Yields when it is to stop.
    let stop: AsyncStream<Void>

    /// From now on the process ends by these signals alone: one that a terminal or a broken pipe brings ends no call. SIGHUP means
    /// nothing as long as there is nothing to read anew.
    init() async {
        signal(SIGPIPE, SIG_IGN)
        signal(SIGHUP, SIG_IGN)
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        let (stop, continuation) = AsyncStream.makeStream(of: Void.self)
        self.stop = stop
        Task.detached {
            var isStopping = false
            for await _ in signals {
                // Asked for twice: nobody wants to wait.
                if isStopping { _exit(0) }
                isStopping = true
                continuation.yield()
            }
        }
    }
}

/// From the first connection to the last: serves, drains, and ends, whatever is still open then.
struct ServerLife: Sendable {
    /// A drain takes at least so long, if it may, so that those who ask `/readyz` see it.
    private static let shortestDrain = Duration.seconds(1)
    /// After the drain: what clients get to say goodbye, and the workers.
    private static let goodbye = Duration.milliseconds(700)
    private static let pause = Duration.milliseconds(20)

    let limits: Limits
    let connections: ClientConnections
    let logger: Logger

    /// Serves until a stop is asked for, and the drain is over.
    ///
    /// - Parameters:
    ///   - http: Accepts connections, and goes on with it during the drain.
    ///   - drain: Has new sessions refused.
    ///   - isIdle: Whether nobody would miss the server.
    /// - Throws: What kept HTTP from being served.
    func run(
        _ http: ServiceGroup,
        until signals: StopSignals,
        drain: @Sendable () async -> Void,
        isIdle: @Sendable () async -> Bool
    ) async throws {
        let (ends, continuation) = AsyncStream.makeStream(of: Result<Void, any Error>.self)
        // Nobody waits for these in the end: a connection that can't be closed keeps nobody. Nor are they cancelled: what Hummingbird does
        // then reads, from another thread, what the connection's task uses, which ThreadSanitizer calls a race.
        Task {
            do {
                try await http.run()
                continuation.yield(.success(()))
            } catch {
                continuation.yield(.failure(error))
            }
        }
        Task {
            for await _ in signals.stop { continuation.yield(.success(())) }
        }
        for await end in ends {
            try end.get()
            break
        }
        let start = ContinuousClock.now
        await drain()
        logger.info("Draining: no new sessions; what goes on has \(limits.drain).")
        let shortest = min(Self.shortestDrain, limits.drain)
        while start.duration(to: .now) < limits.drain {
            if start.duration(to: .now) >= shortest, await isIdle() { break }
            try? await Task.sleep(for: Self.pause)
        }
        connections.stop()
        await http.triggerGracefulShutdown()
        let goodbye = ContinuousClock.now
        while !connections.isEmpty, goodbye.duration(to: .now) < Self.goodbye {
            try? await Task.sleep(for: Self.pause)
        }
        connections.closeAll()
    }

    /// Ends all peers, and waits a moment for it.
    func end(_ pool: WorkerPool) async {
        let (ends, continuation) = AsyncStream.makeStream(of: Bool.self)
        // It waits for threads: not on one that others share.
        Thread.detachNewThread {
            pool.stop()
            continuation.yield(true)
        }
        Task {
            try? await Task.sleep(for: Self.goodbye)
            continuation.yield(false)
        }
        for await hasStopped in ends {
            logger.info(hasStopped ? "Stopped." : "Stopped, with peers that were not told.")
            guard !hasStopped else { break }
            // Without what a process does at its end: OpenSSL would clean up what the workers still use.
            LineOutput.standardError.flush()
            _exit(0)
        }
    }
}
