import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// What comes, or is asked for, late.
@Suite struct LateTests {
    typealias Calls = ForwardingTests

    /// A slow stream and then a large frame whose beginning is lost: what is sent again within a second is kept.
    @Test(arguments: [20, 60, 80, 120, 150], [1, 2]) func theBeginningOfABurstMayComeAgain(lost: UInt64, workers: Int)
        throws
    {
        let simulation = try Simulation(seed: 1, workers: workers)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, worker: workers - 1, subscribed: [Calls.subscribed()])
        for sequence in UInt64(1)...100 {
            Calls.send(sequence..<(sequence + 1), by: publisher, in: simulation) { $0 == 1 }
            simulation.run(for: .milliseconds(199))
        }
        let frame = UInt64(101)..<301
        Calls.send((101 + lost)..<301, by: publisher, in: simulation)
        for sequence in frame.prefix(Int(lost)) {
            publisher.send(
                sequence: sequence,
                timestamp: UInt32(sequence) * 90,
                ssrc: Calls.sourceSSRC + 1,
                payloadType: 97,
                payload: [0, 0].enumerated().map { UInt8(truncatingIfNeeded: sequence >> ($0.offset == 0 ? 8 : 0)) }
                    + Calls.payload(UInt32(sequence), isKeyframe: false)
            )
            simulation.run(for: .milliseconds(1))
        }
        #expect(Set(viewer.payloads().map(Calls.number)).isSuperset(of: (1..<301).map { UInt32($0) }))
    }

    /// What lies before a keyframe nobody needs any more.
    @Test func whatAKeyframeHasMendedAsksForNone() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<40, by: publisher, in: simulation) { $0 == 1 }
        let old = viewer.headers().suffix(20).map(\.sequenceNumber)
        simulation.run(for: .seconds(2))
        Calls.send(40..<60, by: publisher, in: simulation) { $0 == 40 }
        let newer = viewer.headers().suffix(10).map(\.sequenceNumber)
        func requests() -> Int {
            publisher.controlPackets { packet, _ in if case .pictureLossIndication = packet { true } else { nil } }
                .count
        }
        func ask(for numbers: [UInt16]) {
            var nack: [UInt8] = []
            RTCPWriter.nack(sender: 9, media: Calls.viewerSSRC, lost: numbers[...], to: &nack)
            viewer.send(control: nack)
            simulation.run(for: .seconds(1))
        }
        let before = requests()
        for _ in 0..<10 { ask(for: old) }
        #expect(requests() == before)
        ask(for: newer)
        #expect(requests() > before, "of the keyframe's own time")
    }

    /// While its media stands still a sender may say again what it said.
    @Test func aReportThatIsRepeatedChangesNothing() throws {
        var gauge = SenderClockGauge()
        func report(_ second: UInt64, at received: UInt64) -> SenderClock {
            SenderClock(
                ntp: (3_900_000_000 + second) << 32,
                rtpTimestamp: UInt32(second) * 90_000,
                receivedAt: Instant(nanoseconds: received * 1_000_000_000)
            )
        }
        func observe(_ told: SenderClock) -> Bool {
            gauge.observe(told, clockRate: 90_000, interval: .milliseconds(500))
        }
        #expect(observe(report(1, at: 1)) && observe(report(2, at: 2)))
        for second in UInt64(3)..<20 {
            #expect(!observe(report(2, at: second)))
            #expect(gauge.clock?.ntp == report(2, at: 2).ntp)
        }
        #expect(observe(report(20, at: 20)) && gauge.clock?.ntp == report(20, at: 20).ntp)
    }

    /// Some clients send no checks while media flows, and a report each few seconds: one of them may be lost.
    @Test func whoSendsNoChecksIsWaitedForLonger() throws {
        let simulation = try Simulation(seed: 1)
        _ = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        func isAway() -> Bool? { simulation.engines[0].peers[PeerID(rawValue: 2)]?.isAway }
        viewer.sendsChecks = false
        var report: [UInt8] = []
        RTCPWriter.receiverReport(sender: 9, blocks: [], to: &report)
        for _ in 0..<7 {
            viewer.send(control: report)
            simulation.run(for: .seconds(5))
        }
        viewer.send(control: report)
        simulation.run(for: .milliseconds(12_400))
        #expect(isAway() == false, "one was lost")
        simulation.run(for: .seconds(4))
        #expect(isAway() == true)
        // Whoever checks again is expected to.
        viewer.sendsChecks = true
        simulation.run(for: .seconds(6))
        #expect(isAway() == false)
        simulation.setUnreachable(viewer, true)
        simulation.run(for: .milliseconds(7_100))
        #expect(isAway() == true)
    }

    /// A peer whose handshake ends for the time it takes leaves nothing that is due.
    @Test func whoEndsByTimeLeavesNothingDue() throws {
        var limits = Limits()
        limits.dtlsHandshake = .seconds(1)
        let simulation = try Simulation(seed: 1, limits: limits)
        let engine = simulation.engines[0]
        let client = try simulation.connect(1, settles: false)
        func isHandshaking() -> Bool {
            if case .handshaking = engine.peers[PeerID(rawValue: 1)]?.phase { true } else { false }
        }
        var steps = 0
        while !isHandshaking(), steps < 1000 {
            simulation.run(for: .milliseconds(1))
            steps += 1
        }
        #expect(isHandshaking())
        simulation.setUnreachable(client, true)
        simulation.run(for: .seconds(40)) {
            engine.advance(to: simulation.now)
            #expect(engine.earliestDeadline > simulation.now)
        }
        #expect(engine.peers.isEmpty)
    }
}
