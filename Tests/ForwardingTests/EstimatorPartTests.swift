import Testing
import Transport
import Wire

@testable import Forwarding

/// The parts of the bandwidth estimate, each by itself.
@Suite struct EstimatorPartTests {
    private func at(_ milliseconds: Int) -> Instant {
        Instant(nanoseconds: UInt64(1_000_000 * (10_000 + milliseconds)))
    }

    // MARK: What was sent

    @Test func packetsOfOneTimeAreOneEntry() throws {
        var log = SendLog()
        for time in 0..<3000 { for _ in 0..<4 { log.append(byteCount: 972, now: at(time)) } }
        #expect(log.next == 12_001)
        let place = try #require(log.place(of: 11_998, near: 0))
        let entry = log.entry(at: place)
        #expect(entry.first == 11_997 && entry.count == 4 && entry.bytesOfOne == 1000 && entry.sentAt == at(2999))
        // Two seconds of it are kept, in no more than 4096 entries.
        #expect(log.place(of: 12_001 - 8000, near: place) != nil)
        #expect(log.place(of: 12_001, near: place) == nil)
        #expect(log.place(of: 0, near: place) == nil)
    }

    @Test func numbersAreExtendedBackwards() {
        var log = SendLog()
        #expect(log.extended(1) == nil)
        for time in 0..<70_000 { log.append(byteCount: 100, now: at(time / 100)) }
        #expect(log.extended(UInt16(truncatingIfNeeded: 70_000)) == 70_000)
        #expect(log.extended(UInt16(truncatingIfNeeded: 69_000)) == 69_000)
        #expect(log.extended(UInt16(truncatingIfNeeded: 70_001)) == 70_001 - 65_536)
    }

    // MARK: Rates

    @Test func theAcknowledgedRateIsWhatArrives() throws {
        var rate = AcknowledgedRate()
        #expect(rate.bitsPerSecond == nil)
        for time in stride(from: 0, to: 2000, by: 10) { rate.add(1250, arrival: at(time)) }
        #expect(abs(try #require(rate.bitsPerSecond) - 1_000_000) < 60_000)
        // After a pause it begins anew.
        rate.add(1250, arrival: at(10_000))
        #expect(rate.bitsPerSecond == nil)
        for time in stride(from: 10_000, to: 11_000, by: 10) { rate.add(250, arrival: at(time)) }
        #expect(abs(try #require(rate.bitsPerSecond) - 200_000) < 20_000)
        #expect(abs(try #require(rate.bottleneckBitsPerSecond) - 200_000) < 40_000)
    }

    @Test func layersCountWithThoseBelow() throws {
        var rates = LayerRates()
        var record = PacketRecord()
        record.payloadEnd = 436
        for time in stride(from: 0, to: 2500, by: 20) {
            for layer in 0..<3 {
                record.receivedAt = at(time)
                record.layer.spatial = UInt8(layer)
                record.layer.temporal = UInt8(time / 20 % 2)
                rates.add(record)
            }
        }
        let now = at(2500)
        // 500 bytes with what we add, 50 times a second.
        let all = try #require(rates.bitsPerSecond(upTo: .none, now: now))
        #expect(abs(all - 600_000) < 30_000)
        let one = try #require(rates.bitsPerSecond(upTo: LayerLimit(spatial: 0, temporal: 1), now: now))
        #expect(abs(one - 200_000) < 10_000)
        let half = try #require(rates.bitsPerSecond(upTo: .lowest, now: now))
        #expect(abs(half - 100_000) < 10_000)
        #expect(rates.peakFactor(now: now) < 1.05)
    }

    // MARK: Queues

    @Test func aStandingQueueIsNotOnePacketThatWaits() {
        var gauge = QueueGauge()
        for step in 0..<100 {
            // Each fifth packet waits behind a frame.
            gauge.observe(delay: step % 5 == 0 ? 90_000_000 : 50_000_000, arrival: at(step * 20))
        }
        #expect(gauge.standing == .zero && !gauge.isStanding)
        for step in 100..<110 { gauge.observe(delay: 100_000_000, arrival: at(step * 20)) }
        #expect(gauge.standing == .milliseconds(50) && gauge.isStanding)
        gauge.rebase(arrival: at(2200))
        #expect(!gauge.isStanding)
    }

