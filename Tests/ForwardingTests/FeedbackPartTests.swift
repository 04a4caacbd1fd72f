import Commands
import Testing
import Transport

@testable import Forwarding

/// What asks publishers for lost packets.
@Suite struct NackGeneratorTests {
    private static let start = Instant(nanoseconds: 10_000_000_000)

    private static func at(_ milliseconds: Int) -> Instant { start + .milliseconds(milliseconds) }

    private static func due(_ generator: inout NackGenerator, at milliseconds: Int) -> [UInt16] {
        var numbers: [UInt16] = []
        generator.takeDue(now: at(milliseconds), into: &numbers)
        return numbers
    }

    @Test func whatIsOnlyReorderedIsNotAskedFor() {
        var generator = NackGenerator()
        #expect(generator.received(100, now: Self.at(0)) == .expected)
        #expect(generator.received(102, now: Self.at(1)) == .expected)
        #expect(generator.isMissing(101) && !generator.isMissing(100))
        #expect(generator.deadline == Self.at(11))
        #expect(Self.due(&generator, at: 10).isEmpty)
        #expect(generator.received(101, now: Self.at(10)) == .recovered)
        #expect(generator.deadline == .distantFuture)
        #expect(Self.due(&generator, at: 100).isEmpty)
    }

    @Test func aLostPacketIsAskedForUntilItComes() {
        var generator = NackGenerator()
        _ = generator.received(65_534, now: Self.at(0))
        _ = generator.received(65_538, now: Self.at(1))
        #expect(Self.due(&generator, at: 11) == [65_535, 0, 1])
        #expect(Self.due(&generator, at: 60).isEmpty)
        #expect(generator.received(65_536, now: Self.at(65)) == .recovered)
        #expect(generator.deadline == Self.at(71))
        #expect(Self.due(&generator, at: 71) == [65_535, 1])
        #expect(generator.received(65_536, now: Self.at(80)) == .expected, "it came twice")
    }

    @Test func aPacketThatNeverComesIsGivenUp() {
        var generator = NackGenerator()
        _ = generator.received(1, now: Self.at(0))
        _ = generator.received(3, now: Self.at(0))
        var requests = 0
        for time in stride(from: 0, to: 5000, by: 10) { requests += Self.due(&generator, at: time).count }
        #expect(requests == 10)
        #expect(!generator.isMissing(2) && generator.deadline == .distantFuture)
    }

    @Test func onlyAKeyframeHelpsAfterALargeGap() {
        var generator = NackGenerator()
        _ = generator.received(1, now: Self.at(0))
        _ = generator.received(3, now: Self.at(0))
        #expect(generator.received(3 + SequenceOrder.largeGap + 2, now: Self.at(20)) == .afterInterruption)
        #expect(Self.due(&generator, at: 200).isEmpty)
        #expect(generator.received(2, now: Self.at(201)) == .expected, "it is not missed any more")
    }

    @Test(arguments: [(499, 16, false), (500, 16, true), (500, 15, false)])
    func soItDoesAfterASilence(milliseconds: Int, lost: UInt64, isInterruption: Bool) {
        var generator = NackGenerator()
        _ = generator.received(1, now: Self.at(0))
        let arrival = generator.received(2 + lost, now: Self.at(milliseconds))
        #expect(arrival == (isInterruption ? .afterInterruption : .expected))
        #expect(Self.due(&generator, at: milliseconds + 10).count == (isInterruption ? 0 : Int(lost)))
    }

    @Test func itsMemoryHasAnEnd() {
        var generator = NackGenerator()
        var sequence: UInt64 = 1
        for _ in 0..<300 {
            _ = generator.received(sequence, now: Self.at(0))
            sequence += 10
        }
        let numbers = Self.due(&generator, at: 10)
        #expect(numbers.count <= 1024 && numbers.count > 1000)
        #expect(numbers.last == UInt16(sequence - 11), "the latest are kept")
    }
}

/// What tells from receiver reports that a viewer is sent too much.
@Suite struct CongestionGaugeTests {
    /// Reports once a second.
    private struct Viewer {
        var gauge = CongestionGauge()
        var now = Instant(nanoseconds: 10_000_000_000)
        let limits = Limits()

        mutating func report(
            _ fractionLost: Double,
            roundTrip: Int? = nil,
            isLimited: Bool = true
        ) -> CongestionGauge.Step {
            now = now + .seconds(1)
            return gauge.observe(
                fractionLost: fractionLost,
                roundTrip: roundTrip.map { .milliseconds($0) },
                isLimited: isLimited,
                now: now,
                limits: limits
            )
        }

        /// Reports that nothing is lost until there is something to do.
        ///
        /// - Returns: After how many seconds there was; nil when it wasn't in `seconds`.
        mutating func secondsUntilRaise(atMost seconds: Int = 300) -> Int? {
            for second in 1...seconds where report(0) == .raise { return second }
            return nil
        }
    }

    @Test func fewLossesAreNoCongestion() {
        var viewer = Viewer()
        for _ in 0..<60 { #expect(viewer.report(0.09, isLimited: false) == .stay) }
    }

    @Test(arguments: [(0.1, false), (0.29, false), (0.31, true)])
    func lossesLower(fraction: Double, isSevere: Bool) {
        var viewer = Viewer()
        #expect(viewer.report(fraction) == .lower(isSevere: isSevere))
        #expect(viewer.report(fraction) == .stay, "what was lowered has not had the time to help")
        #expect(viewer.report(fraction) == .lower(isSevere: isSevere))
    }

    @Test func aQueueLowers() {
        var viewer = Viewer()
        for _ in 0..<10 { #expect(viewer.report(0, roundTrip: 80, isLimited: false) == .stay) }
        #expect(viewer.report(0, roundTrip: 379, isLimited: false) == .stay)
        #expect(viewer.report(0, roundTrip: 381) == .lower(isSevere: false))
    }

    /// A path that has become longer is not congested for ever.
    @Test func theFastestRoundTripIsForgottenInTime() {
        var viewer = Viewer()
        _ = viewer.report(0, roundTrip: 20)
        var lowered = 0
        for _ in 0..<300 where viewer.report(0, roundTrip: 400) == .lower(isSevere: false) { lowered += 1 }
        #expect(lowered > 10 && lowered < 70)
        #expect(viewer.report(0, roundTrip: 400) != .lower(isSevere: false))
    }

    @Test func whatIsLessThanWantedIsRaisedInTime() {
        var viewer = Viewer()
        _ = viewer.report(0.2)
        #expect(viewer.secondsUntilRaise() == 6)
        #expect(viewer.secondsUntilRaise() == 5)
        #expect(viewer.report(0, isLimited: false) == .stay)
    }

    @Test func whatWasTooMuchIsTriedLessOften() {
        var viewer = Viewer()
        _ = viewer.report(0.2)
        var waits: [Int] = []
        for _ in 0..<7 {
            waits.append(viewer.secondsUntilRaise() ?? 0)
            _ = viewer.report(0.2)
        }
        #expect(waits == [6, 11, 21, 41, 81, 121, 121])
    }
}
