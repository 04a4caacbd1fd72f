import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// Which source feeds a track, and where its packets belong.
@Suite struct SourceTests {
    typealias Calls = ForwardingTests

    /// What a viewer relies on: one source whose numbers go on one by one, and whose time goes forward.
    private static func expectContinuity(_ viewer: SimulatedClient, after start: Int = 0) {
        let headers = viewer.headers().dropFirst(start)
        for (earlier, later) in zip(headers, headers.dropFirst()) {
            #expect(later.sequenceNumber == earlier.sequenceNumber &+ 1)
            #expect(Int32(bitPattern: later.timestamp &- earlier.timestamp) > 0)
        }
        #expect(Set(headers.map(\.ssrc)) == [Calls.viewerSSRC])
    }

    /// A publisher whose sources are recognised by their payload type.
    private static let unannounced: PublishedTrack = {
        var published = Calls.published
        published.announcedSources = []
        return published
    }()

    private static func drops(_ reason: DropReason, in simulation: Simulation) -> UInt64 {
        simulation.snapshot().counters.drops[reason.rawValue]
    }

    // MARK: Takeovers

    @Test func strayPacketsOfTheSourceBeforeAreDropped() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.unannounced])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<50, by: publisher, in: simulation, ssrc: 0xA) { $0 == 1 }
        simulation.run(for: .seconds(1))
        Calls.send(5000..<5700, by: publisher, in: simulation, ssrc: 0xB) { $0 == 5000 }
        // Now and then something of the old one comes.
        for step in UInt64(0)..<90 {
            Calls.send((5700 + step * 10)..<(5710 + step * 10), by: publisher, in: simulation, ssrc: 0xB)
            if step % 7 == 0 { Calls.send((50 + step)..<(51 + step), by: publisher, in: simulation, ssrc: 0xA) }
        }
        #expect(viewer.payloads().map(Calls.number) == Array(1..<50) + Array(5000..<6600))
        #expect(Self.drops(.rtpStraySource, in: simulation) == 13)
        Self.expectContinuity(viewer)
    }

    @Test func aSourceThatSaidGoodbyeGivesWayAtOnce() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.unannounced])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<600, by: publisher, in: simulation, ssrc: 0xA) { $0 == 1 }
        var goodbye: [UInt8] = []
        RTCPWriter.goodbye(ssrc: 0xA, to: &goodbye)
        publisher.send(control: goodbye)
        Calls.send(5000..<5100, by: publisher, in: simulation, ssrc: 0xB) { $0 == 5000 }
        #expect(viewer.payloads().map(Calls.number) == Array(1..<600) + Array(5000..<5100))
        Self.expectContinuity(viewer)
    }

    /// Somebody else's goodbye, and one of a source that goes on.
    @Test func aGoodbyeThatIsNotMeantEndsNothing() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.unannounced])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<600, by: publisher, in: simulation, ssrc: 0xA) { $0 == 1 }
        var goodbye: [UInt8] = []
        RTCPWriter.goodbye(ssrc: 0xA, to: &goodbye)
        viewer.send(control: goodbye)
        Calls.send(600..<610, by: publisher, in: simulation, ssrc: 0xA)
        Calls.send(5000..<5001, by: publisher, in: simulation, ssrc: 0xB) { _ in true }
        publisher.send(control: goodbye)
        Calls.send(610..<1000, by: publisher, in: simulation, ssrc: 0xA)
        Calls.send(5001..<5002, by: publisher, in: simulation, ssrc: 0xB) { _ in true }
        Calls.send(1000..<1010, by: publisher, in: simulation, ssrc: 0xA)
        #expect(viewer.payloads().map(Calls.number) == Array(1..<1010))
    }

    @Test func aSourceTakesOverWhenTheOtherIsSilent() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.unannounced])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<600, by: publisher, in: simulation, ssrc: 0xA) { $0 == 1 }
        // An encoder that starts again without a word; it answers when a keyframe is asked for.
        var answered = 0
        for sequence in UInt64(5000)..<7000 {
            let asked = publisher.controlPackets { packet, _ in
                if case .pictureLossIndication(_, 0xB) = packet { true } else { nil }
            }.count
            Calls.send(sequence..<(sequence + 1), by: publisher, in: simulation, ssrc: 0xB) { _ in asked > answered }
            answered = asked
        }
        let numbers = viewer.payloads().map(Calls.number)
        let resumed = try #require(numbers.first { $0 >= 5000 })
        #expect(resumed < 5000 + 720, "as soon as the old one counts as silent")
        #expect(Array(numbers.suffix(Int(7000 - resumed))) == Array(resumed..<7000))
        Self.expectContinuity(viewer)
    }

    // MARK: Sequences

    /// Back, near and far; forward; to where another count of wraps would be.
    private static let jumps: [(UInt64, UInt64)] = [
        (20_000, 19_800), (20_000, 15_000), (20_000, 26_000), (10_000, 42_000), (40_000, 38_000),
        (40_000, 65_536 + 35_000), (40_000, 65_536 + 39_800), (60_000, 65_536 + 55_000),
    ]

    @Test(arguments: jumps) func aSequenceThatJumpsIsANewBeginning(first: UInt64, second: UInt64) throws {
        let simulation = try Simulation(seed: 1, workers: 2)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewers = try (0..<2).map {
            try simulation.connect(UInt64($0) + 2, worker: $0, subscribed: [Calls.subscribed(UInt32($0) * 0)])
        }
        Calls.send(first..<(first + 99), by: publisher, in: simulation) { $0 == first }
        simulation.run(for: .milliseconds(600))
        Calls.send(second..<(second + 90), by: publisher, in: simulation) { $0 == second }
        let expected = (first..<(first + 99)).map { UInt32($0) } + (second..<(second + 90)).map { UInt32($0) }
        for viewer in viewers {
            #expect(viewer.payloads().map(Calls.number) == expected)
            let headers = viewer.headers()
            for (earlier, later) in zip(headers, headers.dropFirst()) {
                #expect(later.sequenceNumber == earlier.sequenceNumber &+ 1)
            }
        }
        let track = try #require(simulation.snapshot().peers.flatMap(\.tracks).first)
        #expect(track.packetsLost == 0, "nothing was lost")
        #expect(publisher.controlPackets(Calls.lost).isEmpty, "and nothing is asked for")
    }

    @Test func aJumpDoesNotMakeTheQualityPoor() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        final class Box: @unchecked Sendable { var levels: [QualityLevel] = [] }
        let box = Box()
        for start in [UInt64(1_000), 30_000, 24_000, 50_000] {
            Calls.send(start..<(start + 2000), by: publisher, in: simulation)
            simulation.apply(.takeQualityChanges { box.levels += $0.incoming.map(\.level) })
        }
        #expect(box.levels.isEmpty)
    }

    /// One packet from far away is none of the source's (RFC 3550 A.1), whatever comes after it.
    @Test func aSinglePacketOutOfOrderIsDropped() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(20_000..<21_000, by: publisher, in: simulation) { $0 == 20_000 }
        for outlier in [UInt64(15_000), 30_000, 15_002, 17_000] {
            Calls.send(outlier..<(outlier + 1), by: publisher, in: simulation) { _ in true }
        }
        Calls.send(21_000..<21_100, by: publisher, in: simulation)
        #expect(viewer.payloads().map(Calls.number) == Array(20_000..<21_100))
        #expect(Self.drops(.rtpOutOfSequence, in: simulation) == 3, "and the last one is kept still")
        Self.expectContinuity(viewer)
    }

    /// What was asked for comes late, however late.
    @Test func aRetransmissionIsNoNewBeginning() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1000..<1400, by: publisher, in: simulation, isKeyframe: { $0 == 1000 }, skipping: [1100, 1101])
        Calls.send(1100..<1102, by: publisher, in: simulation)
        Calls.send(1400..<1410, by: publisher, in: simulation)
        #expect(Set(viewer.payloads().map(Calls.number)) == Set(1000..<1410))
        #expect(viewer.headers().count == 410)
    }

    /// RTX of a source that nobody announced moves nothing, and repeats only what is missing.
    @Test func aRetransmissionOfAnotherSourceIsDropped() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.unannounced])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(20_000..<20_100, by: publisher, in: simulation, isKeyframe: { $0 == 20_000 }, skipping: [20_050])
        for (index, sequence) in [UInt16(100), 40_000, 20_099, 20_110, 20_050].enumerated() {
            publisher.send(
                sequence: UInt64(index) + 1,
                timestamp: UInt32(sequence) * 90,
                ssrc: 0x99,
                payloadType: 97,
                payload: [UInt8(sequence >> 8), UInt8(sequence & 255)]
                    + Calls.payload(UInt32(sequence), isKeyframe: false)
            )
        }
        Calls.send(20_100..<20_120, by: publisher, in: simulation)
        #expect(viewer.payloads().map(Calls.number).sorted() == Array(20_000..<20_120))
    }

    // MARK: Many sources

    /// Each is the last for a while, and all are heard.
    @Test func aSessionMayHaveAnyNumberOfSources() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Self.unannounced])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        var expected: [UInt32] = []
        for source in UInt32(0)..<200 {
            let first = UInt64(source) * 100 + 1
            Calls.send(first..<(first + 20), by: publisher, in: simulation, ssrc: 0x100 + source) { $0 == first }
            expected += (first..<(first + 20)).map { UInt32($0) }
            simulation.run(for: .milliseconds(800))
        }
        #expect(viewer.payloads().map(Calls.number) == expected)
        Self.expectContinuity(viewer)
        // One of those that gave way comes back, with what is new.
        Calls.send(30..<40, by: publisher, in: simulation, ssrc: 0x100) { $0 == 30 }
        #expect(viewer.payloads().suffix(10).map(Calls.number) == Array(30..<40))
    }

    /// Some clients report with another SSRC for each receiver that they ever had.
    @Test func reportsAndRequestsAreHeardFromAnyNumberOfSources() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        Calls.send(1..<300, by: publisher, in: simulation) { $0 == 1 }
        let lost = viewer.headers()[200...].map(\.sequenceNumber)
        for sender in UInt32(1)...200 {
            var compound: [UInt8] = []
            let block = RTCPPacket.ReportBlock(
                ssrc: Calls.viewerSSRC,
                fractionLost: UInt8(sender),
                packetsLost: 0,
                highestSequence: 0,
                jitter: 0,
                lastSenderReport: 0,
                delaySinceLastSenderReport: 0
            )
            RTCPWriter.receiverReport(sender: sender, blocks: [block], to: &compound)
            RTCPWriter.nack(
                sender: sender,
                media: Calls.viewerSSRC,
                lost: [lost[Int(sender) % lost.count]][...],
                to: &compound
            )
            RTCPWriter.pictureLossIndication(sender: sender, media: Calls.viewerSSRC, to: &compound)
            viewer.send(control: compound)
            simulation.run(for: .milliseconds(2))
            #expect(simulation.snapshot().peers.flatMap(\.subscriptions).first?.fractionLost == Double(sender) / 256)
        }
        let counters = simulation.snapshot().counters
        #expect(counters.packetsRetransmitted == 200 && counters.nacksReceived == 200)
        #expect(counters.keyframeRequestsReceived == 200)
        #expect(Self.drops(.srtpTooManySources, in: simulation) == 0)
    }

    /// Strays of each encoding's source before, while the camera's encodings go on.
    @Test func strayPacketsOfASimulcastSourceAreDropped() throws {
        let simulation = try Simulation(seed: 1)
        let rids = ["l", "h"]
        let published = rids.enumerated().map { place, rid in
            PublishedTrack(
                track: TrackID(rawValue: 60 + UInt64(place)),
                parameters: MediaParameters(
                    mid: "0",
                    codec: .vp8,
                    payloadType: 96,
                    headerExtensions: [
                        HeaderExtensionMapping(id: 1, meaning: .mid),
                        HeaderExtensionMapping(id: 2, meaning: .rtpStreamID),
                    ],
                    feedback: [.nack, .pictureLossIndication],
                    allowsReducedSizeRTCP: true
                ),
                rid: rid
            )
        }
        let publisher = try simulation.connect(1, published: published)
        func send(_ sequence: UInt64, generation: UInt32) {
            for (place, rid) in rids.enumerated() {
                publisher.send(
                    sequence: sequence,
                    timestamp: UInt32(sequence) * 90,
                    ssrc: generation + UInt32(place),
                    elements: [0x10, UInt8(ascii: "0"), 0x20, rid.utf8.first ?? 0],
                    payload: Calls.payload(UInt32(sequence), isKeyframe: true)
                )
            }
            simulation.run(for: .milliseconds(10))
        }
        for sequence in UInt64(1)...10 { send(sequence, generation: 0x100) }
        simulation.run(for: .seconds(1))
        for sequence in UInt64(1)...300 {
            send(sequence, generation: 0x200)
            if sequence % 20 == 0 { send(10 + sequence, generation: 0x100) }
        }
        let tracks = simulation.snapshot().peers.flatMap(\.tracks)
        #expect(tracks.map(\.packetsReceived) == [300, 300])
        #expect(Self.drops(.rtpStraySource, in: simulation) == 30)
    }

    /// A source that the SDP names stays, whatever else is sent.
    @Test func announcedSourcesDoNotGiveWay() throws {
        let simulation = try Simulation(seed: 1)
        var other = Calls.published
        other.track = TrackID(rawValue: 9)
        other.parameters.mid = "1"
        other.parameters.headerExtensions = [HeaderExtensionMapping(id: 1, meaning: .mid)]
        other.announcedSources = []
        let publisher = try simulation.connect(1, published: [Calls.published, other])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed()])
        for source in UInt32(0)..<200 {
            publisher.send(
                sequence: 1,
                timestamp: 1,
                ssrc: 0x100 + source,
                elements: [0x10, UInt8(ascii: "1")],
                payload: Calls.payload(1, isKeyframe: true)
            )
            simulation.run(for: .milliseconds(1))
        }
        Calls.send(1..<20, by: publisher, in: simulation) { $0 == 1 }
        #expect(viewer.payloads().map(Calls.number) == Array(1..<20))
    }

    // MARK: Lines that pause

    /// What is sent on an m-line is known as long as the session lives: clients don't say it again.
    @Test(arguments: [false, true]) func aLineThatWasInactiveGoesOn(isSimulcast: Bool) throws {
        let simulation = try Simulation(seed: 1)
        let tracks = (0..<(isSimulcast ? 3 : 1)).map { TrackID(rawValue: 30 + UInt64($0)) }
        let rids = ["l", "m", "h"]
        func published(_ tracks: [TrackID]) -> [PublishedTrack] {
            let camera = tracks.enumerated().map { place, track in
                PublishedTrack(
                    track: track,
                    parameters: MediaParameters(
                        mid: "1",
                        codec: .vp8,
                        payloadType: 96,
                        retransmissionPayloadType: 97,
                        headerExtensions: [
                            HeaderExtensionMapping(id: 1, meaning: .mid),
                            HeaderExtensionMapping(id: 2, meaning: .rtpStreamID),
                        ],
                        feedback: [.nack, .pictureLossIndication],
                        allowsReducedSizeRTCP: true
                    ),
                    rid: isSimulcast ? rids[place] : nil
                )
            }
            // Another video of the same payload type.
            var screen = Calls.published
            screen.track = TrackID(rawValue: 50)
            screen.parameters.mid = "2"
            return camera + [screen]
        }
        let publisher = try simulation.connect(1, published: published(tracks))
        func send(_ first: UInt64, saysLine: Bool) {
            for sequence in first..<(first + 20) {
                for place in tracks.indices {
                    let rid = [0x20, rids[place].utf8.first ?? 0]
                    publisher.send(
                        sequence: sequence,
                        timestamp: UInt32(sequence) * 90,
                        ssrc: 0x700 + UInt32(place),
                        elements: saysLine ? [0x10, UInt8(ascii: "1")] + (isSimulcast ? rid : []) : [],
                        payload: Calls.payload(UInt32(sequence), isKeyframe: sequence == first)
                    )
                }
                simulation.run(for: .milliseconds(5))
            }
        }
        func received() -> [TrackID: UInt64] {
            let tracks = simulation.snapshot().peers.first { $0.peer == PeerID(rawValue: 1) }?.tracks ?? []
            return Dictionary(uniqueKeysWithValues: tracks.map { ($0.track, $0.packetsReceived) })
        }
        send(1, saysLine: true)
        #expect(tracks.allSatisfy { received()[$0] == 20 })
        var current = tracks
        for round in UInt64(1)..<4 {
            // The other one goes on, or nothing does; what is still on its way is not taken for the other's.
            let rest = round == 2 ? [] : Array(published(current).suffix(1))
            simulation.apply(.setPublished(PeerID(rawValue: 1), rest) { #expect($0) })
            simulation.run(for: .milliseconds(100))
            send(100 * round, saysLine: false)
            // The same track again, or another one in its place.
            if round > 1 { current = current.map { TrackID(rawValue: $0.rawValue + 100) } }
            simulation.apply(.setPublished(PeerID(rawValue: 1), published(current)) { #expect($0) })
            send(100 * round + 50, saysLine: false)
            #expect(current.allSatisfy { received()[$0] == 20 }, "round \(round): \(received())")
        }
    }
}