    @Test func whatAViewerSaysOfItsClockMayBeAnything() {
        var gauge = QueueGauge()
        for delay in [Int64.max, .min, 0, .max, -1, .min, .max] {
            gauge.observe(delay: delay, arrival: at(1))
            #expect(gauge.standing >= .zero)
            _ = gauge.isStanding
        }
    }

    // MARK: Losses

    @Test func lossesInAQueueAreCongestion() {
        var model = LossModel()
        _ = model.takeVerdict(isQueueing: true, now: at(0))
        model.add(received: 90, missing: 10)
        #expect(model.takeVerdict(isQueueing: true, now: at(300)) == .congested)
        model.add(received: 90, missing: 10)
        #expect(model.takeVerdict(isQueueing: false, now: at(600)) == .fine)
    }

    @Test func heavyLossesArePutToTheTestOnce() {
        var model = LossModel()
        var verdicts: [LossModel.Verdict] = []
        for step in 0..<200 {
            model.add(received: 70, missing: 30)
            if let verdict = model.takeVerdict(isQueueing: false, now: at(step * 250)), verdict != .fine {
                verdicts.append(verdict)
            }
        }
        // It was lost all the same: that is what the path loses.
        #expect(verdicts == [.test, .cleared])
        #expect(abs(model.baseline - 0.3) < 0.1)
    }

    /// What a policer drops comes through when less is sent: the rate stays low.
    @Test func aPolicerIsFoundOut() {
        var model = LossModel()
        var verdicts: [LossModel.Verdict] = []
        for step in 0..<40 {
            model.add(received: 70, missing: verdicts.isEmpty ? 30 : 0)
            if let verdict = model.takeVerdict(isQueueing: false, now: at(step * 250)), verdict != .fine {
                verdicts.append(verdict)
            }
        }
        #expect(verdicts == [.test])
        #expect(model.baseline < 0.01)
    }

    @Test func burstsAreNotPutToTheTest() {
        var model = LossModel()
        for step in 0..<200 {
            model.add(received: step % 3 == 0 ? 40 : 100, missing: step % 3 == 0 ? 60 : 0)
            let verdict = model.takeVerdict(isQueueing: false, now: at(step * 250))
            #expect(verdict == nil || verdict == .fine)
        }
    }

    // MARK: Probes

    private func result(goal: Double, arrivingIn milliseconds: Int, lost: Int = 0) -> ProbeResult.Measured? {
        var probe = ProbeResult()
        probe.begin(goal: goal)
        for step in 0..<10 where step == 0 || step > lost {
            let entry = SendLog.Entry(
                first: UInt64(step * 5 + 1),
                count: 5,
                bytes: 5000,
                sentAt: at(step * 10),
                probe: probe.current
            )
            for _ in 0..<5 { probe.observe(entry, arrival: at(50 + step * milliseconds / 9)) }
        }
        probe.end()
        #expect(probe.takeResult(baselineLoss: 0) == nil)
        let later = SendLog.Entry(first: 100, count: 1, bytes: 100, sentAt: at(200), probe: 0)
        probe.observe(later, arrival: at(400))
        return probe.takeResult(baselineLoss: 0)
    }

    @Test func aProbeComesThroughOrShowsTheBottleneck() throws {
        // 45,000 bytes behind the first entry, in 90 ms: 4 Mbit/s.
        let through = try #require(result(goal: 4_000_000, arrivingIn: 90))
        #expect(through.cameThrough && !through.didHarm && abs(through.bitsPerSecond - 4_000_000) < 10_000)
        let slow = try #require(result(goal: 4_000_000, arrivingIn: 180))
        #expect(!slow.cameThrough && abs(slow.bitsPerSecond - 1_900_000) < 10_000)
        // What was wanted did come through, though more was sent.
        let enough = try #require(result(goal: 1_500_000, arrivingIn: 180))
        #expect(enough.cameThrough)
    }

