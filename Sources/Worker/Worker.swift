import CLibuv
import CLinux
import Commands
import Forwarding
import Glibc
import Transport
import Wire

/// One thread, one libuv loop, one UDP socket, and the engine that serves the peers behind it. Everything in it is confined
/// to its thread once `run` has begun.
final class Worker {
    /// Batches that are read before the loop looks at its timers and its mail again.
    private static let roundsPerTurn = 8

    let index: WorkerIndex
    private let socket: UDPSocket
    private let mailbox: Mailbox
    private let egress: Egress
    private let engine: Engine
    private let loop: UnsafeMutablePointer<uv_loop_t>
    private let poll: UnsafeMutablePointer<uv_poll_t>
    private let timer: UnsafeMutablePointer<uv_timer_t>
    private let bell: UnsafeMutablePointer<uv_async_t>
    private var timerDeadline: Instant?
    /// Whether the loop watches for room in the socket.
    private var waitsForRoom = false

    init(
        index: WorkerIndex,
        socket: UDPSocket,
        mailboxes: [Mailbox],
        outgoingRelays: [RelayRing?],
        incomingRelays: [RelayRing?],
        configuration: WorkerConfiguration,
        onEvent: @escaping @Sendable (Event) -> Void
    ) throws(WorkerError) {
        self.index = index
        self.socket = socket
        mailbox = mailboxes[index.rawValue]
        egress = Egress(socket: socket, mailboxes: mailboxes, onEvent: onEvent)
        do throws(DTLSError) {
            engine = try Engine(
                index: index,
                limits: configuration.limits,
                certificate: configuration.certificate,
                localAddresses: configuration.announced,
                outgoingRelays: outgoingRelays,
                incomingRelays: incomingRelays,
                output: egress
            )
        } catch {
            throw .dtls(error)
        }
        loop = .allocate(capacity: 1)
        poll = .allocate(capacity: 1)
        timer = .allocate(capacity: 1)
        bell = .allocate(capacity: 1)
        let result = uv_loop_init(loop)
        guard result == 0 else { throw .loop(reason: String(cString: uv_strerror(result))) }
    }

    deinit {
        loop.deallocate()
        poll.deallocate()
        timer.deallocate()
        bell.deallocate()
    }

    /// Runs the loop until the mailbox says stop. Called on the worker's own thread.
    func run() {
        let reference = Unmanaged.passUnretained(self).toOpaque()
        uv_poll_init(loop, poll, socket.descriptor)
        uv_timer_init(loop, timer)
        uv_async_init(loop, bell, onBell)
        poll.pointee.data = reference
        timer.pointee.data = reference
        bell.pointee.data = reference
        uv_poll_start(poll, Int32(UV_READABLE.rawValue), onReadable)
        mailbox.open(bell)
        uv_run(loop, UV_RUN_DEFAULT)
        uv_loop_close(loop)
    }

    /// One turn of the worker: what is readable comes in, and what came of it goes out, a batch at a time.
    fileprivate func turn(readsSocket: Bool) {
        var round = 0
        var mayHaveMore = readsSocket
        var hasRelayed = false
        repeat {
            let start = Instant.now
            egress.beginTurn()
            var lag: Duration?
            if readsSocket {
                mayHaveMore = socket.receive { datagram, pair, arrival in
                    egress.bytesReceived += UInt64(datagram.count)
                    engine.receive(datagram, from: pair, arrivedAt: arrival, now: start)
                }
                lag = socket.longestWait
            }
            hasRelayed = engine.receiveRelayed(now: start)
            egress.received(afterWaiting: engine.longestWait(andRead: lag), at: start)
            engine.advance(to: start)
            engine.endTurn(now: start, lag: lag)
            round += 1

            engine.counters.loopSeconds.observe((Instant.now - start).seconds)
        } while (mayHaveMore || hasRelayed) && round < Self.roundsPerTurn
        if hasRelayed { mailbox.wake() }
        watchSocket()
        scheduleTimer(now: .now)
    }

    /// Waits for room in the socket while datagrams wait for it.
    private func watchSocket() {
        guard egress.isWaiting != waitsForRoom else { return }
        waitsForRoom = egress.isWaiting
        let events = waitsForRoom ? UV_READABLE.rawValue | UV_WRITABLE.rawValue : UV_READABLE.rawValue
        uv_poll_start(poll, Int32(events), onReadable)
    }

    fileprivate func takeMail() {
        let (commands, isStopping) = mailbox.take()
        if !commands.isEmpty {
            egress.report(to: &engine.counters)
            let now = Instant.now
            for command in commands { engine.apply(command, now: now) }
        }
        turn(readsSocket: false)
        if isStopping { stop() }
    }

