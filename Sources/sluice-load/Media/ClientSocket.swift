import CLinux
import Glibc
import Wire

/// A non-blocking UDP socket connected to a server: frames go out as one message (UDP GSO), and come in as one (UDP GRO).
///
/// Owns the descriptor. Confined to the media thread.
final class ClientSocket {
    private static let bufferBytes: Int32 = 1 << 20

    let descriptor: Int32

    /// - Throws: When the server's address can't be reached from here.
    init(server: SocketAddress) throws(LoadError) {
        let isIPv6 = server.ip.family == .v6
        descriptor = socket(
            isIPv6 ? AF_INET6 : AF_INET,
            Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue),
            0
        )
        guard descriptor >= 0 else { throw LoadError("no more sockets: \(String(cString: strerror(errno)))") }
        var on: Int32 = 1
        setsockopt(descriptor, Int32(sluice_SOL_UDP), Int32(sluice_UDP_GRO), &on, 4)
        var size = Self.bufferBytes
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, 4)
        var result: Int32
        if isIPv6 {
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = server.port.bigEndian
            withUnsafeMutableBytes(of: &name.sin6_addr) {
                $0.storeBytes(of: server.ip.high.bigEndian, as: UInt64.self)
                $0.storeBytes(of: server.ip.low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            result = withUnsafePointer(to: &name) { name in
                name.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        } else {
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = server.port.bigEndian
            name.sin_addr.s_addr = UInt32(truncatingIfNeeded: server.ip.low).bigEndian
            result = withUnsafePointer(to: &name) { name in
                name.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        guard result == 0 else {
            let reason = String(cString: strerror(errno))
            close(descriptor)
            throw LoadError("\(server) can't be reached: \(reason)")
        }
    }

    deinit { close(descriptor) }

    /// Sends datagrams that lie one behind the other, each `segmentBytes` long but for the last, which may be shorter. What the
    /// kernel doesn't take is lost.
    func send(_ bytes: UnsafeRawBufferPointer, segmentBytes: Int) {
        guard let base = bytes.baseAddress else { return }
        if bytes.count <= segmentBytes {
            Glibc.send(descriptor, base, bytes.count, 0)
            return
        }
        var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: base), iov_len: bytes.count)
        var control = InlineArray<64, UInt8>(repeating: 0)
        var message = msghdr()
        withUnsafeMutablePointer(to: &vector) { vector in
            withUnsafeMutableBytes(of: &control) { control in
                message.msg_iov = vector
                message.msg_iovlen = 1
                message.msg_control = control.baseAddress
                sluice_add_segment_bytes(&message, UInt16(clamping: segmentBytes))
                sendmsg(descriptor, &message, 0)
            }
        }
    }
}

/// Buffers to read sockets with, one socket at a time.
///
/// Invariant: entry `i` of `messages` points at slot `i` of `slab` and of `controls`. Confined to the media thread.
final class DatagramReader {
    private static let messageCount = 8
    private static let slotBytes = 1 << 16
    private static let controlBytes = 64

    private let slab: UnsafeMutableRawPointer
    private let controls: UnsafeMutableRawPointer
    private let vectors: UnsafeMutablePointer<iovec>
    private let messages: UnsafeMutablePointer<sluice_mmsghdr>

    init() {
        slab = .allocate(byteCount: Self.messageCount * Self.slotBytes, alignment: 64)
        controls = .allocate(byteCount: Self.messageCount * Self.controlBytes, alignment: 16)
        vectors = .allocate(capacity: Self.messageCount)
        messages = .allocate(capacity: Self.messageCount)
        for index in 0..<Self.messageCount {
            (vectors + index).initialize(to: iovec(iov_base: slab + index * Self.slotBytes, iov_len: Self.slotBytes))
            (messages + index).initialize(to: sluice_mmsghdr())
            messages[index].msg_hdr.msg_iov = vectors + index
            messages[index].msg_hdr.msg_iovlen = 1
            messages[index].msg_hdr.msg_control = controls + index * Self.controlBytes
        }
    }

    deinit {
        slab.deallocate()
        controls.deallocate()
        vectors.deallocate()
        messages.deallocate()
    }

    /// Reads what waits on a socket, up to `messageCount` messages, and hands each datagram over.
    func read(_ descriptor: Int32, _ body: (UnsafeMutableRawBufferPointer) -> Void) {
        for index in 0..<Self.messageCount { messages[index].msg_hdr.msg_controllen = Self.controlBytes }
        let count = Int(sluice_recvmmsg(descriptor, messages, UInt32(Self.messageCount), 0, nil))
        guard count > 0 else { return }
        for index in 0..<count {
            let length = min(Int(messages[index].msg_len), Self.slotBytes)
            var controls = sluice_controls()
            sluice_read_controls(&messages[index].msg_hdr, &controls)
            let step = controls.segment_bytes > 0 ? Int(controls.segment_bytes) : max(length, 1)
            var offset = 0
            while offset < length {
                let bytes = min(step, length - offset)
                body(UnsafeMutableRawBufferPointer(start: slab + index * Self.slotBytes + offset, count: bytes))
                offset += bytes
            }
        }
    }
}
