public import Commands
public import Transport
public import Wire

/// One worker's media state: peers, tracks and subscriptions, without sockets, threads or a clock.
///
/// Confined to its worker's thread. A turn is: `receive` for each datagram that was readable, `receiveRelayed`, `apply` for
/// each command, `advance`, then `endTurn`.
public final class Engine {
    /// Peers are looked after on this grid, so that a thousand deadlines don't wake the worker a thousand times.
    static let deadlineGrid = Duration.milliseconds(10)
    /// The SSRC of our own RTCP towards publishers. We send no RTP there, so any will do; browsers use 1 for the same.
    static let reportingSSRC: UInt32 = 1
    /// A compound RTCP packet that is longer is sent before more is added: far below any path's MTU.
    static let compoundBytes = 900
    /// Most sources that REMB names, so that it goes with a report.
    static let sourcesPerCeiling = 64
    /// Audio levels from this one on, in -dBov, are nobody speaking.
    static let silence: UInt8 = 60
    /// So many bytes of transport-wide feedback count as one item of RTCP.
    static let feedbackBytesPerItem = 16
    /// A viewer that is sent so many times what its network carries gets less at once.
    static let urgency = 1.3
    /// However often it tells what has arrived.
    static let leastAllocationInterval = Duration.milliseconds(20)
    /// A track that does not fit gets no less than this part of it at first; and grows while no more than so much is lost.
    static let firstRation = 0.25
    static let rationTolerance = 0.02
    /// It falls by so much where only the round trip shows a queue.
    static let rationStep = 0.05
    /// Large frames leave at no less than so many times what the tracks are allocated, or they would fall behind.
    static let leastPacing = 1.5
    /// Records that are read from one relay ring in one turn, each a batch of one track.
    static let relayRecordsPerTurn = 64
    /// At most so often other workers are told a publisher's clock, however often he tells it.
    static let clockInterval = Duration.milliseconds(200)
    /// The largest packet that fits an egress slot with whatever our header and SRTP add.
    static let maximumPacketBytes =
        EgressBatch.slotBytes - OutgoingHeader.maximumGrowth - 2 - PacketRun.maximumPadding - 16

    /// This worker's counters. The worker adds what only it can see: send failures, loop time, latency, bytes.
    public var counters = WorkerCounters()

    /// This worker's position.
    public var worker: Int { index.rawValue }

    let index: WorkerIndex
    let limits: Limits
    let dtlsContext: DTLSContext
    let localAddresses: [IPAddress]
    let outgoingRelays: [RelayRing?]
    let incomingRelays: [RelayRing?]
    unowned let output: any EngineOutput
    let egress = EgressBatch()
    let run = PacketRun()