    @Test func probesThatFailBecomeRarer() {
        var prober = Prober()
        var now = at(0)
        var begun: [Int] = []
        for step in 0..<6000 {
            now = at(step * 10)
            if prober.mayBegin(isUrgent: false, now: now) {
                prober.begin(goal: 1_000_000, estimate: 500_000, sentBytes: 0, now: now)
                begun.append(step * 10)
            }
            if prober.deadline <= now, prober.tick(sentBytes: 0, now: now) == nil, prober.isUnderway {
                prober.finish(cameThrough: false, didHarm: true, now: now)
            }
        }
        let pauses = zip(begun.dropFirst(), begun).map { $0 - $1 }
        #expect(pauses.first ?? 0 < 1500 && pauses == pauses.sorted() && pauses.last ?? 0 > 14_000)
    }

    @Test func aProbeSendsWhatIsMissing() {
        var prober = Prober()
        prober.begin(goal: 800_000, estimate: 800_000, sentBytes: 5_000, now: at(0))
        #expect(prober.tick(sentBytes: 5_000, now: at(0)) == 1000)
        // Media counts with it.
        #expect(prober.tick(sentBytes: 8_000, now: at(10)) == 0)
        #expect(prober.tick(sentBytes: 8_000, now: at(40)) == 2000)
        #expect(prober.tick(sentBytes: 10_000, now: at(100)) == nil)
    }

    // MARK: Allocation

    private func options(_ rates: Double...) -> [Allocator.Option] {
        rates.enumerated().map { place, rate in
            Allocator.Option(place: place, limit: .none, bitsPerSecond: rate, peakBitsPerSecond: rate)
        }
    }

    private func allocate(
        _ budget: Double,
        _ tracks: [(options: [Allocator.Option], current: Int?)],
        allowsMore: Bool = true
    ) -> (chosen: [Int], allocator: Allocator) {
        var all: ContiguousArray<Allocator.Option> = []
        var items: ContiguousArray<Allocator.Item> = []
        for track in tracks {
            let first = all.count
            all += track.options
            items.append(
                Allocator.Item(first: first, end: all.count, current: track.current.map { first + $0 }, chosen: first)
            )
        }
        let allocator = Allocator(of: budget, options: all, items: &items, allowsMore: allowsMore)
        return (items.map { $0.chosen - $0.first }, allocator)
    }

    @Test func eachGetsItsLeastAndThenTheFirstOnesMore() {
        let camera = options(150_000, 500_000, 1_700_000)
        #expect(allocate(100_000, [(camera, nil), (camera, nil)]).chosen == [0, 0])
        #expect(allocate(800_000, [(camera, nil), (camera, nil)]).chosen == [1, 0])
        #expect(allocate(1_200_000, [(camera, nil), (camera, nil)]).chosen == [1, 1])
        #expect(allocate(2_600_000, [(camera, nil), (camera, nil)]).chosen == [2, 1])
    }

    @Test func aStepUpNeedsRoomToSpare() {
        let camera = options(150_000, 500_000, 1_700_000)
        #expect(allocate(1_800_000, [(camera, 1)]).chosen == [1])
        #expect(allocate(1_800_000, [(camera, 2)]).chosen == [2])
        #expect(allocate(1_600_000, [(camera, 2)]).chosen == [2])
        #expect(allocate(1_500_000, [(camera, 2)]).chosen == [1])
        #expect(allocate(5_000_000, [(camera, 0)], allowsMore: false).chosen == [0])
        #expect(allocate(400_000, [(camera, 2)], allowsMore: false).chosen == [0])
    }

    @Test func itTellsWhatTheNextStepNeeds() {
        let camera = options(150_000, 500_000, 1_700_000)
        let found = allocate(600_000, [(camera, nil)]).allocator
        #expect(found.allocated == 500_000 && found.next == 1_700_000 && found.wanted == 1_700_000)
        #expect(allocate(5_000_000, [(camera, nil)]).allocator.next == nil)
    }

