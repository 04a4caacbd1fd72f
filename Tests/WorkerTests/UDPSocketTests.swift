import Testing
import Transport
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
            _ = socket.receive { datagram, _, _ in datagrams.append(Array(datagram)) }
        }
        return datagrams
    }

    private static func put(_ bytes: [UInt8], for destination: SocketAddress, into batch: EgressBatch) {
        put(bytes, for: AddressPair(remote: destination), into: batch)
    }

    private static func put(_ bytes: [UInt8], for destination: AddressPair, into batch: EgressBatch) {
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

    /// A host with several addresses: a peer takes an answer only from where its check went. Those of 127.0.0.0/8 are all ours.
    @Test(arguments: ["0.0.0.0", "::"], SendMode.allCases)
    func answersFromTheAddressThatWasAsked(listen: String, mode: SendMode) throws {
        let listen = try #require(IPAddress(listen))
        // A machine without IPv6 has nothing to show here.
        let loopbackV6 = SocketAddress(ip: IPAddress(v6High: 0, low: 1), port: 0)
        if listen.family == .v6, (try? UDPSocket(binding: loopbackV6)) == nil { return }
        let server = try UDPSocket(binding: SocketAddress(ip: listen, port: 0), bestMode: mode)
        let texts = ["127.0.0.1", "127.0.0.2", "127.45.67.89"] + (listen.family == .v6 ? ["::1"] : [])
        for text in texts {
            let local = try #require(IPAddress(text))
            let loopback = SocketAddress(ip: local.family == .v4 ? .loopbackV4 : local, port: 0)
            let client = try UDPSocket(binding: loopback)
            let batch = EgressBatch()
            Self.put([1], for: SocketAddress(ip: local, port: server.address.port), into: batch)
            Self.put([1], for: SocketAddress(ip: local, port: server.address.port), into: batch)
            #expect(client.send(batch).datagrams == 2)
            let questions = Self.receivePairs(server, atLeast: 2)
            #expect(questions.allSatisfy { $0 == AddressPair(remote: client.address, local: local) })

            // Of equal length, so that they leave as one message where the kernel can cut it.
            for number in UInt8(0)..<3 { Self.put([number, 9], for: questions[0], into: batch) }
            #expect(batch.messageCount == 1)
            #expect(server.send(batch).datagrams == 3)
            let answers = Self.receivePairs(client, atLeast: 3)
            #expect(answers.allSatisfy { $0.remote == SocketAddress(ip: local, port: server.address.port) })
        }
    }

    /// Each datagram is said to have come when it did, however long it then lay in the socket.
    @Test func tellsWhenEachDatagramArrived() throws {
        let sender = try UDPSocket(binding: Self.anyPort)
        let receiver = try UDPSocket(binding: Self.anyPort)
        let batch = EgressBatch()
        func send() -> ClosedRange<Instant> {
            Self.put([1], for: receiver.address, into: batch)
            let before = Instant.now
            _ = sender.send(batch)
            return before...Instant.now
        }
        func pass(_ duration: Duration) {
            let end = Instant.now + duration
            while Instant.now < end {}
        }
        // There is nothing: all that comes has come since.
        #expect(!receiver.receive { _, _, _ in })
        var sent: [ClosedRange<Instant>] = []
        for _ in 0..<3 {
            sent.append(send())
            pass(.milliseconds(30))
        }
        var arrivals: [Instant] = []
        for _ in 0..<1_000_000 where arrivals.count < 3 {
            _ = receiver.receive { _, _, arrival in arrivals.append(arrival) }
        }
        // The wall clock and the monotonic one are not read at the same moment.
        let tolerance = Duration.milliseconds(10)
        for (arrival, sent) in zip(arrivals, sent) {
            #expect(arrival + tolerance >= sent.lowerBound && arrival <= sent.upperBound + tolerance)
        }
        #expect(try #require(receiver.longestWait) >= .milliseconds(80))
    }

    /// A socket that has one address doesn't ask which it was.
    @Test func oneAddressNeedsNoName() throws {
        let server = try UDPSocket(binding: Self.anyPort)
        let client = try UDPSocket(binding: Self.anyPort)
        let batch = EgressBatch()
        Self.put([1], for: server.address, into: batch)
        _ = client.send(batch)
        #expect(Self.receivePairs(server, atLeast: 1) == [AddressPair(remote: client.address)])
    }

    /// An address that is ours no more: what is sent from it fails, and others are reached.
    @Test(arguments: SendMode.allCases)
    func anAddressThatIsGoneCostsNobodyElse(mode: SendMode) throws {
        let server = try UDPSocket(binding: SocketAddress(ip: .unspecified, port: 0), bestMode: mode)
        let client = try UDPSocket(binding: Self.anyPort)
        let batch = EgressBatch()
        let gone = AddressPair(remote: client.address, local: IPAddress(v4: 0xC000_0201))
        for _ in 0..<3 { Self.put([1], for: gone, into: batch) }
        Self.put([2], for: AddressPair(remote: client.address, local: .loopbackV4), into: batch)
        let sent = server.send(batch)
        #expect(sent.failed == 3 && sent.datagrams == 1 && batch.isEmpty)
        #expect(Self.receive(client, atLeast: 1) == [[2]])
    }

    private static func receivePairs(_ socket: UDPSocket, atLeast count: Int) -> [AddressPair] {
        var pairs: [AddressPair] = []
        for _ in 0..<1_000_000 where pairs.count < count {
            _ = socket.receive { _, pair, _ in pairs.append(pair) }
        }
        return pairs
    }
}
