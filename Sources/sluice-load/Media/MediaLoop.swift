import CLinux
import Foundation
import Synchronization
import Transport
import Wire

/// What the media thread has to do next.
enum MediaCommand: Sendable {
    case add(PeerPlan)
    /// The viewers that are there now lose nothing from here on, or it is counted.
    case markFirstViewers
    case beginSurge
    case endSurge
    case beginWindow
    /// Publishers stop sending; what is under way still arrives.
    case pause
    /// End all sessions and the thread.
    case stop
}

/// How a run stands, for the progress line.
struct Progress: Sendable {
    var publishersConnected = 0
    var viewersConnected = 0
    var viewersWithPicture = 0
    /// Those who have had something of each stream's video.
    var viewersWithAllStreams = 0
    var handshakesFailed = 0
    var packetsSent: UInt64 = 0
    var packetsReceived: UInt64 = 0
    var packetsLost: UInt64 = 0
    var keyframeRequests: UInt64 = 0
    var latency = LatencyByKind()
}

/// The media thread as other threads see it.
final class MediaThread: Sendable {
    private struct State: Sendable {
        var commands: [MediaCommand] = []
        var progress = Progress()
        var outcome: Outcome?
        var problem: LoadError?
    }

    private let state = Mutex(State())
    private let bell: Int32

    init(plan: LoadPlan) throws(LoadError) {
        bell = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        guard bell >= 0 else { throw LoadError("no eventfd: \(String(cString: strerror(errno)))") }
        let thread = Thread { [self] in
            do throws(LoadError) {
                let loop = try MediaLoop(plan: plan, handle: self, bell: bell)
                let outcome = loop.run()
                state.withLock { $0.outcome = outcome }
            } catch {
                state.withLock { $0.problem = error }
            }
        }
        thread.name = "media"
        thread.start()
    }

    deinit { close(bell) }

    func send(_ command: MediaCommand) {
        state.withLock { $0.commands.append(command) }
        eventfd_write(bell, 1)
    }

    func progress() throws(LoadError) -> Progress {
        let (progress, problem) = state.withLock { ($0.progress, $0.problem) }
        if let problem { throw problem }
        return progress
    }

