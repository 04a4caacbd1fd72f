import CLinux
import Forwarding
import Glibc
import Wire

/// A worker's non-blocking UDP socket: many datagrams in with one `recvmmsg`, many out with one `sendmmsg`.
///
/// Owns the descriptor and the arrays below. Invariant: entry `i` of `received` points at slot `i` of `slab` and at `sources[i]`;
/// entry `i` of `outgoing` at `vectors[i]` and `destinations[i]`. Confined to its worker's thread once that runs.
final class UDPSocket {
    /// Datagrams read with one call.
    private static let receiveBatch = 64
    /// A whole Ethernet frame and the jumbo part of what loopback lets through; longer datagrams are cut off and rejected.
    private static let slotBytes = 2048
    /// Datagrams handed over with one call.
    private static let sendBatch = 512
    /// The kernel grants what its limits allow.
    private static let bufferBytes: Int32 = 8 << 20

    let descriptor: Int32
    /// What the socket is bound to.
    let address: SocketAddress
    private let isIPv6: Bool
    private let slab: UnsafeMutableRawPointer
    private let sources: UnsafeMutablePointer<sockaddr_in6>
    private let receiveVectors: UnsafeMutablePointer<iovec>
    private let received: UnsafeMutablePointer<sluice_mmsghdr>
    private let destinations: UnsafeMutablePointer<sockaddr_in6>
    private let sendVectors: UnsafeMutablePointer<iovec>
    private let outgoing: UnsafeMutablePointer<sluice_mmsghdr>

    /// - Throws: When the address is not ours or the port is taken.
    init(binding requested: SocketAddress) throws(WorkerError) {
        func failure() -> WorkerError { .bind(address: requested, reason: String(cString: strerror(errno))) }
        isIPv6 = requested.ip.family == .v6
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
        }
        destinations = .allocate(capacity: Self.sendBatch)
        destinations.initialize(repeating: sockaddr_in6(), count: Self.sendBatch)
        sendVectors = .allocate(capacity: Self.sendBatch)
        sendVectors.initialize(repeating: iovec(), count: Self.sendBatch)
        outgoing = .allocate(capacity: Self.sendBatch)
        for index in 0..<Self.sendBatch {
            (outgoing + index).initialize(to: sluice_mmsghdr())
            outgoing[index].msg_hdr.msg_name = UnsafeMutableRawPointer(destinations + index)
            outgoing[index].msg_hdr.msg_iov = sendVectors + index
            outgoing[index].msg_hdr.msg_iovlen = 1
        }
    }

    deinit {
        close(descriptor)
        slab.deallocate()
        sources.deallocate()
        receiveVectors.deallocate()
        received.deallocate()
        destinations.deallocate()
        sendVectors.deallocate()
        outgoing.deallocate()
    }

    /// Reads one batch of datagrams: step 1 of the data path. The bytes given to `body` are its to change, until it returns.
    ///
    /// - Returns: Whether more may be waiting.
    func receive(_ body: (UnsafeMutableRawBufferPointer, SocketAddress) -> Void) -> Bool {
        for index in 0..<Self.receiveBatch {
            received[index].msg_hdr.msg_namelen = socklen_t(MemoryLayout<sockaddr_in6>.size)
        }
        let count = Int(sluice_recvmmsg(descriptor, received, UInt32(Self.receiveBatch), 0, nil))
        guard count > 0 else { return false }
        for index in 0..<count {
            guard let source = Self.read(&sources[index]) else { continue }
            // A datagram that was cut off has lost its authentication tag: it is counted like any other that is too long.
            let length = min(Int(received[index].msg_len), Self.slotBytes)
            body(UnsafeMutableRawBufferPointer(start: slab + index * Self.slotBytes, count: length), source)
        }
        return count == Self.receiveBatch
    }

    /// Hands a batch to the kernel: step 7 of the data path.
    ///
    /// - Returns: How many datagrams and bytes it took. What it did not take is lost, as on any network.
    func send(_ batch: EgressBatch) -> (datagrams: Int, bytes: Int) {
        var sent = 0
        var bytes = 0
        var start = 0
        while start < batch.count {
            let count = min(Self.sendBatch, batch.count - start)
            for index in 0..<count {
                let datagram = batch.bytes(at: start + index)
                sendVectors[index].iov_base = UnsafeMutableRawPointer(mutating: datagram.baseAddress)
                sendVectors[index].iov_len = datagram.count
                outgoing[index].msg_hdr.msg_namelen = Self.write(
                    batch.destination(at: start + index),
                    to: &destinations[index],
                    isIPv6: isIPv6
                )
            }
            var done = 0
            while done < count {
                let result = Int(sluice_sendmmsg(descriptor, outgoing + done, UInt32(count - done), 0))
                if result > 0 {
                    for index in done..<(done + result) { bytes += sendVectors[index].iov_len }
                    sent += result
                    done += result
                } else if errno == EAGAIN || errno == ENOBUFS {
                    // The kernel's buffer is full: what is left would only be late.
                    return (sent, bytes)
                } else if errno != EINTR {
                    // One destination can't be reached: the others can.
                    done += 1
                }
            }
            start += count
        }
        return (sent, bytes)
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