    var peers: [PeerID: Peer] = [:]
    var peersByUsername: [UsernameKey: Peer] = [:]
    var peersByAddress: [SocketAddress: Peer] = [:]
    var tracks: [TrackID: Track] = [:]
    var subscriptionCount = 0
    /// Tracks with packets to forward at the end of this turn.
    var queuedTracks: ContiguousArray<Track> = []
    var shedder = LoadShedder()
    /// When the datagram at hand reached this machine. How long it waited to be read is our doing, not the network's.
    var arrivedAt = Instant(nanoseconds: 0)
    /// How long the oldest packet that was relayed to us in this turn had waited since its worker read it; nil when none was.
    var relayLag: Duration?
    /// Peers with handshake datagrams that wait for a turn with room for them, each once, whoever is next first.
    var waitingHandshakes: [Peer] = []
    /// Those datagrams.
    var waitingHandshakeCount = 0
    var handshakesInTurn = 0
    /// Whether the kernel took not all that the last flush of this turn had.
    private var isBlocked = false
    /// What has to be told to other workers, and waits for room in their rings. Packets don't wait, these must not be lost.
    ///
    /// A newer one takes the place of an older one that it makes void, so that no more wait than a few for each track and worker.
    private(set) var waitingRelays: [(head: RelayRecord.Head, worker: Int)] = []
    /// Workers that some of it is for; bit n is worker n.
    private var relaysWaiting: UInt64 = 0
    /// Workers whose relay ring was written in this turn; bit n is worker n.
    var relaysWritten: UInt64 = 0
    /// What the histories of all publishers may take, and of each address.
    let workerBudget: HistoryBudget
    var addressBudgets: [IPAddress: HistoryBudget] = [:]
    var earliestDeadline = Instant.distantFuture
    /// Tracks of other workers' whose keyframe request waits for the interval's end.
    var waitingRequests: ContiguousArray<Track> = []
    /// Deadlines that had not gone by when all that was due was done. There are none.
    var overdueCount: UInt64 = 0
    /// Lost packets of sources that are gone.
    var packetsLostBefore: Int64 = 0
    /// Buffers that are used again and again, so that steady state allocates nothing.
    var replyBuffer: [UInt8] = []
    var rtcpBuffer: [UInt8] = []
    var sequenceNumbers: [UInt16] = []
    var relayBuffer: ContiguousArray<PacketRecord> = []
    var reportBlocks: [RTCPPacket.ReportBlock] = []
    var ceilingSources: [UInt32] = []
    var options: ContiguousArray<Allocator.Option> = []
    var items: ContiguousArray<Allocator.Item> = []
    var shared: ContiguousArray<Subscription> = []
    /// Subscriptions to look at when the interval of quality ends, which has this number.
    var lossySubscriptions: [LossySubscription] = []
    var qualityInterval: UInt32 = 0

    /// - Parameters:
    ///   - index: This worker's position.
    ///   - limits: The server's limits.
    ///   - certificate: The certificate that every DTLS handshake presents.
    ///   - localAddresses: Those of our candidates, the most preferred first.
    ///   - outgoingRelays: One ring to each worker, by worker index; nil at our own. At most 64 workers.
    ///   - incomingRelays: One ring from each worker, by worker index; nil at our own.
    ///   - output: Where outputs go. Kept unowned: it must outlive the engine.
    /// - Throws: When OpenSSL can't be set up.
    public init(
        index: WorkerIndex,
        limits: Limits,
        certificate: DTLSCertificate,
        localAddresses: [IPAddress] = [],
        outgoingRelays: [RelayRing?],
        incomingRelays: [RelayRing?],
        output: any EngineOutput
    ) throws(DTLSError) {
        self.index = index
        var limits = limits
        limits.rtpPacketBytes = min(limits.rtpPacketBytes, Self.maximumPacketBytes)
        self.limits = limits
        workerBudget = HistoryBudget(limit: limits.historyBytesPerWorker)
        dtlsContext = try DTLSContext(certificate: certificate)
        self.localAddresses = localAddresses
        self.outgoingRelays = outgoingRelays
        self.incomingRelays = incomingRelays
        self.output = output
        replyBuffer.reserveCapacity(EgressBatch.slotBytes)
        rtcpBuffer.reserveCapacity(EgressBatch.slotBytes)
        relayBuffer.reserveCapacity(Encoding.maximumPending)
        sequenceNumbers.reserveCapacity(2048)
    }

    /// Takes one datagram in: step 2 of the data path. Its bytes are decrypted in place and not kept.
    ///
    /// - Parameter arrival: When it reached this machine, which is what peers are told; nil when it has just done so.
    public func receive(
        _ datagram: UnsafeMutableRawBufferPointer,
        from pair: AddressPair,
        arrivedAt arrival: Instant? = nil,
        now: Instant
    ) {
        arrivedAt = min(arrival ?? now, now)
        guard let first = datagram.first else { return count(.unknownProtocol) }
        switch DatagramKind(firstByte: first) {
        case .stun: receiveSTUN(datagram, from: pair, now: now)
        case .dtls: receiveDTLS(datagram, from: pair.remote, now: now)
        case .srtp: receiveSRTP(datagram, from: pair.remote, now: now)
        case .unknown: count(.unknownProtocol)
        }
    }

