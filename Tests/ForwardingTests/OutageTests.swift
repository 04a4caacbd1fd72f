import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// What happens when a viewer's network is gone for a while, and comes back.
@Suite struct OutageTests {
    typealias Calls = ForwardingTests

    private static let audioTrack = TrackID(rawValue: 7)
    private static let audioSSRC: UInt32 = 0x4400

    private static let audio = PublishedTrack(
        track: audioTrack,
        parameters: MediaParameters(mid: "1", codec: .opus, payloadType: 111, allowsReducedSizeRTCP: true),
        announcedSources: [AnnouncedSource(ssrc: audioSSRC)]
    )

    private static let heardAudio = SubscribedTrack(
        track: audioTrack,
        home: WorkerIndex(rawValue: 0),
        parameters: MediaParameters(mid: "a", codec: .opus, payloadType: 112, allowsReducedSizeRTCP: true),
        ssrc: 0x4500,
        retransmissionSSRC: nil,
        cname: "cname"
    )

    /// A publisher of 25 pictures and 50 pieces of sound a second, whose payloads say when they were sent.
    private final class Call {
        let simulation: Simulation
        let publisher: SimulatedClient
        let viewer: SimulatedClient
        private var sequence: UInt64 = 0
        private var answered = 0
        /// Whether the viewer takes part: reports, and asks for what it lacks.
        var isThere = true
        private var seen = 0
        private var highest: UInt16?
        private var missing: Set<UInt16> = []
        private let start: Instant

        init(workers: Int) throws {
            simulation = try Simulation(seed: 1, workers: workers)
            publisher = try simulation.connect(1, published: [Calls.published, OutageTests.audio])
            viewer = try simulation.connect(
                2,
                worker: workers - 1,
                subscribed: [Calls.subscribed(), OutageTests.heardAudio]
            )
            start = simulation.now
        }

        var milliseconds: UInt32 { UInt32((simulation.now - start).seconds * 1000) }

        func requests() -> Int {
            publisher.controlPackets { packet, _ in if case .pictureLossIndication = packet { true } else { nil } }
                .count
        }

        func play(_ duration: Duration) {
            let end = simulation.now + duration
            while simulation.now < end {
                let asked = requests()
                let isKeyframe = sequence == 0 || asked > answered
                answered = asked
                let payload = Calls.payload(milliseconds, isKeyframe: isKeyframe)
                publisher.send(
                    sequence: sequence + 1,
                    timestamp: UInt32(sequence) * 3600,
                    ssrc: Calls.sourceSSRC,
                    marker: true,
                    payload: payload
                )
                for half in UInt64(0)..<2 {
                    publisher.send(
                        sequence: sequence * 2 + half + 1,
                        timestamp: UInt32(sequence * 2 + half) * 960,
                        ssrc: audioSSRC,
                        payloadType: 111,
                        payload: [9, 9] + Calls.payload(milliseconds, isKeyframe: false)
                    )
                }
                sequence += 1
                simulation.run(for: .milliseconds(40))
                if isThere { takePart() }
            }
        }

        /// Asks for each number that it lacks again and again, as browsers do.
        private func takePart() {
            for header in viewer.headers().dropFirst(seen) where header.ssrc == Calls.viewerSSRC {
                if let highest, header.sequenceNumber &- highest < 0x8000 {
                    var number = highest &+ 1
                    while number != header.sequenceNumber {
                        missing.insert(number)
                        number &+= 1
                    }
                }
                if highest.map({ header.sequenceNumber &- $0 < 0x8000 }) ?? true { highest = header.sequenceNumber }
                missing.remove(header.sequenceNumber)
            }
            seen = viewer.headers().count
            guard !missing.isEmpty else { return }
            var nack: [UInt8] = []
            RTCPWriter.nack(sender: 9, media: Calls.viewerSSRC, lost: missing.sorted()[...], to: &nack)
            viewer.send(control: nack)
        }

        /// Age of each packet of video when it came, in milliseconds, in the order of arrival; retransmissions among them.
        func video(after count: Int) -> [(number: UInt32, isKeyframe: Bool, isAgain: Bool)] {
            viewer.received.dropFirst(count).compactMap { packet in
                guard let header = try? RTPHeader(parsing: packet.span.bytes) else { return nil }
                let isAgain = header.ssrc == Calls.viewerRTX
                guard isAgain || header.ssrc == Calls.viewerSSRC else { return nil }
                let payload = Array(packet[(header.payloadOffset + (isAgain ? 2 : 0))...])
                return (Calls.number(payload), payload[1] == 0, isAgain)
            }
        }
    }

    @Test(arguments: [1, 2]) func whoWasAwayComesBackToAKeyframeAndTheLiveMoment(workers: Int) throws {
        let call = try Call(workers: workers)
        call.play(.seconds(3))
        for outage in [1, 3, 6, 10, 20] {
            let before = call.viewer.received.count
            call.isThere = false
            call.simulation.setUnreachable(call.viewer, true)
            call.play(.seconds(outage))
            call.simulation.setUnreachable(call.viewer, false)
            #expect(call.viewer.received.count == before)
            let back = call.milliseconds
            call.isThere = true
            call.play(.seconds(12))
            let video = call.video(after: before)
            #expect(!video.isEmpty)
            #expect(video.allSatisfy { $0.number + 1100 >= back }, "nothing that was long past is sent again")
            // A client that sends nothing but a check each 5 s is heard after at most six of them.
            let keyframe = try #require(video.first { $0.isKeyframe && !$0.isAgain })
            #expect(keyframe.number <= back + 6200)
            #expect(video.suffix(50).allSatisfy { !$0.isAgain }, "and all is well again")
            let last = try #require(video.last)
            #expect(last.number + 100 >= call.milliseconds)
        }
    }

