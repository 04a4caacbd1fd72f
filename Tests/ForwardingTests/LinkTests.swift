import Simulation
import Testing
import Transport
import Wire

/// The network that estimation, pacing and layer selection are tried on has to be one itself.
struct LinkTests {
    private static let here = SocketAddress(ip: .loopbackV4, port: 1)
    private static let there = SocketAddress(ip: .loopbackV4, port: 2)
    /// With the headers of IPv4 and UDP 1,000 bytes.
    private static let bytes = [UInt8](repeating: 7, count: 972)
    private static let start = Instant(nanoseconds: 5_000_000_000)

    private static func link(_ conditions: Link.Conditions, seed: UInt64 = 1) -> Link { Link(conditions, seed: seed) }

    /// Gives the link a packet each `interval`, and looks at it each millisecond.
    ///
    /// - Returns: What came out in the time and `rest` after it.
    private static func run(
        _ link: Link,
        for duration: Duration,
        every interval: Duration,
        from start: Instant = LinkTests.start,
        rest: Duration = .seconds(2)
    ) -> [Link.Packet] {
        var received: [Link.Packet] = []
        var next = start
        var number: UInt32 = 0
        var now = start
        while now < start + duration + rest {
            while next <= now, next < start + duration {
                let head = withUnsafeBytes(of: number.bigEndian) { Array($0) }
                link.send(head + bytes.dropFirst(4), from: here, to: there, now: next)
                number += 1
                next = next + interval
            }
            received += link.receive(now: now)
            now = now + .milliseconds(1)
        }
        return received
    }