    /// Carries out a command.
    public func apply(_ command: Command, now: Instant) {
        switch command {
        case .addPeer(let description, let reply): reply(addPeer(description, now: now))
        case .removePeer(let id): if let peer = peers[id] { close(peer, reason: .removed, now: now) }
        case .restartICE(let id, let local, _, let reply):
            reply(restartICE(id, local: local))
        case .setPublished(let id, let published, let reply):
            reply(setPublished(published, of: id, now: now))
        case .changeSubscriptions(let id, let ending, let beginning, let reply):
            reply(changeSubscriptions(of: id, ending: ending, beginning: beginning, now: now))
        case .pauseSubscription(let id, let ssrc, let isPaused):
            pauseSubscription(ssrc, of: id, isPaused: isPaused, now: now)
        case .limitSubscription(let id, let ssrc, let highest):
            limitSubscription(ssrc, of: id, highestEncoding: highest, now: now)
        case .takeAudioLevels(let reply): reply(takeAudioLevels())
        case .takeQualityChanges(let reply): reply(takeQualityChanges(now: now))
        case .removeTrack(let id): removeTrack(id)
        case .snapshot(let includingPeers, let reply): reply(snapshot(includingPeers: includingPeers))
        case .lastHeard(let id, let reply): reply(peers[id]?.lastHeard.map { now - $0 })
        }
    }

    /// Forwards what the turn received and flushes what it produced.
    ///
    /// - Parameter lag: How long the oldest datagram of the turn had waited before it was read; nil when none was.
    public func endTurn(now: Instant, lag: Duration? = nil) {
        if let lag = longestWait(andRead: lag) {
            shedder.observe(lag: lag, limits: limits, now: now)
            relayLag = nil
        }
        isBlocked = false
        forwardQueuedTracks(now: now)
        flush()
        continueWaitingHandshakes(now: now)
        flush()
        relayWaiting(now: now)
        wakeRelayReaders()
    }

    /// Tells the workers whose rings were written.
    func wakeRelayReaders() {
        guard relaysWritten != 0 else { return }
        for worker in outgoingRelays.indices where relaysWritten & (1 << UInt64(worker)) != 0 {
            output.wake(WorkerIndex(rawValue: worker))
        }
        relaysWritten = 0
    }

    /// How long the oldest of what the turn received had waited, relayed packets included; nil when nothing came.
    ///
    /// - Parameter lag: How long the oldest datagram had waited before it was read; nil when none was.
    public func longestWait(andRead lag: Duration?) -> Duration? {
        guard let relayLag else { return lag }
        return max(lag ?? .zero, relayLag)
    }

    /// Ends all peers with a DTLS close_notify.
    public func shutdown(now: Instant) {
        for peer in Array(peers.values) { close(peer, reason: .shutdown, now: now) }
        flush()
    }

    /// When `advance` has to be called next; nil while nothing waits.
    public var nextDeadline: Instant? {
        if !waitingHandshakes.isEmpty { return Instant(nanoseconds: 0) }
        guard earliestDeadline != .distantFuture else { return nil }
        let grid = UInt64(Self.deadlineGrid.wholeNanoseconds)
        let (rounded, overflow) = earliestDeadline.nanoseconds.addingReportingOverflow(grid - 1)
        return overflow ? earliestDeadline : Instant(nanoseconds: rounded / grid * grid)
    }

    // MARK: Outputs

    func count(_ reason: DropReason) { counters.count(reason) }

    func flush() {
        guard !egress.isEmpty else { return }
        output.flush(egress)
        isBlocked = !egress.isEmpty
    }

