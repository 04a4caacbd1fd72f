import CLinux
import Forwarding
import Glibc
import Transport
import Wire

/// How datagrams are handed to the kernel, the cheapest first. The socket begins with the cheapest that the kernel has.
public enum SendMode: Int, Sendable, CaseIterable, Comparable {
    /// A message of many equally long datagrams, which the kernel cuts (`UDP_SEGMENT`), many messages with one call.
    case segmented
    /// Each datagram by itself, many with one call (`sendmmsg`).
    case batched
    /// One datagram with each call (`sendmsg`).
    case single

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A worker's non-blocking UDP socket: many datagrams in with one `recvmmsg`, many out with one `sendmmsg`; those that belong
/// together as one message where the kernel can (UDP GRO and GSO).
///
/// A host may have several addresses. A socket that is bound to all of them says of each datagram which one it came to, and sends
/// from the one that it is told to: a peer takes an answer only from where its check went (RFC 8445 §7.2.5.2.1).
///
/// Owns the descriptor and the arrays below. Invariant: entry `i` of `received` points at slot `i` of `slab` and at `sources[i]`;
/// entry `i` of `outgoing` at `sendVectors[i]`, `destinations[i]` and slot `i` of `sendControls`. Confined to its worker's thread
/// once that runs.
final class UDPSocket {
    /// Messages read with one call.
    private static let receiveBatch = 32
    /// What one message can hold: the longest UDP datagram, or as many as the kernel coalesced.
    private static let slotBytes = 1 << 16
    /// Messages handed over with one call.
    private static let sendBatch = 256
    /// Room for the control messages that we ask for, or send.
    private static let controlBytes = 128
    /// When so many messages in a row can't be segmented, no device here can.
    private static let refusalsToGiveUp = 32
    /// The kernel grants what its limits allow.
    private static let bufferBytes: Int32 = 8 << 20

    let descriptor: Int32
    /// What the socket is bound to.
    let address: SocketAddress
    /// How datagrams are sent: worsens when the kernel turns out not to have what it promised.
    private(set) var mode: SendMode
    /// Messages that no device could segment since one could.
    private var refusedInARow = 0
    /// How long the oldest datagram of the last `receive` had waited for it; nil when there was none.
    private(set) var longestWait: Duration?
    private let isIPv6: Bool
    /// Whether the socket has all addresses of the host.
    private let hasAllAddresses: Bool
    /// When nothing waited to be read last.
    private var lastEmpty: Instant?
    private let slab: UnsafeMutableRawPointer
    private let sources: UnsafeMutablePointer<sockaddr_in6>
    private let receiveControls: UnsafeMutableRawPointer
    private let receiveVectors: UnsafeMutablePointer<iovec>
    private let received: UnsafeMutablePointer<sluice_mmsghdr>
    private let destinations: UnsafeMutablePointer<sockaddr_in6>
    private let sendControls: UnsafeMutableRawPointer
    private let sendVectors: UnsafeMutablePointer<iovec>
    private let outgoing: UnsafeMutablePointer<sluice_mmsghdr>

