import Testing
import Transport

@testable import Forwarding

/// How what leaves for one viewer at a time is spread.
@Suite struct PacingTests {
    private static let start = Instant(nanoseconds: 5_000_000_000)

    /// Lets so many packets leave, as soon as they may.
    ///
    /// - Returns: When the last one left, and the most that left at a time, in bytes.
    private static func spread(_ count: Int, by pacer: inout Pacer, from start: Instant = start) -> (
        Duration, most: Int
    ) {
        if pacer.takes(count * 1200, now: start) { return (.zero, count * 1200) }
        var now = start
        var left = count
        var most = 0
        while left > 0 {
            var bytes = 0
            let allowance = pacer.allowance(now: now)
            while left > 0, bytes < allowance {
                bytes += 1200
                left -= 1
            }
            pacer.took(bytes)
            most = max(most, bytes)
            guard left > 0 else { break }
            pacer.wait(now: now)
            #expect(pacer.deadline == now + .milliseconds(10))
            now = pacer.deadline
            pacer.resume()
        }
        return (now - start, most)
    }

    @Test func withoutARateNothingWaits() {
        var pacer = Pacer()
        #expect(pacer.takes(10_000_000, now: Self.start) && pacer.takes(10_000_000, now: Self.start))
        #expect(pacer.deadline == .distantFuture)
    }

    @Test func tenPacketsLeaveAtOnceAndMoreAtTheRate() {
        var pacer = Pacer()
        pacer.limit(to: 2_400_000, isNarrow: false)
        #expect(Self.spread(10, by: &pacer).most == 12_000)
        pacer = Pacer()
        pacer.limit(to: 2_400_000, isNarrow: false)
        let (time, most) = Self.spread(60, by: &pacer)
        // 50 of them at 2.4 Mbit/s, in steps of 10 ms.
        #expect(time >= .milliseconds(190) && time <= .milliseconds(210))
        #expect(most <= 12_000 + 1200)
    }

    @Test func onANarrowWayBurstsAreShort() {
        var pacer = Pacer()
        pacer.limit(to: 400_000, isNarrow: true)
        let (time, most) = Self.spread(12, by: &pacer)
        #expect(most <= 2_500 + 1200)
        #expect(time >= .milliseconds(200) && time <= .milliseconds(250))
    }

    @Test func whatIsSavedUpIsNoMoreThanABurst() {
        var pacer = Pacer()
        pacer.limit(to: 2_400_000, isNarrow: false)
        _ = Self.spread(60, by: &pacer)
        let later = Self.start + .seconds(3600)
        #expect(pacer.allowance(now: later) == 12_000)
        #expect(pacer.allowance(now: later) == 12_000)
    }
}