    /// Whether there is room for this many datagrams. What waits is sent first when it is a good deal by now.
    @inline(__always)
    func makeRoom(for datagrams: Int) -> Bool {
        // A kernel that took nothing a moment ago takes nothing now.
        if egress.wantsFlush || !egress.hasRoom(for: datagrams), !isBlocked { flush() }
        return egress.hasRoom(for: datagrams)
    }

    /// Queues a datagram that is ready to be sent.
    func send(_ datagram: UnsafeRawBufferPointer, to destination: AddressPair) {
        guard let base = datagram.baseAddress, datagram.count <= EgressBatch.slotBytes else { return }
        guard makeRoom(for: 1) else { return count(.egressFull) }
        egress.freeSlot.copyMemory(from: base, byteCount: datagram.count)
        egress.commit(length: datagram.count, to: destination)
    }

    /// Seals `rtcpBuffer` and queues it.
    func sendRTCP(to peer: Peer) {
        guard let session = peer.session, let destination = peer.ice.selected, !rtcpBuffer.isEmpty,
            rtcpBuffer.count + session.profile.rtcpOverhead <= EgressBatch.slotBytes
        else { return }
        guard makeRoom(for: 1) else { return count(.egressFull) }
        let length = rtcpBuffer.withUnsafeBytes { session.sealer.sealRTCP($0, into: egress.freeSlot) }
        egress.commit(length: length, to: destination)
    }

    /// Tells another worker a publisher's clock; when there is no room it is left out, as the next one comes soon.
    func relayClock(_ head: RelayRecord.Head, to worker: Int) { _ = write(head, to: worker) }

    /// Tells another worker something; it waits while there is no room in the ring.
    func relay(_ head: RelayRecord.Head, to worker: Int) {
        guard !write(head, to: worker) else { return }
        if let older = waitingRelays.firstIndex(where: { $0.worker == worker && head.voids($0.head) }) {
            let void = waitingRelays.remove(at: older).head
            if void.kind == .parameterSets { _ = ParameterSets.takenOver(void.chunk) }
        }
        keepWaiting(head, for: worker)
    }

    /// Lends another worker the packets of a batch that lie in one chunk. They are dropped when there is no room in the ring.
    func relay(
        _ packets: UnsafeBufferPointer<PacketRecord>,
        in chunk: PacketChunk,
        of encoding: Encoding,
        track: TrackID,
        to worker: Int
    ) {
        let loan = chunk.lend()
        var head = RelayRecord.Head(kind: .packets, track: track)
        head.generation = encoding.generation
        head.ssrc = encoding.ssrc
        head.isTight = encoding.history.isTight
        head.chunk = loan
        if !write(head, packets: packets, to: worker) {
            chunk.giveBack()
            counters.drops[DropReason.relayFull.rawValue] += UInt64(packets.count)
        }
    }

    /// - Returns: False when there is no room, or something else waits for it.
    private func write(
        _ head: RelayRecord.Head,
        packets: UnsafeBufferPointer<PacketRecord> = .init(start: nil, count: 0),
        to worker: Int
    ) -> Bool {
        guard outgoingRelays.indices.contains(worker), let ring = outgoingRelays[worker] else { return true }
        if relaysWaiting & (1 << UInt64(worker)) != 0 { return false }
        guard ring.write(head, packets: packets) else { return false }
        relaysWritten |= 1 << UInt64(worker)
        return true
    }

    private func keepWaiting(_ head: RelayRecord.Head, for worker: Int) {
        waitingRelays.append((head, worker))
        relaysWaiting |= 1 << UInt64(worker)
    }

    /// Tries again what waits for room in the rings.
    private func relayWaiting(now: Instant) {
        guard !waitingRelays.isEmpty else { return }
        let waiting = waitingRelays
        waitingRelays.removeAll()
        relaysWaiting = 0
        for (head, worker) in waiting where !write(head, to: worker) { keepWaiting(head, for: worker) }
        if !waitingRelays.isEmpty { earliestDeadline = min(earliestDeadline, now + Self.deadlineGrid) }
    }
}