    /// Ends all peers and closes the handles; the loop ends by itself then.
    private func stop() {
        mailbox.close()
        engine.shutdown(now: .now)
        uv_poll_stop(poll)
        for handle in [UnsafeMutableRawPointer(poll), UnsafeMutableRawPointer(timer), UnsafeMutableRawPointer(bell)] {
            let handle = handle.assumingMemoryBound(to: uv_handle_t.self)
            if uv_is_closing(handle) == 0 { uv_close(handle, nil) }
        }
    }

    private func scheduleTimer(now: Instant) {
        let deadline = engine.nextDeadline
        guard deadline != timerDeadline else { return }
        timerDeadline = deadline
        guard let deadline else {
            uv_timer_stop(timer)
            return
        }
        let wait = deadline > now ? deadline.nanoseconds - now.nanoseconds : 0
        // libuv counts milliseconds from its own idea of now, which stood still while the turn ran. It runs timers that are
        // due before it looks at sockets again, so one that is due at once could keep it from them for ever: at least 1 ms.
        uv_update_time(loop)
        uv_timer_start(timer, onTimer, max(1, (wait + 999_999) / 1_000_000), 0)
    }

    fileprivate func timerFired() {
        timerDeadline = nil
        turn(readsSocket: false)
    }
}

/// Where the engine's outputs go: the socket, Control, and the other workers' bells.
private final class Egress: EngineOutput {
    private let socket: UDPSocket
    private let mailboxes: [Mailbox]
    private let onEvent: @Sendable (Event) -> Void
    var bytesReceived: UInt64 = 0
    private var bytesSent: UInt64 = 0
    private var datagramsFailed: UInt64 = 0
    private var batchPackets = Histogram(bounds: Histogram.packetBounds)
    private var latencySeconds = Histogram(bounds: Histogram.secondsBounds)
    /// When the oldest came of what this turn's datagrams were made from; nil in a turn that timers or mail began.
    private var oldestArrival: Instant?
    /// Whether datagrams wait until the socket takes more.
    private(set) var isWaiting = false

    init(socket: UDPSocket, mailboxes: [Mailbox], onEvent: @escaping @Sendable (Event) -> Void) {
        self.socket = socket
        self.mailboxes = mailboxes
        self.onEvent = onEvent
    }

    func beginTurn() { oldestArrival = nil }

    /// The turn's datagrams have been read, of which the oldest had waited for so long. While some of earlier turns wait for room
    /// nothing is measured: nobody knows any more when those came.
    func received(afterWaiting wait: Duration?, at start: Instant) {
        guard let wait, !isWaiting else { return }
        oldestArrival = start + (.zero - wait)
    }

    func flush(_ batch: EgressBatch) {
        batchPackets.observe(Double(batch.datagramCount))
        let sent = socket.send(batch)
        if let oldestArrival, sent.datagrams > 0 {
            latencySeconds.observe((Instant.now - oldestArrival).seconds, times: sent.datagrams)
        }
        bytesSent += UInt64(sent.bytes)
        datagramsFailed += UInt64(sent.failed)
        isWaiting = !batch.isEmpty
    }

    func emit(_ event: Event) { onEvent(event) }

    func wake(_ worker: WorkerIndex) { mailboxes[worker.rawValue].wake() }

    /// Puts what only this side can count into the worker's counters.
    func report(to counters: inout WorkerCounters) {
        counters.bytesReceived = bytesReceived
        counters.bytesSent = bytesSent
        counters.drops[DropReason.egressFailed.rawValue] = datagramsFailed
        counters.egressBatchPackets = batchPackets
        counters.forwardLatencySeconds = latencySeconds
    }
}

extension Instant {
    /// The system's monotonic clock.
    static var now: Instant {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Instant(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
    }
}

// libuv calls these on the worker's thread, with the worker in `data`: only functions at file scope may be given to C,
// as a closure would inherit an isolation that the loop's thread does not have.

private func worker(_ data: UnsafeMutableRawPointer?) -> Worker? {
    data.map { Unmanaged<Worker>.fromOpaque($0).takeUnretainedValue() }
}

private func onReadable(handle: UnsafeMutablePointer<uv_poll_t>?, status: Int32, events: Int32) {
    worker(handle?.pointee.data)?.turn(readsSocket: true)
}

private func onTimer(handle: UnsafeMutablePointer<uv_timer_t>?) {
    worker(handle?.pointee.data)?.timerFired()
}

private func onBell(handle: UnsafeMutablePointer<uv_async_t>?) {
    worker(handle?.pointee.data)?.takeMail()
}