    @Test func whoIsNotHeardIsSentNoVideo() throws {
        let call = try Call(workers: 1)
        call.play(.seconds(2))
        call.simulation.setUnreachable(call.viewer, true)
        call.play(.seconds(8))
        call.simulation.keepsSent = true
        call.play(.seconds(5))
        let kinds = call.simulation.sent.filter { $0.destination == call.viewer.address }.compactMap {
            try? RTPHeader(parsing: $0.bytes.span.bytes).ssrc
        }
        #expect(!kinds.contains(Calls.viewerSSRC), "video is not sent where nobody is")
        #expect(kinds.filter { $0 == 0x4500 }.count >= 240, "audio goes on")
        let requests = call.requests()
        call.play(.seconds(5))
        #expect(call.requests() == requests, "and no keyframe is asked for meanwhile")
    }

    /// Whoever sends little, but something, is there.
    @Test func aQuietViewerIsNoAbsentOne() throws {
        let call = try Call(workers: 1)
        call.play(.seconds(40))
        #expect(call.video(after: 0).count == 1000)
    }

    // MARK: Clocks

    private static func report(_ ntp: UInt64, _ timestamp: UInt32) -> [UInt8] {
        var packet: [UInt8] = []
        RTCPWriter.senderReport(
            RTCPPacket.SenderReport(
                ssrc: Calls.sourceSSRC,
                ntp: ntp,
                rtpTimestamp: timestamp,
                packetCount: 1,
                octetCount: 1
            ),
            to: &packet
        )
        return packet
    }

    private static func clocks(of viewer: SimulatedClient) -> Int {
        viewer.controlPackets { packet, _ in
            if case .senderReport(let report) = packet, report.ssrc == Calls.viewerSSRC { true } else { nil }
        }.count
    }

    /// What a publisher says each second, by a number of seconds.
    struct Clock: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let isTold: Bool
        let ntp: @Sendable (UInt64) -> UInt64
        var timestamp: @Sendable (UInt64) -> UInt32 = { UInt32(truncatingIfNeeded: $0 * 90_000) }
    }

    static let clocks = [
        Clock(testDescription: "a clock", isTold: true) { (3_900_000_000 + $0) << 32 },
        Clock(testDescription: "counted from the start", isTold: true) { (1 + $0) << 32 },
        Clock(testDescription: "0", isTold: false) { _ in 0 },
        Clock(testDescription: "next to 0", isTold: false) { $0 },
        Clock(testDescription: "all ones", isTold: false) { _ in .max },
        Clock(testDescription: "stands still", isTold: false) { _ in 3_900_000_000 << 32 },
        Clock(testDescription: "runs backwards", isTold: false) { (3_900_000_000 - $0) << 32 },
        Clock(testDescription: "runs a thousand times too fast", isTold: false) { (3_900_000_000 + $0 * 1000) << 32 },
        Clock(testDescription: "jumps about", isTold: false) { ($0 &* 0x9E37_79B9_7F4A_7C15) | 1 << 40 },
        Clock(
            testDescription: "timestamps of another clock",
            isTold: false,
            ntp: { (3_900_000_000 + $0) << 32 },
            timestamp: { UInt32(truncatingIfNeeded: $0 * 90_000_000) }
        ),
    ]

    @Test(arguments: clocks, [1, 2]) func onlyAClockIsTold(clock: Clock, workers: Int) throws {
        let simulation = try Simulation(seed: 1, workers: workers)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, worker: workers - 1, subscribed: [Calls.subscribed()])
        var sequence: UInt64 = 1
        func play(_ seconds: ClosedRange<UInt64>) {
            for second in seconds {
                publisher.send(control: report(clock.ntp(second), clock.timestamp(second)))
                Calls.send(sequence..<(sequence + 20), by: publisher, in: simulation) { $0 == 1 }
                sequence += 20
                simulation.run(for: .milliseconds(980))
            }
        }
        func report(_ ntp: UInt64, _ timestamp: UInt32) -> [UInt8] { Self.report(ntp, timestamp) }
        // The first one may be believed, as it can't be held against another.
        play(1...3)
        let before = Self.clocks(of: viewer)
        play(4...9)
        #expect((Self.clocks(of: viewer) > before) == clock.isTold)
        if clock.isTold { #expect(Self.clocks(of: viewer) >= before + 5) }
    }

    /// A clock that was set is believed again once it goes on.
    @Test func aClockThatIsSetIsBelievedAgain() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        var told: [Int] = []
        for second in UInt64(0)..<12 {
            let ntp = (3_900_000_000 + second + (second >= 6 ? 86_400 : 0)) << 32
            publisher.send(control: Self.report(ntp, UInt32(second) * 90_000))
            Calls.send(second * 10 + 1..<(second * 10 + 11), by: publisher, in: simulation) { $0 == 1 }
            simulation.run(for: .milliseconds(990))
            told.append(Self.clocks(of: viewer))
        }
        #expect(told[11] - told[8] == 3)
        #expect(told[11] - told[0] >= 9)
    }
}
