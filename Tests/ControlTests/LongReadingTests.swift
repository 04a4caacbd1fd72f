import Commands
import Dispatch
import Foundation
import Testing
import Wire
import Worker

@testable import Control
@testable import Negotiation

/// Long messages are read on one thread, which those who send them share.
@Suite struct LongReadingTests {
    /// A hundred sockets of one address, and then one of another: while the first message is read, all others come.
    @Test func addressesTakeTurns() async {
        let reading = LongReading()
        let (isBusy, gate) = (AsyncStream<Void>.makeStream(), DispatchSemaphore(value: 0))
        let order = Locked([String]())
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await reading.run(for: "hostile") {
                    isBusy.continuation.finish()
                    gate.wait()
                }
            }
            for await _ in isBusy.stream {}
            for (count, address) in (1...100).map({ ($0, "hostile") }) + [
                (101, "honest"), (102, "other"), (103, "honest"),
            ] {
                group.addTask { await reading.run(for: address) { order.withLock { $0.append(address) } } }
                while reading.waitingCount < count { await Task.yield() }
            }
            gate.signal()
        }
        let names = order.withLock { $0 }
        #expect(names.prefix(6) == ["hostile", "honest", "other", "hostile", "honest", "hostile"])
        #expect(names.count == 103)
    }

    @Test func errorsComeBack() async {
        await #expect(throws: Problem.self) {
            try await LongReading().run(for: "a") { () throws(Problem) in throw .notInRoom }
        }
    }
}

/// What a client may use of something.
@Suite struct AllowanceTests {
    /// Messages of the largest size, one after the other as soon as each may be read: a burst, and then one a second.
    @Test func longMessagesWaitWhenTheyAreTooMuch() {
        let limits = Limits()
        let start = ContinuousClock.now
        var now = start
        var allowance = Allowance(
            perSecond: limits.longMessageBytesPerSecond,
            burst: limits.longMessageBytesBurst,
            now: start
        )
        let times = (0..<8).map { _ in
            now += allowance.use(limits.controlMessageBytes, now: now)
            return (start.duration(to: now) / .milliseconds(1)).rounded()
        }
        #expect(times == [0, 0, 0, 0, 0, 1000, 2000, 3000])
    }

    /// As many m-lines as there may be, and each with a track: five changes in quick succession don't wait, nor does one each second. The
    /// offer stands for its answer, which has the same lines, and the client's network in place of ours.
    @Test func aLargeRoomsAnswersDoNotWait() throws {
        let limits = Limits()
        var media = OutgoingMedia(
            privacy: .transport,
            maximumLines: limits.roomMediaSections,
            maximumLinesPerPublisher: limits.roomMediaSections,
            ssrcs: SSRCSequence(first: 1, stride: 1)
        )
        for number in 0..<limits.roomMediaSections {
            let track = ForwardableTrack(
                track: TrackID(rawValue: UInt64(number)),
                home: WorkerIndex(rawValue: 0),
                codec: number % 2 == 0 ? .opus : .vp8,
                formatParameters: ""
            )
            _ = try media.add(track, of: "p", place: number % 2, label: "s\(number / 2)", cname: "c")
        }
        let made = media.nextOffer(local: RoomPeerTests.local)
        let offer = try #require(made)
        let bytes = try JSONEncoder().encode(["type": "answer", "sdp": offer]).count
        print("An answer of \(limits.roomMediaSections) m-lines: \(bytes) bytes")
        try #require(bytes > limits.controlRequestBytes && bytes <= limits.controlMessageBytes)
        var now = ContinuousClock.now
        var allowance = Allowance(
            perSecond: limits.longMessageBytesPerSecond,
            burst: limits.longMessageBytesBurst,
            now: now
        )
        for _ in 0..<5 { #expect(allowance.use(bytes, now: now) == .zero) }
        for _ in 0..<20 {
            now += .seconds(1)
            #expect(allowance.use(bytes, now: now) == .zero)
        }
    }

    @Test func whatIsUsedComesBack() {
        var now = ContinuousClock.now
        var allowance = Allowance(perSecond: 20, burst: 100, now: now)
        #expect(allowance.use(100, now: now) == .zero)
        #expect(allowance.use(1, now: now) == .milliseconds(50))
        now += .seconds(60)
        #expect(allowance.use(100, now: now) == .zero)
        #expect(allowance.use(1, now: now) > .zero)
    }
}