    /// What was measured, once the thread has ended.
    func outcome() async throws -> Outcome {
        while true {
            _ = try progress()
            if let outcome = state.withLock({ $0.outcome }) { return outcome }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    fileprivate func takeCommands() -> [MediaCommand] {
        state.withLock { state in
            defer { state.commands = [] }
            return state.commands
        }
    }

    fileprivate func publish(_ progress: Progress) { state.withLock { $0.progress = progress } }
}

/// All clients' media on one thread.
///
/// It waits for the first packet of a burst, and then sleeps by the clock between looks at its sockets until a look finds nothing.
/// Were it to wait for each packet, the kernel would wake it on behalf of whoever sends, and a server on the same machine would
/// pay for that with each packet: a cost that it has with no client elsewhere.
private final class MediaLoop {
    /// Viewers' reports and checks are spread over a second on this grid.
    private static let tick = Duration.milliseconds(10)
    private static let ticksPerReport = 100
    private static let eventCount = 256
    private static let bellTag = UInt64.max
    /// Between two looks at the sockets: what latencies are measured by.
    private static let lookInterval = Duration.microseconds(500)

    private enum Client {
        case publisher(Publisher)
        case viewer(Viewer)

        var peer: ClientPeer {
            switch self {
            case .publisher(let publisher): publisher.peer
            case .viewer(let viewer): viewer.peer
            }
        }
    }

    private let plan: LoadPlan
    private let handle: MediaThread
    private let context: DTLSContext
    private let reader = DatagramReader()
    private let epoll: Int32
    private let bell: Int32
    private var clients: ContiguousArray<Client> = []
    private var publishers: [Publisher] = []
    private var viewers: [Viewer] = []
    /// Positions in `clients` of those whose handshake is under way.
    private var connecting: Set<Int> = []
    private var nextTick = Instant.now
    private var tickNumber = 0
    private var progress = Progress()
    private var latency = LatencyByKind()
    /// Latency within the measured window.
    private var window = Outcome.Window()
    /// Keyframe requests when the first viewers were there, and frames that were sent in the surge.
    private var keyframeRequestsBefore: UInt64 = 0
    private var surgeFrames: UInt64 = 0
    private var isRunning = true

    init(plan: LoadPlan, handle: MediaThread, bell: Int32) throws(LoadError) {
        self.plan = plan
        self.handle = handle
        self.bell = bell
        do throws(DTLSError) {
            context = try DTLSContext(certificate: ClientIdentity.shared.certificate, profiles: plan.profiles)
        } catch {
            throw LoadError("DTLS can't be set up: \(error)")
        }
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw LoadError("no epoll: \(String(cString: strerror(errno)))") }
        watch(bell, tag: Self.bellTag)
    }

    deinit { close(epoll) }

    func run() -> Outcome {
        var events = [epoll_event](repeating: epoll_event(), count: Self.eventCount)
        var isBurst = false
        while isRunning {
            let count = Int(wait(&events, isBurst: isBurst))
            isBurst = count > 0
            for place in 0..<max(count, 0) {
                let tag = events[place].data.u64
                if tag == Self.bellTag { takeCommands() } else { read(Int(tag)) }
                // Publishers come first: what they send late would look like the server's latency.
                advancePublishers()
            }
            advancePublishers()
            advanceClock()
            if isBurst, count < Self.eventCount { sleepUntilNextLook() }
        }
        return outcome()
    }

    // MARK: Commands

    private func takeCommands() {
        clear(bell)
        for command in handle.takeCommands() {
            switch command {
            case .add(let plan): add(plan)
            case .markFirstViewers:
                for viewer in viewers { viewer.lostBefore = viewer.counts.lost }
                keyframeRequestsBefore = publishers.reduce(0) { $0 + $1.keyframeRequests }
            case .beginSurge:
                for publisher in publishers { publisher.isSurging = true }
                for viewer in viewers { viewer.surgeStart = viewer.counts }
                surgeFrames = publishers.reduce(0) { $0 + $1.framesSent }
            case .endSurge:
                for publisher in publishers { publisher.isSurging = false }
                for viewer in viewers { viewer.surgeEnd = viewer.counts }
                surgeFrames = publishers.reduce(0) { $0 + $1.framesSent } - surgeFrames
            case .beginWindow: beginWindow()
            case .pause:
                for publisher in publishers { publisher.isPaused = true }
                window.packetsSent = publishers.reduce(0) { $0 + $1.packetsSent } - window.packetsSent
                window.framesSent = publishers.reduce(0) { $0 + $1.framesSent } - window.framesSent
            case .stop:
                for client in clients { client.peer.hangUp() }
                isRunning = false
            }
        }
    }

    private func add(_ added: PeerPlan) {
        guard let peer = try? ClientPeer(added, context: context, now: .now) else {
            progress.handshakesFailed += 1
            return
        }
        let client: Client
        switch added.role {
        case .publisher(let index):
            let publisher = Publisher(index: index, peer: peer, plan: plan)
            publishers.append(publisher)
            client = .publisher(publisher)
        case .viewer(let index, let startedAt):
            let viewer = Viewer(
                index: index,
                startedAt: startedAt,
                peer: peer,
                payloadTypes: added.payloadTypes,
                plan: plan
            )
            viewers.append(viewer)
            client = .viewer(viewer)
        }
        clients.append(client)
        connecting.insert(clients.count - 1)
        watch(peer.socket.descriptor, tag: UInt64(clients.count - 1))
        peer.advance(now: .now)
    }

    private func beginWindow() {
        latency = LatencyByKind()
        for viewer in viewers { viewer.windowStart = viewer.counts }
        window.startedAt = .now
        window.packetsSent = publishers.reduce(0) { $0 + $1.packetsSent }
        window.framesSent = publishers.reduce(0) { $0 + $1.framesSent }
    }

    // MARK: Sockets

    private func read(_ place: Int) {
        guard clients.indices.contains(place) else { return }
        let now = Instant.now
        switch clients[place] {
        case .publisher(let publisher):
            reader.read(publisher.peer.socket.descriptor) { datagram in
                if publisher.peer.receive(datagram, now: now) == .media { publisher.receive(datagram, now: now) }
            }
        case .viewer(let viewer):
            reader.read(viewer.peer.socket.descriptor) { datagram in
                if viewer.peer.receive(datagram, now: now) == .media {
                    viewer.receive(datagram, latency: &latency, now: now)
                }
            }
            viewer.sendNacks()
        }
    }

    private func watch(_ descriptor: Int32, tag: UInt64) {
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data(u64: tag))
        epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event)
    }

    private func clear(_ descriptor: Int32) {
        var value: UInt64 = 0
        Glibc.read(descriptor, &value, 8)
    }

    // MARK: Time

    private func advancePublishers() {
        let now = Instant.now
        for publisher in publishers where publisher.nextDeadline <= now { publisher.advance(now: now) }
    }

    private func advanceClock() {
        let now = Instant.now
        guard nextTick <= now else { return }
        nextTick = now + Self.tick
        tickNumber += 1
        for place in connecting {
            let peer = clients[place].peer
            if peer.isConnected {
                connecting.remove(place)
            } else if peer.failure != nil {
                progress.handshakesFailed += 1
                connecting.remove(place)
            } else {
                peer.advance(now: now)
            }
        }
        var place = tickNumber % Self.ticksPerReport
        while place < clients.count {
            let client = clients[place]
            if client.peer.isConnected {
                client.peer.advance(now: now)
                if case .viewer(let viewer) = client { viewer.sendReport() }
            }
            place += Self.ticksPerReport
        }
        if tickNumber % 10 == 0 { report() }
    }

    private var nextDeadline: Instant { publishers.reduce(nextTick) { min($0, $1.nextDeadline) } }

    /// Sockets with something to read: at once in a burst, else as soon as there are any or something is due.
    private func wait(_ events: inout [epoll_event], isBurst: Bool) -> Int32 {
        let now = Instant.now
        let due = nextDeadline
        let nanoseconds = isBurst || due <= now ? 0 : Int(due.nanoseconds - now.nanoseconds)
        var time = timespec(tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000)
        return sluice_epoll_pwait2(epoll, &events, Int32(events.count), &time, nil)
    }

    private func sleepUntilNextLook() {
        let due = min(Instant.now + Self.lookInterval, nextDeadline)
        var time = timespec(
            tv_sec: Int(due.nanoseconds / 1_000_000_000),
            tv_nsec: Int(due.nanoseconds % 1_000_000_000)
        )
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nil)
    }

    // MARK: Results

    private func report() {
        progress.publishersConnected = publishers.count { $0.peer.isConnected }
        progress.viewersConnected = 0
        progress.viewersWithPicture = 0
        progress.viewersWithAllStreams = 0
        progress.packetsReceived = 0
        progress.packetsLost = 0
        for viewer in viewers {
            if viewer.peer.isConnected { progress.viewersConnected += 1 }
            if viewer.timeToPicture != nil { progress.viewersWithPicture += 1 }
            if viewer.streamsReceived >= plan.streamsPerSession { progress.viewersWithAllStreams += 1 }
            progress.packetsReceived += viewer.counts.packets
            progress.packetsLost += viewer.counts.lost
        }
        progress.packetsSent = publishers.reduce(0) { $0 + $1.packetsSent }
        progress.keyframeRequests = publishers.reduce(0) { $0 + $1.keyframeRequests }
        progress.latency = latency
        handle.publish(progress)
    }

    private func outcome() -> Outcome {
        window.latency = latency
        return Outcome(
            window: window,
            keyframeRequestsBefore: keyframeRequestsBefore,
            surgeFrames: surgeFrames,
            profile: viewers.lazy.compactMap(\.peer.profile).first,
            publishers: publishers.map { publisher in
                Outcome.PublisherResult(
                    packetsSent: publisher.packetsSent,
                    keyframesSent: publisher.keyframesSent,
                    keyframeRequests: publisher.keyframeRequests,
                    nacksReceived: publisher.nacksReceived,
                    packetsRetransmitted: publisher.packetsRetransmitted
                )
            },
            viewers: viewers.map { viewer in
                Outcome.ViewerResult(
                    index: viewer.index,
                    isConnected: viewer.peer.isConnected,
                    isVerified: viewer.isVerified,
                    timeToConnection: viewer.peer.connectedAt.map { $0 - Instant(nanoseconds: viewer.startedAt) },
                    timeToPicture: viewer.timeToPicture,
                    streamsReceived: viewer.streamsReceived,
                    lastWholeFrame: viewer.lastWholeFrame,
                    lostWhileOthersJoined: viewer.windowStart.lost - min(viewer.windowStart.lost, viewer.lostBefore),
                    surge: viewer.surgeEnd - viewer.surgeStart,
                    window: viewer.counts - viewer.windowStart
                )
            },
            handshakesFailed: progress.handshakesFailed
        )
    }
}

extension Viewer.Counts {
    static func - (left: Self, right: Self) -> Self {
        var result = Self()
        result.packets = left.packets - right.packets
        result.bytes = left.bytes - right.bytes
        result.audioPackets = left.audioPackets - right.audioPackets
        result.lost = left.lost - right.lost
        result.retransmissions = left.retransmissions - right.retransmissions
        result.wholeFrames = left.wholeFrames - right.wholeFrames
        result.brokenFrames = left.brokenFrames - right.brokenFrames
        result.halfFrames = left.halfFrames - right.halfFrames
        result.verified = left.verified - right.verified
        result.corrupt = left.corrupt - right.corrupt
        return result
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