    private static func number(of packet: Link.Packet) -> UInt32 {
        packet.bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    @Test func withoutConditionsEverythingComesAtOnce() {
        let link = Self.link(Link.Conditions())
        let packets = Self.run(link, for: .seconds(1), every: .milliseconds(5))
        #expect(packets.count == 200)
        #expect(packets.allSatisfy { $0.arrivedAt == $0.sentAt })
    }

    @Test func aPacketTakesTheTimeOfItsBytesAndTheDelay() {
        // 8,000 bits at 1 Mbit/s: 8 ms.
        let link = Self.link(Link.Conditions(bitsPerSecond: 1_000_000, delay: .milliseconds(30)))
        let packets = Self.run(link, for: .seconds(1), every: .milliseconds(10))
        #expect(packets.count == 100)
        #expect(packets.allSatisfy { $0.arrivedAt - $0.sentAt == .milliseconds(38) })
    }

    @Test func aFullQueueDropsWhatComesLast() {
        let conditions = Link.Conditions(bitsPerSecond: 1_000_000, queue: .milliseconds(200))
        let link = Self.link(conditions)
        // 2 Mbit/s.
        let packets = Self.run(link, for: .seconds(10), every: .milliseconds(4))
        let rate = Double(packets.count * 8000) / 10.2
        #expect((0.98...1.01).contains(rate / 1_000_000), "\(rate)")
        let waits = packets.map { $0.arrivedAt - $0.sentAt }
        #expect(waits.max().map { $0 <= .milliseconds(216) && $0 > .milliseconds(195) } == true)
        #expect(packets.count + link.droppedCount == link.sentCount)
        #expect(link.queueingDelay == .zero)
    }

    @Test func aChangeOfRateIsOfWhatWaitsToo() {
        let link = Self.link(Link.Conditions(bitsPerSecond: 1_000_000, queue: .seconds(1)))
        for _ in 0..<50 { link.send(Self.bytes, from: Self.here, to: Self.there, now: Self.start) }
        #expect(link.queueingDelay == .milliseconds(400))
        // After 100 ms the bottleneck is in the middle of the thirteenth.
        let halfway = Self.start + .milliseconds(100)
        #expect(link.receive(now: halfway).count == 12)
        link.change(now: halfway) { $0.bitsPerSecond = 100_000 }
        #expect(link.queueingDelay >= .seconds(2.9))
        let slow = link.receive(now: halfway + .milliseconds(41))
        #expect(slow.map(\.arrivedAt) == [halfway + .milliseconds(40)])
        link.change(now: halfway + .milliseconds(41)) { $0.bitsPerSecond = nil }
        #expect(link.receive(now: halfway + .milliseconds(42)).count == 37)
    }

    @Test func nothingGetsThroughWithoutARate() {
        let link = Self.link(Link.Conditions(bitsPerSecond: 0))
        #expect(Self.run(link, for: .seconds(1), every: .milliseconds(10)).isEmpty)
        link.change(now: Self.start + .seconds(4)) { $0.bitsPerSecond = 1_000_000 }
        let later = Self.run(link, for: .seconds(1), every: .milliseconds(10), from: Self.start + .seconds(4))
        #expect(later.count == 100)
    }

    @Test func jitterKeepsTheOrder() {
        let link = Self.link(Link.Conditions(delay: .milliseconds(50), jitter: .milliseconds(20)))
        let packets = Self.run(link, for: .seconds(20), every: .milliseconds(5))
        #expect(packets.map(Self.number) == Array(0..<4000))
        let delays = packets.map { ($0.arrivedAt - $0.sentAt) / .milliseconds(1) }
        #expect(delays.allSatisfy { (50...70).contains($0) })
        let mean = delays.reduce(0, +) / Double(delays.count)
        // A packet that would have overtaken another waits for it.
        #expect((60...66).contains(mean), "\(mean)")
    }

    @Test func randomLossIsOfEachPacketAlone() {
        let link = Self.link(Link.Conditions(loss: .random(0.1)))
        let packets = Self.run(link, for: .seconds(100), every: .milliseconds(5))
        let lost = Double(link.lostCount) / Double(link.sentCount)
        #expect((0.09...0.11).contains(lost), "\(lost)")
        #expect((1.0...1.25).contains(Self.meanBurst(packets, of: link.sentCount)))
    }

    @Test func burstsAreAsLongAsTheyShouldBe() {
        // A burst begins at 0.4 % of the packets and ends at 5 %: 7.4 % are lost, 20 in a row.
        let link = Self.link(Link.Conditions(loss: .bursts(begin: 0.004, end: 0.05)))
        let packets = Self.run(link, for: .seconds(500), every: .milliseconds(5))
        let lost = Double(link.lostCount) / Double(link.sentCount)
        #expect((0.06...0.09).contains(lost), "\(lost)")
        let burst = Self.meanBurst(packets, of: link.sentCount)
        #expect((17...23).contains(burst), "\(burst)")
    }

    private static func meanBurst(_ packets: [Link.Packet], of count: Int) -> Double {
        let came = Set(packets.map(number))
        var bursts = 0
        var lost = 0
        var before = false
        for number in 0..<UInt32(count) {
            let isLost = !came.contains(number)
            if isLost { lost += 1 }
            if isLost, !before { bursts += 1 }
            before = isLost
        }
        return Double(lost) / Double(max(1, bursts))
    }

    @Test func someAreOvertakenAndSomeComeTwice() {
        var conditions = Link.Conditions(delay: .milliseconds(20))
        conditions.reordered = 0.05
        conditions.duplicated = 0.02
        let link = Self.link(conditions)
        let packets = Self.run(link, for: .seconds(50), every: .milliseconds(5))
        let numbers = packets.map(Self.number)
        #expect((170...230).contains(numbers.count - 10_000), "\(numbers.count)")
        #expect(Set(numbers).count == 10_000)
        let backward = zip(numbers, numbers.dropFirst()).count { $0 > $1 }
        #expect((350...600).contains(backward), "\(backward)")
        #expect(zip(packets, packets.dropFirst()).allSatisfy { $0.arrivedAt <= $1.arrivedAt })
    }

    @Test func aSeedTellsTheWholeStory() {
        var conditions = Link.Conditions(bitsPerSecond: 1_000_000, delay: .milliseconds(20), jitter: .milliseconds(30))
        conditions.loss = .random(0.2)
        conditions.reordered = 0.1
        func story(_ seed: UInt64) -> [UInt64] {
            Self.run(Self.link(conditions, seed: seed), for: .seconds(5), every: .milliseconds(7))
                .map(\.arrivedAt.nanoseconds)
        }
        #expect(story(1) == story(1))
        #expect(story(1) != story(2))
    }
}
