package import Transport
package import Wire

/// One direction of a network path, on the virtual clock: a bottleneck with a queue before it, then a way on which packets take time,
/// get lost, overtake each other and come twice. Several clients may share one.
package final class Link {
    package enum Loss: Equatable {
        /// Each packet alone, with this probability.
        case random(Double)
        /// Bursts (Gilbert–Elliott): the probabilities that a good time ends and that a bad one ends, both at each packet. All packets
        /// of a bad time are lost.
        case bursts(begin: Double, end: Double)

        package static let none = Loss.random(0)
    }

    package struct Conditions {
        /// Of the bottleneck, all bytes of the IP packet counted; nil without one, 0 where nothing gets through.
        package var bitsPerSecond: Int?
        /// A packet that would wait longer than this before the bottleneck is dropped (drop-tail).
        package var queue = Duration.milliseconds(200)
        /// Of each packet, behind the bottleneck.
        package var delay = Duration.zero
        /// Up to so much is added to a packet's delay, evenly distributed. Packets keep their order.
        package var jitter = Duration.zero
        package var loss = Loss.none
        /// The part of the packets that others overtake: they come this much later.
        package var reordered = 0.0
        package var reorderingDelay = Duration.milliseconds(10)
        /// The part of the packets that come twice.
        package var duplicated = 0.0

        package init(
            bitsPerSecond: Int? = nil,
            queue: Duration = .milliseconds(200),
            delay: Duration = .zero,
            jitter: Duration = .zero,
            loss: Loss = .none
        ) {
            self.bitsPerSecond = bitsPerSecond
            self.queue = queue
            self.delay = delay
            self.jitter = jitter
            self.loss = loss
        }
    }

    /// A datagram and where it goes.
    package struct Packet {
        package let bytes: [UInt8]
        package let source: SocketAddress
        package let destination: SocketAddress
        /// When it was given to the link.
        package let sentAt: Instant
        /// When it came out.
        package fileprivate(set) var arrivedAt: Instant

        fileprivate var bits: Int { (bytes.count + Link.headerBytes) * 8 }
    }

    /// IPv4 and UDP.
    static let headerBytes = 28

    private var conditions: Conditions
    private var random: Simulation.Random
    /// Before the bottleneck, the first of them being sent.
    private var queue: ContiguousArray<Packet> = []
    private var firstQueued = 0
    private var queuedBits = 0
    /// Of the first packet, what the bottleneck still has to send.
    private var bitsLeft = 0.0
    /// Up to when the bottleneck has worked.
    private var clock = Instant(nanoseconds: 0)
    /// Behind the bottleneck, by their arrival.
    private var underway: ContiguousArray<Packet> = []
    private var latestArrival = Instant(nanoseconds: 0)
    private var isBadTime = false

    package private(set) var sentCount = 0
    /// Packets that found the queue full.
    package private(set) var droppedCount = 0
    /// Packets that got lost behind the bottleneck.
    package private(set) var lostCount = 0
    package private(set) var deliveredBytes = 0

    package init(_ conditions: Conditions = Conditions(), seed: UInt64) {
        self.conditions = conditions
        random = Simulation.Random(state: seed)
    }

    /// Changes what the link is like from now on. What waits goes on at the new rate.
    package func change(to conditions: Conditions, now: Instant) {
        work(until: now)
        self.conditions = conditions
    }

    /// Changes only some of it.
    package func change(now: Instant, _ change: (inout Conditions) -> Void) {
        var changed = conditions
        change(&changed)
        self.change(to: changed, now: now)
    }

    /// How long a packet that is given to it now waits before the bottleneck.
    package var queueingDelay: Duration {
        guard let rate = conditions.bitsPerSecond, queuedBits > 0 else { return .zero }
        return rate > 0 ? .nanoseconds(Int64(Double(queuedBits) / Double(rate) * 1e9)) : .seconds(3600)
    }

    package func send(_ bytes: [UInt8], from source: SocketAddress, to destination: SocketAddress, now: Instant) {
        work(until: now)
        sentCount += 1
        let packet = Packet(bytes: bytes, source: source, destination: destination, sentAt: now, arrivedAt: now)
        guard let rate = conditions.bitsPerSecond else { return pass(packet, at: now) }
        guard rate > 0, queueingDelay <= conditions.queue else {
            droppedCount += 1
            return
        }
        if firstQueued == queue.count { bitsLeft = Double(packet.bits) }
        queue.append(packet)
        queuedBits += packet.bits
    }

    /// The packets that have come out by now, in order of their arrival.
    package func receive(now: Instant) -> [Packet] {
        work(until: now)
        let count = underway.firstIndex { $0.arrivedAt > now } ?? underway.count
        guard count > 0 else { return [] }
        let arrived = Array(underway[..<count])
        underway.removeFirst(count)
        for packet in arrived { deliveredBytes += packet.bytes.count }
        return arrived
    }

    /// Lets the bottleneck send.
    private func work(until now: Instant) {
        guard now > clock else { return }
        defer { clock = now }
        guard let rate = conditions.bitsPerSecond else {
            // The bottleneck is gone.
            while firstQueued < queue.count { leaveQueue(at: max(clock, queue[firstQueued].sentAt)) }
            return
        }
        guard rate > 0 else { return }
        let bitsPerNanosecond = Double(rate) / 1e9
        while firstQueued < queue.count {
            let begun = max(clock, queue[firstQueued].sentAt)
            let nanoseconds = UInt64((bitsLeft / bitsPerNanosecond).rounded(.up))
            guard begun.nanoseconds + nanoseconds <= now.nanoseconds else {
                bitsLeft -= Double(now.nanoseconds - begun.nanoseconds) * bitsPerNanosecond
                return
            }
            clock = Instant(nanoseconds: begun.nanoseconds + nanoseconds)
            leaveQueue(at: clock)
        }
    }

    private func leaveQueue(at instant: Instant) {
        let packet = queue[firstQueued]
        firstQueued += 1
        queuedBits -= packet.bits
        if firstQueued < queue.count {
            bitsLeft = Double(queue[firstQueued].bits)
        } else {
            queue.removeAll(keepingCapacity: true)
            firstQueued = 0
        }
        pass(packet, at: instant)
    }

    /// The way behind the bottleneck.
    private func pass(_ packet: Packet, at instant: Instant) {
        guard !isLost() else {
            lostCount += 1
            return
        }
        var delay = conditions.delay
        if conditions.jitter > .zero { delay += conditions.jitter * chance() }
        var packet = packet
        if conditions.reordered > 0, chance() < conditions.reordered {
            packet.arrivedAt = max(instant + delay, latestArrival) + conditions.reorderingDelay
        } else {
            packet.arrivedAt = max(instant + delay, latestArrival)
            latestArrival = packet.arrivedAt
        }
        enter(packet)
        if conditions.duplicated > 0, chance() < conditions.duplicated { enter(packet) }
    }

    private func enter(_ packet: Packet) {
        var place = underway.count
        while place > 0, underway[place - 1].arrivedAt > packet.arrivedAt { place -= 1 }
        underway.insert(packet, at: place)
    }

    private func isLost() -> Bool {
        switch conditions.loss {
        case .random(let probability):
            return probability > 0 && chance() < probability
        case .bursts(let begin, let end):
            isBadTime = isBadTime ? chance() >= end : chance() < begin
            return isBadTime
        }
    }

    /// Evenly distributed, 0 to 1.
    private func chance() -> Double { Double(random.next() >> 11) * 0x1p-53 }
}
