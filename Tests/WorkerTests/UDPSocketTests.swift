import Testing
import Wire

@testable import Forwarding
@testable import Worker

/// Real sockets on loopback.
@Suite struct UDPSocketTests {
    private static let anyPort = SocketAddress(ip: .loopbackV4, port: 0)

    /// What arrives at a socket within a moment.
    private static func receive(_ socket: UDPSocket, atLeast count: Int) -> [[UInt8]] {
        var datagrams: [[UInt8]] = []
        for _ in 0..<1_000_000 where datagrams.count < count {
            _ = socket.receive { datagram, _ in datagrams.append(Array(datagram)) }
        }
        return datagrams
    }

    private static func put(_ bytes: [UInt8], for destination: SocketAddress, into batch: EgressBatch) {
        bytes.withUnsafeBytes { batch.freeSlot.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        batch.commit(length: bytes.count, to: destination)
    }

    /// Whatever way a kernel has to send them, the same datagrams arrive, in their order and with their borders.
    @Test(arguments: SendMode.allCases)
    func sendsTheSameInEveryMode(mode: SendMode) throws {
        let sender = try UDPSocket(binding: Self.anyPort, bestMode: mode)
        let first = try UDPSocket(binding: Self.anyPort)
        let second = try UDPSocket(binding: Self.anyPort)
        #expect(sender.mode == mode)
        let batch = EgressBatch()
        var sent: [[UInt8]] = []
        for (number, length) in [1200, 1200, 1200, 300, 1200, 77, 77, 78, 1, 1].enumerated() {
            sent.append([UInt8](repeating: UInt8(number), count: length))
        }
        for bytes in sent { Self.put(bytes, for: first.address, into: batch) }
        for bytes in sent.reversed() { Self.put(bytes, for: second.address, into: batch) }
        let result = sender.send(batch)
        #expect(result.datagrams == 20 && result.failed == 0 && batch.isEmpty)
        #expect(result.bytes == 2 * sent.reduce(0) { $0 + $1.count })
        #expect(Self.receive(first, atLeast: 10) == sent)
        #expect(Self.receive(second, atLeast: 10) == sent.reversed())
    }

    /// One destination that can't be reached costs nobody else anything.
    @Test(arguments: SendMode.allCases)
    func othersAreReachedWhenOneIsNot(mode: SendMode) throws {
        let sender = try UDPSocket(binding: Self.anyPort, bestMode: mode)
        let receiver = try UDPSocket(binding: Self.anyPort)
        let batch = EgressBatch()
        Self.put([1], for: receiver.address, into: batch)
        // Port 0 is nobody's: the kernel refuses it.
        Self.put([2], for: SocketAddress(ip: .loopbackV4, port: 0), into: batch)
        Self.put([3], for: receiver.address, into: batch)
        let result = sender.send(batch)
        #expect(result.datagrams == 2 && result.failed == 1 && batch.isEmpty)
        #expect(Self.receive(receiver, atLeast: 2) == [[1], [3]])
    }

    /// A segment that is too long to be one is sent as a datagram by itself.
    @Test func segmentsLongerThanThePathAreSentOneByOne() throws {
        let sender = try UDPSocket(binding: Self.anyPort)
        let receiver = try UDPSocket(binding: Self.anyPort)
        let batch = EgressBatch()
        let sent = (0..<40).map { [UInt8](repeating: UInt8($0), count: 1500) }
        for bytes in sent { Self.put(bytes, for: receiver.address, into: batch) }
        let result = sender.send(batch)
        #expect(result.datagrams == 40)
        #expect(Self.receive(receiver, atLeast: 40) == sent)
    }
}