    /// - Parameter bestMode: The cheapest way of sending that may be used.
    /// - Throws: When the address is not ours or the port is taken.
    init(binding requested: SocketAddress, bestMode: SendMode = .segmented) throws(WorkerError) {
        func failure() -> WorkerError { .bind(address: requested, reason: String(cString: strerror(errno))) }
        isIPv6 = requested.ip.family == .v6
        hasAllAddresses = requested.ip.isUnspecified
        let descriptor = socket(
            isIPv6 ? AF_INET6 : AF_INET,
            Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue),
            0
        )
        guard descriptor >= 0 else { throw failure() }
        self.descriptor = descriptor
        var off: Int32 = 0
        if isIPv6 { setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &off, 4) }
        var size = Self.bufferBytes
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, 4)
        // Without it each datagram is a message of its own, and all else is the same.
        var on: Int32 = 1
        setsockopt(descriptor, Int32(sluice_SOL_UDP), Int32(sluice_UDP_GRO), &on, 4)
        setsockopt(descriptor, SOL_SOCKET, Int32(sluice_SO_TIMESTAMPNS), &on, 4)
        if hasAllAddresses {
            let (level, option) =
                isIPv6
                ? (Int32(IPPROTO_IPV6), Int32(sluice_IPV6_RECVPKTINFO)) : (Int32(IPPROTO_IP), Int32(sluice_IP_PKTINFO))
            setsockopt(descriptor, level, option, &on, 4)
        }
        mode = max(bestMode, Self.probeMode(descriptor))

        var name = sockaddr_in6()
        var length = Self.write(requested, to: &name, isIPv6: isIPv6)
        let isBound = withUnsafePointer(to: &name) { name in
            name.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let isNamed = withUnsafeMutablePointer(to: &name) { name in
            name.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard isBound == 0, isNamed == 0, let bound = Self.read(&name) else {
            let error = failure()
            close(descriptor)
            throw error
        }
        address = SocketAddress(ip: requested.ip, port: bound.port)

        slab = .allocate(byteCount: Self.receiveBatch * Self.slotBytes, alignment: 64)
        sources = .allocate(capacity: Self.receiveBatch)
        sources.initialize(repeating: sockaddr_in6(), count: Self.receiveBatch)
        receiveControls = .allocate(byteCount: Self.receiveBatch * Self.controlBytes, alignment: 16)
        receiveVectors = .allocate(capacity: Self.receiveBatch)
        received = .allocate(capacity: Self.receiveBatch)
        for index in 0..<Self.receiveBatch {
            (receiveVectors + index).initialize(
                to: iovec(iov_base: slab + index * Self.slotBytes, iov_len: Self.slotBytes)
            )
            (received + index).initialize(to: sluice_mmsghdr())
            received[index].msg_hdr.msg_name = UnsafeMutableRawPointer(sources + index)
            received[index].msg_hdr.msg_iov = receiveVectors + index
            received[index].msg_hdr.msg_iovlen = 1
            received[index].msg_hdr.msg_control = receiveControls + index * Self.controlBytes
        }
        destinations = .allocate(capacity: Self.sendBatch)
        destinations.initialize(repeating: sockaddr_in6(), count: Self.sendBatch)
        sendControls = .allocate(byteCount: Self.sendBatch * Self.controlBytes, alignment: 16)
        sendControls.initializeMemory(as: UInt8.self, repeating: 0, count: Self.sendBatch * Self.controlBytes)
        sendVectors = .allocate(capacity: Self.sendBatch)
        sendVectors.initialize(repeating: iovec(), count: Self.sendBatch)
        outgoing = .allocate(capacity: Self.sendBatch)
        for index in 0..<Self.sendBatch {
            (outgoing + index).initialize(to: sluice_mmsghdr())
            outgoing[index].msg_hdr.msg_name = UnsafeMutableRawPointer(destinations + index)
            outgoing[index].msg_hdr.msg_iov = sendVectors + index
            outgoing[index].msg_hdr.msg_iovlen = 1
            outgoing[index].msg_hdr.msg_control = sendControls + index * Self.controlBytes
        }
    }

    deinit {
        close(descriptor)
        slab.deallocate()
        sources.deallocate()
        receiveControls.deallocate()
        receiveVectors.deallocate()
        received.deallocate()
        destinations.deallocate()
        sendControls.deallocate()
        sendVectors.deallocate()
        outgoing.deallocate()
    }

    /// The cheapest way of sending that the kernel has.
    private static func probeMode(_ descriptor: Int32) -> SendMode {
        var none: Int32 = 0
        let hasSegments = setsockopt(
            descriptor,
            Int32(sluice_SOL_UDP),
            Int32(sluice_UDP_SEGMENT),
            &none,
            4
        )
        if hasSegments == 0 { return .segmented }
        return sluice_sendmmsg(descriptor, nil, 0, 0) < 0 && errno == ENOSYS ? .single : .batched
    }

    /// Reads one batch of datagrams: step 1 of the data path. The bytes given to `body` are its to change, until it returns.
    ///
    /// - Parameter body: Gets each datagram, where it came from and to, and when it reached this machine.
    /// - Returns: Whether more may be waiting.
    func receive(_ body: (UnsafeMutableRawBufferPointer, AddressPair, Instant) -> Void) -> Bool {
        for index in 0..<Self.receiveBatch {
            received[index].msg_hdr.msg_namelen = socklen_t(MemoryLayout<sockaddr_in6>.size)
            received[index].msg_hdr.msg_controllen = Self.controlBytes
        }
        let count = Int(sluice_recvmmsg(descriptor, received, UInt32(Self.receiveBatch), 0, nil))
        longestWait = count > 0 ? .zero : nil
        let now = Instant.now
        // The kernel stamps by the wall clock, which is set now and then. What waits has come since nothing did.
        let longestPossible = lastEmpty.map { now - $0 } ?? .zero
        if count < Self.receiveBatch { lastEmpty = now }
        guard count > 0 else { return false }
        var wallClock = timespec()
        clock_gettime(CLOCK_REALTIME, &wallClock)
        var controls = sluice_controls()
        for index in 0..<count {
            guard let source = Self.read(&sources[index]) else { continue }
            let length = min(Int(received[index].msg_len), Self.slotBytes)
            controls.arrival = wallClock
            sluice_read_controls(&received[index].msg_hdr, &controls)
            let arrival = controls.arrival
            let wait = min(
                max(
                    .zero,
                    .seconds(wallClock.tv_sec - arrival.tv_sec) + .nanoseconds(wallClock.tv_nsec - arrival.tv_nsec)
                ),
                longestPossible
            )
            longestWait = max(longestWait ?? .zero, wait)
            let local = hasAllAddresses ? Self.read(&controls.local)?.ip : nil
            let pair = AddressPair(remote: source, local: local ?? .unspecified)
            let arrivedAt = now + (.zero - wait)
            // Datagrams of one source that were coalesced: each has this length, but for the last.
            let step = controls.segment_bytes > 0 ? Int(controls.segment_bytes) : max(length, 1)
            var offset = 0
            repeat {
                let bytes = min(step, length - offset)
                let start = slab + index * Self.slotBytes + offset
                body(UnsafeMutableRawBufferPointer(start: start, count: bytes), pair, arrivedAt)
                offset += bytes
            } while offset < length
        }
        return count == Self.receiveBatch
    }

    // MARK: Sending

    /// What became of a batch.
    struct Sent {
        var datagrams = 0
        var bytes = 0
        /// Datagrams that can't be sent, such as those to an address that can't be reached.
        var failed = 0
    }

    /// Hands a batch to the kernel: step 7 of the data path. Messages that the kernel has no room for stay in the batch.
    func send(_ batch: EgressBatch) -> Sent {
        var sent = Sent()
        while !batch.isEmpty {
            let isOpen =
                switch mode {
                case .segmented: sendSegmented(batch, &sent)
                case .batched, .single: sendDatagrams(of: batch, messages: batch.messageCount, &sent)
                }
            guard isOpen else { break }
        }
        return sent
    }

    /// Sends whole messages, as many as one call takes.
    ///
    /// - Returns: False when the kernel has no room for more.
    private func sendSegmented(_ batch: EgressBatch, _ sent: inout Sent) -> Bool {
        let count = min(Self.sendBatch, batch.messageCount)
        for index in 0..<count {
            let message = batch.message(at: index)
            prepare(index, batch.bytes(of: message), to: message.destination)
            if message.segmentCount > 1 {
                sluice_add_segment_bytes(&outgoing[index].msg_hdr, UInt16(truncatingIfNeeded: message.segmentBytes))
            }
        }
        let result = Int(sluice_sendmmsg(descriptor, outgoing, UInt32(count), 0))
        if result > 0 {
            for index in 0..<result {
                let message = batch.message(at: index)
                sent.datagrams += message.segmentCount
                sent.bytes += message.byteCount
                if message.segmentCount > 1 { refusedInARow = 0 }
            }
            batch.removeFirst(result)
            return true
        }
        switch errno {
        case EINTR: return true
        case EAGAIN, ENOBUFS: return false
        case EIO where batch.message(at: 0).segmentCount > 1:
            // The device that leads there can't compute checksums, which segmenting needs (udp(7)). Others may.
            refusedInARow += 1
            if refusedInARow == Self.refusalsToGiveUp { mode = .batched }
            return sendDatagrams(of: batch, messages: 1, &sent)
        case EINVAL where batch.message(at: 0).segmentCount > 1, EMSGSIZE where batch.message(at: 0).segmentCount > 1:
            // A segment is longer than the path takes in one piece: by itself it goes as fragments.
            return sendDatagrams(of: batch, messages: 1, &sent)
        default:
            // This destination can't be reached: others can.
            sent.failed += batch.message(at: 0).segmentCount
            batch.removeFirst(1)
            return true
        }
    }

    /// Sends the datagrams of the oldest messages, each by itself, as many as one call takes.
    ///
    /// - Returns: False when the kernel has no room for more.
    private func sendDatagrams(of batch: EgressBatch, messages: Int, _ sent: inout Sent) -> Bool {
        let limit = mode == .single ? 1 : Self.sendBatch
        var count = 0
        var index = 0
        while index < messages, count < limit {
            let message = batch.message(at: index)
            var rest = batch.bytes(of: message)[...]
            while !rest.isEmpty, count < limit {
                prepare(
                    count,
                    UnsafeRawBufferPointer(rebasing: rest.prefix(message.segmentBytes)),
                    to: message.destination
                )
                rest = rest.dropFirst(message.segmentBytes)
                count += 1
            }
            index += 1
        }
        let result =
            mode == .single
            ? min(1, sendmsg(descriptor, &outgoing[0].msg_hdr, 0) + 1)
            : Int(sluice_sendmmsg(descriptor, outgoing, UInt32(count), 0))
        if result > 0 {
            sent.datagrams += result
            for index in 0..<result { sent.bytes += sendVectors[index].iov_len }
            batch.removeFirstDatagrams(result)
            return true
        }
        switch errno {
        case EINTR: return true
        case EAGAIN, ENOBUFS: return false
        default:
            sent.failed += 1
            batch.removeFirstDatagrams(1)
            return true
        }
    }

    @inline(__always)
    private func prepare(_ index: Int, _ bytes: UnsafeRawBufferPointer, to destination: AddressPair) {
        sendVectors[index].iov_base = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
        sendVectors[index].iov_len = bytes.count
        outgoing[index].msg_hdr.msg_namelen = Self.write(destination.remote, to: &destinations[index], isIPv6: isIPv6)
        outgoing[index].msg_hdr.msg_controllen = 0
        if !destination.local.isUnspecified { addLocal(destination.local, to: &outgoing[index].msg_hdr) }
    }

    /// Has a message sent from this address of ours.
    private func addLocal(_ local: IPAddress, to header: UnsafeMutablePointer<msghdr>) {
        if isIPv6 {
            var name = sockaddr_in6()
            _ = Self.write(SocketAddress(ip: local, port: 0), to: &name, isIPv6: true)
            sluice_add_local_v6(header, &name.sin6_addr)
        } else {
            sluice_add_local_v4(header, in_addr(s_addr: UInt32(truncatingIfNeeded: local.low).bigEndian))
        }
    }

    /// Writes an address in the form that the socket's family wants: IPv4 on an IPv6 socket as `::ffff:a.b.c.d`.
    @inline(__always)
    private static func write(
        _ address: SocketAddress,
        to name: UnsafeMutablePointer<sockaddr_in6>,
        isIPv6: Bool
    ) -> socklen_t {
        let raw = UnsafeMutableRawPointer(name)
        if isIPv6 {
            raw.storeBytes(of: sa_family_t(AF_INET6), as: sa_family_t.self)
            raw.storeBytes(of: address.port.bigEndian, toByteOffset: 2, as: UInt16.self)
            raw.storeBytes(of: 0, toByteOffset: 4, as: UInt32.self)
            let isV4 = address.ip.family == .v4
            let low = isV4 ? 0xFFFF << 32 | address.ip.low : address.ip.low
            raw.storeBytes(of: address.ip.high.bigEndian, toByteOffset: 8, as: UInt64.self)
            raw.storeBytes(of: low.bigEndian, toByteOffset: 16, as: UInt64.self)
            raw.storeBytes(of: 0, toByteOffset: 24, as: UInt32.self)
            return socklen_t(MemoryLayout<sockaddr_in6>.size)
        }
        raw.storeBytes(of: sa_family_t(AF_INET), as: sa_family_t.self)
        raw.storeBytes(of: address.port.bigEndian, toByteOffset: 2, as: UInt16.self)
        raw.storeBytes(of: UInt32(truncatingIfNeeded: address.ip.low).bigEndian, toByteOffset: 4, as: UInt32.self)
        raw.storeBytes(of: 0, toByteOffset: 8, as: UInt64.self)
        return socklen_t(MemoryLayout<sockaddr_in>.size)
    }

    @inline(__always)
    private static func read(_ name: UnsafeMutablePointer<sockaddr_in6>) -> SocketAddress? {
        let raw = UnsafeRawPointer(name)
        let port = UInt16(bigEndian: raw.load(fromByteOffset: 2, as: UInt16.self))
        switch Int32(raw.load(as: sa_family_t.self)) {
        case AF_INET:
            let bits = UInt32(bigEndian: raw.load(fromByteOffset: 4, as: UInt32.self))
            return SocketAddress(ip: IPAddress(v4: bits), port: port)
        case AF_INET6:
            let high = UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            let low = UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
            let isMapped = high == 0 && low >> 32 == 0xFFFF
            let ip = isMapped ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(v6High: high, low: low)
            return SocketAddress(ip: ip, port: port)
        default:
            return nil
        }
    }
}