    @Test func whatDoesNotFitAtAllIsRationed() {
        let camera = options(150_000, 500_000)
        func rations(of budget: Double, isRationed: [Bool]) -> [Double?] {
            var items: ContiguousArray<Allocator.Item> = []
            for (place, isRationed) in isRationed.enumerated() {
                items.append(
                    Allocator.Item(
                        first: place * 2,
                        end: place * 2 + 2,
                        current: place * 2,
                        isRationed: isRationed,
                        chosen: place * 2
                    )
                )
            }
            let all = ContiguousArray((isRationed).flatMap { _ in camera })
            let allocator = Allocator(of: budget, options: all, items: &items, allowsMore: true)
            #expect(allocator.allocated <= max(budget * 1.25, 0))
            if items.contains(where: { $0.ration != nil }) { #expect((allocator.next ?? 0) * 1.2 > budget) }
            return items.map(\.ration)
        }
        // The first ones get theirs; a little too much is tolerated.
        #expect(rations(of: 250_000, isRationed: [false, false]) == [nil, nil])
        #expect(rations(of: 230_000, isRationed: [false, false]) == [nil, 80_000])
        #expect(rations(of: 100_000, isRationed: [false, false]) == [100_000, 0])
        #expect(rations(of: -50_000, isRationed: [false]) == [0])
        // To be whole again takes some room to spare.
        #expect(rations(of: 330_000, isRationed: [false, true]) == [nil, 150_000])
        #expect(rations(of: 350_000, isRationed: [false, true]) == [nil, nil])
    }

    @Test func aRationIsSavedUpForRuns() {
        var ration = Ration(bitsPerSecond: 80_000, now: at(0))
        func mayBegin(_ milliseconds: Int) -> Bool { ration.mayBegin(now: at(milliseconds)) }
        func goesOn(_ milliseconds: Int) -> Bool { ration.goesOn(now: at(milliseconds)) }
        #expect([mayBegin(100), mayBegin(800)] == [false, true])
        ration.take(9_000)
        #expect([goesOn(850), mayBegin(1500)] == [false, false])
        #expect([goesOn(2000), mayBegin(2600)] == [true, true])
        // What is saved up has an end.
        #expect(mayBegin(100_000))
        ration.take(30_001)
        #expect(!goesOn(100_000))
        ration.change(to: 0, now: at(100_000))
        #expect(!goesOn(200_000))
    }

    @Test func anOutageDoesNotEndARation() {
        var ration = Ration(bitsPerSecond: 500_000, now: at(0))
        for second in 1...100 { ration.adapt(to: 1.0 / 256, now: at(second * 1000)) }
        #expect(ration.bytesPerSecond * 8 == 50_000)
        for second in 101...200 { ration.adapt(to: 1, now: at(second * 1000)) }
        #expect(ration.bytesPerSecond * 8 > 500_000)
    }

    /// 49 tracks in less than 20 µs, where nothing else runs: only that it is no multiple of it is looked at here.
    @Test func manyTracksAreDividedAtOnce() {
        let camera = options(150_000, 300_000, 500_000, 900_000, 1_700_000)
        var all: ContiguousArray<Allocator.Option> = []
        var items: ContiguousArray<Allocator.Item> = []
        for _ in 0..<49 {
            items.append(Allocator.Item(first: all.count, end: all.count + 5, current: nil, chosen: all.count))
            all += camera
        }
        let clock = ContinuousClock()
        let times = (0..<100).map { _ in
            clock.measure { _ = Allocator(of: 30_000_000, options: all, items: &items, allowsMore: true) }
        }
        let best = times.min() ?? .zero
        print("49 tracks: \(best)")
        #expect(items.allSatisfy { $0.chosen > $0.first })
    }

    // MARK: Hostile viewers

    /// Whatever a viewer tells, nothing traps, and the estimate stays within its limits.
    @Test func feedbackOfAnyKindIsBorne() {
        var random = SplitMix64(state: 99)
        var bandwidth = BandwidthEstimator()
        var now = at(0)
        for round in 0..<3000 {
            now = now + .milliseconds(Int(random.next() % 40))
            for _ in 0..<(random.next() % 6) { bandwidth.noteSent(byteCount: Int(random.next() % 1400), now: now) }
            if round % 50 == 0 { bandwidth.beginProbe(goal: Double(random.next() % 10_000_000)) }
            if round % 50 == 9 { bandwidth.endProbe() }
            var bytes = (0..<(8 + random.next() % 120)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            // Often about what was sent.
            if round % 3 > 0 {
                let base = bandwidth.nextNumber &- UInt16(random.next() % 64)
                bytes.replaceSubrange(0..<4, with: [UInt8(base >> 8), UInt8(base & 255), 0, UInt8(random.next() % 64)])
            }
            guard let feedback = TransportFeedbackReader(offset: 0, length: bytes.count, in: bytes.span.bytes) else {
                continue
            }
            _ = bandwidth.receive(feedback, in: bytes.span.bytes, now: now)
            #expect(bandwidth.bitsPerSecond >= BandwidthEstimator.floor && bandwidth.bitsPerSecond.isFinite)
        }
    }
}

private struct SplitMix64 {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

struct CompetitionGaugeTests {
    private var now = Instant(nanoseconds: 1_000_000_000)
    private var gauge = CompetitionGauge()

    private mutating func observe(isStanding: Bool, sent: Double, arriving: Double, for duration: Duration) {
        let end = now + duration
        while now < end {
            now = now + .milliseconds(100)
            gauge.observe(isStanding: isStanding, sent: sent, arriving: arriving, now: now)
        }
    }

    @Test mutating func aQueueThatStaysWhateverIsSentIsSomebodyElses() {
        observe(isStanding: false, sent: 1e6, arriving: 1e6, for: .seconds(1))
        observe(isStanding: true, sent: 1e6, arriving: 0.9e6, for: .seconds(3))
        #expect(!gauge.isCompeting, "nothing was given up yet")
        observe(isStanding: true, sent: 0.5e6, arriving: 0.5e6, for: .milliseconds(900))
        #expect(!gauge.isCompeting)
        observe(isStanding: true, sent: 0.5e6, arriving: 0.5e6, for: .milliseconds(600))
        #expect(gauge.isCompeting)
    }

    @Test mutating func aQueueThatGoesOnToArriveIsOurs() {
        observe(isStanding: false, sent: 1e6, arriving: 1e6, for: .seconds(1))
        observe(isStanding: true, sent: 0.5e6, arriving: 0.8e6, for: .seconds(5))
        #expect(!gauge.isCompeting)
    }

    @Test mutating func aDownloadThatIsOverIsForgotten() {
        observe(isStanding: false, sent: 1e6, arriving: 1e6, for: .seconds(1))
        observe(isStanding: true, sent: 0.5e6, arriving: 0.5e6, for: .seconds(2))
        #expect(gauge.isCompeting)
        observe(isStanding: false, sent: 0.5e6, arriving: 0.5e6, for: .seconds(1))
        #expect(gauge.isCompeting, "it may be about to fill the queue again")
        observe(isStanding: false, sent: 0.5e6, arriving: 0.5e6, for: .seconds(2))
        #expect(!gauge.isCompeting)
    }

    @Test mutating func itIsProvedAgainAndAgain() {
        observe(isStanding: false, sent: 1e6, arriving: 1e6, for: .seconds(1))
        observe(isStanding: true, sent: 0.5e6, arriving: 0.5e6, for: .seconds(2))
        #expect(gauge.isCompeting)
        observe(isStanding: true, sent: 0.5e6, arriving: 0.5e6, for: .seconds(11))
        #expect(!gauge.isCompeting)
        observe(isStanding: true, sent: 0.3e6, arriving: 0.3e6, for: .milliseconds(1500))
        #expect(gauge.isCompeting)
    }

    @Test mutating func whatDrainsEndsIt() {
        observe(isStanding: false, sent: 1e6, arriving: 1e6, for: .seconds(1))
        observe(isStanding: true, sent: 0.5e6, arriving: 0.5e6, for: .seconds(2))
        observe(isStanding: true, sent: 0.5e6, arriving: 0.7e6, for: .milliseconds(800))
        #expect(!gauge.isCompeting)
    }
}
