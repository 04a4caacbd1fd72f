import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// Encoders that send parameter sets once, at the start: whoever comes later gets them all the same, before the first keyframe.
@Suite struct ParameterSetTests {
    typealias Calls = ForwardingTests

    /// How a codec's pictures look. Numbers are the last byte but one.
    struct Encoder: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let codec: Codec
        /// The payloads that an encoder begins with.
        let sets: [[UInt8]]
        /// Others in their place.
        let changed: [[UInt8]]
        let keyframe: [UInt8]
        let picture: [UInt8]
        /// What goes before a keyframe without parameter sets.
        let preamble: [[UInt8]]
        let changedPreamble: [[UInt8]]
    }

    private static let sps: [UInt8] = [0x67, 0x42, 0xE0, 0x1F, 0x8C, 0x01]
    private static let pps: [UInt8] = [0x68, 0xCE, 0x3C]
    private static let otherSPS: [UInt8] = [0x67, 0x42, 0xE0, 0x28, 0x8C, 0x09, 0x09]
    private static let vps: [UInt8] = [0x40, 0x01, 0x0C, 0x01]
    private static let sps265: [UInt8] = [0x42, 0x01, 0x01, 0x02]
    private static let pps265: [UInt8] = [0x44, 0x01, 0xC1, 0x03]
    private static let otherSPS265: [UInt8] = [0x42, 0x01, 0x01, 0x07, 0x07]
    private static let sequence: [UInt8] = [0x08, 0x00, 0x11, 0x22]
    private static let otherSequence: [UInt8] = [0x08, 0x00, 0x33]

    private static func aggregate(_ header: [UInt8], _ units: [[UInt8]]) -> [UInt8] {
        header + units.flatMap { [0, UInt8($0.count)] + $0 }
    }

    static let encoders = [
        Encoder(
            testDescription: "H.264, each in its packet",
            codec: .h264,
            sets: [sps, pps],
            changed: [otherSPS],
            keyframe: [0x65, 0x88, 0, 0],
            picture: [0x41, 0x9A, 0, 0],
            preamble: [aggregate([0x78], [sps, pps])],
            changedPreamble: [aggregate([0x78], [otherSPS, pps])]
        ),
        Encoder(
            testDescription: "H.264, together, and fragmented pictures",
            codec: .h264,
            sets: [aggregate([0x18], [sps, pps])],
            changed: [aggregate([0x18], [otherSPS, pps])],
            keyframe: [0x7C, 0x85, 0, 0],
            picture: [0x5C, 0x81, 0, 0],
            preamble: [aggregate([0x78], [sps, pps])],
            changedPreamble: [aggregate([0x78], [otherSPS, pps])]
        ),
        Encoder(
            testDescription: "H.265",
            codec: .h265,
            sets: [vps, sps265, pps265],
            changed: [otherSPS265],
            keyframe: [0x26, 0x01, 0, 0],
            picture: [0x02, 0x01, 0, 0],
            preamble: [aggregate([0x60, 0x01], [vps, sps265, pps265])],
            changedPreamble: [aggregate([0x60, 0x01], [vps, otherSPS265, pps265])]
        ),
        Encoder(
            testDescription: "AV1",
            codec: .av1,
            sets: [[0x18] + sequence],
            changed: [[0x18] + otherSequence],
            keyframe: [0x10, 0x30, 0x10, 0, 0],
            picture: [0x10, 0x30, 0x30, 0, 0],
            preamble: [[0x18] + sequence],
            changedPreamble: [[0x18] + otherSequence]
        ),
    ]

    private final class Call {
        let simulation: Simulation
        let publisher: SimulatedClient
        let encoder: Encoder
        private var number: UInt64 = 0

        init(_ encoder: Encoder, workers: Int) throws {
            self.encoder = encoder
            simulation = try Simulation(seed: 1, workers: workers)
            var published = Calls.published
            published.parameters.codec = encoder.codec
            publisher = try simulation.connect(1, published: [published])
        }

        func subscribed(_ place: UInt32, withRTX: Bool = true) -> SubscribedTrack {
            var subscribed = Calls.subscribed(place, withRTX: withRTX)
            subscribed.parameters.codec = encoder.codec
            return subscribed
        }

        /// Sends payloads of one picture.
        func send(_ payloads: [[UInt8]]) {
            for (index, payload) in payloads.enumerated() {
                number += 1
                publisher.send(
                    sequence: number,
                    timestamp: UInt32(number - UInt64(index)) * 3000,
                    ssrc: Calls.sourceSSRC,
                    marker: index + 1 == payloads.count,
                    payload: payload
                )
            }
            simulation.run(for: .milliseconds(33))
        }
    }

    /// A payload without the padding that makes packets equally long.
    private static func payloads(of viewer: SimulatedClient) throws -> [[UInt8]] {
        try viewer.received.map { packet in
            let header = try RTPHeader(parsing: packet.span.bytes)
            return Array(
                packet[header.payloadOffset..<(packet.count - (try header.paddingLength(in: packet.span.bytes)))]
            )
        }
    }

    private static func expectContinuity(_ viewer: SimulatedClient) {
        let headers = viewer.headers()
        for (earlier, later) in zip(headers, headers.dropFirst()) {
            #expect(later.sequenceNumber == earlier.sequenceNumber &+ 1)
            #expect(Int32(bitPattern: later.timestamp &- earlier.timestamp) >= 0)
        }
    }

    @Test(arguments: encoders, [1, 2]) func aLateViewerGetsThemFirst(encoder: Encoder, workers: Int) throws {
        let call = try Call(encoder, workers: workers)
        let early = try call.simulation.connect(2, worker: workers - 1, subscribed: [call.subscribed(0)])
        call.send(encoder.sets + [encoder.keyframe])
        for _ in 0..<5 { call.send([encoder.picture, encoder.picture]) }
        let late = try call.simulation.connect(3, worker: workers - 1, subscribed: [call.subscribed(1)])
        let alone = try call.simulation.connect(4, worker: 0, subscribed: [call.subscribed(2)])
        call.send([encoder.picture])
        #expect(late.received.isEmpty)
        call.send([encoder.keyframe, encoder.picture])
        call.send([encoder.picture])
        let expected = encoder.preamble + [encoder.keyframe, encoder.picture, encoder.picture]
        for viewer in [late, alone] {
            #expect(try Self.payloads(of: viewer) == expected)
            Self.expectContinuity(viewer)
            let headers = viewer.headers()
            // They are the keyframe's: of its time, and before its end.
            #expect(Set(headers.prefix(expected.count - 1).map(\.timestamp)).count == 1)
            #expect(headers.prefix(expected.count - 2).allSatisfy { !$0.marker })
        }
        #expect(
            try Self.payloads(of: early).suffix(4) == [
                encoder.picture, encoder.keyframe, encoder.picture, encoder.picture,
            ],
            "whoever has them isn't sent them again"
        )
        Self.expectContinuity(early)
    }

    /// The last ones count, on other workers too.
    @Test(arguments: encoders, [1, 2]) func changedOnesTakeTheirPlace(encoder: Encoder, workers: Int) throws {
        let call = try Call(encoder, workers: workers)
        _ = try call.simulation.connect(2, worker: workers - 1, subscribed: [call.subscribed(0)])
        call.send(encoder.sets + [encoder.keyframe])
        call.send(encoder.changed + [encoder.keyframe])
        call.send([encoder.picture])
        let late = try call.simulation.connect(3, worker: workers - 1, subscribed: [call.subscribed(1)])
        call.send([encoder.keyframe])
        #expect(try Self.payloads(of: late) == encoder.changedPreamble + [encoder.keyframe])
    }

    /// A keyframe that brings its own is left as it is.
    @Test(arguments: encoders) func nothingIsPutBeforeWhatIsComplete(encoder: Encoder) throws {
        let call = try Call(encoder, workers: 1)
        call.send(encoder.sets + [encoder.keyframe])
        let late = try call.simulation.connect(3, subscribed: [call.subscribed(1)])
        call.send(encoder.sets + [encoder.keyframe])
        #expect(try Self.payloads(of: late) == encoder.sets + [encoder.keyframe])
        Self.expectContinuity(late)
    }

    /// What was put before can be lost as anything else; without RTX it is repeated to the bit, though others took its place.
    @Test(arguments: encoders, [true, false]) func theyAreSentAgain(encoder: Encoder, withRTX: Bool) throws {
        let call = try Call(encoder, workers: 1)
        call.send(encoder.sets + [encoder.keyframe])
        call.send([encoder.picture])
        let late = try call.simulation.connect(3, subscribed: [call.subscribed(1, withRTX: withRTX)])
        call.simulation.keepsSent = true
        call.send([encoder.keyframe])
        let first = try #require(late.headers().first).sequenceNumber
        let sealed = call.simulation.sent.map(\.bytes).first { bytes in
            (try? RTPHeader(parsing: bytes.span.bytes))?.sequenceNumber == first
        }
        call.send(encoder.changed)
        let count = late.received.count
        var nack: [UInt8] = []
        RTCPWriter.nack(sender: 9, media: Calls.viewerSSRC + 16, lost: [first &- 1, first], to: &nack)
        late.send(control: nack)
        call.simulation.run(for: .milliseconds(5))
        if withRTX {
            let again = try #require(late.received.dropFirst(count).first)
            let header = try RTPHeader(parsing: again.span.bytes)
            #expect(
                Array(again[header.payloadOffset...]) == [UInt8(first >> 8), UInt8(first & 255)] + encoder.preamble[0]
            )
        } else {
            let repeated = call.simulation.sent.map(\.bytes).filter { bytes in
                (try? RTPHeader(parsing: bytes.span.bytes))?.sequenceNumber == first
            }
            #expect(repeated.count == 2 && repeated.allSatisfy { $0 == sealed })
        }
        #expect(call.simulation.snapshot().counters.packetsRetransmitted == 1)
    }

    /// Parameter sets without end, and longer than a packet.
    @Test func theyAreBounded() throws {
        let call = try Call(Self.encoders[0], workers: 1)
        for number in UInt8(0)..<200 {
            call.send([
                [0x68, 0x02, number, 1], [0x67, 1, 1, 1, 0xFF - number] + [UInt8](repeating: number, count: 1300),
            ])
            call.send([[0x68, number | 1] + [UInt8](repeating: number, count: 600)])
        }
        call.send([Self.sps, [0x65, 1, 1]])
        call.send([[0x41, 1, 1]])
        let late = try call.simulation.connect(3, subscribed: [call.subscribed(1)])
        call.send([[0x65, 1, 1]])
        #expect(!late.received.isEmpty && late.received.count <= 14)
        #expect(late.received.allSatisfy { $0.count < 1200 })
        Self.expectContinuity(late)
    }

    // MARK: To other workers

    private static let changing = encoders[0]

    /// One set a packet, whose bytes end with the number. The simulation takes them all in its next step.
    private static func sendSets(_ numbers: Range<UInt64>, by call: Call) {
        for number in numbers {
            call.publisher.send(
                sequence: number + 1000,
                timestamp: UInt32(number) * 3000,
                ssrc: Calls.sourceSSRC,
                payload: sps + [UInt8(number >> 8), UInt8(number & 255)]
            )
        }
    }

    @Test func changingOnesAreRelayedOnceATurn() throws {
        let call = try Call(Self.changing, workers: 2)
        _ = try call.simulation.connect(2, worker: 1, subscribed: [call.subscribed(0)])
        call.simulation.stalledWorkers = [1]
        Self.sendSets(0..<50, by: call)
        call.simulation.run(for: .milliseconds(1))
        let ring = try #require(call.simulation.engines[0].outgoingRelays[1])
        var kinds: [RelayRecord.Head.Kind] = []
        while ring.read({ head, _ in
            kinds.append(head.kind)
            if head.kind == .parameterSets {
                _ = ParameterSets.takenOver(head.chunk)
            } else {
                PacketChunk.borrowed(head.chunk)?.giveBack()
            }
        }) {}
        #expect(kinds.filter { $0 == .parameterSets }.count == 1)
        #expect(kinds.first == .parameterSets && kinds.contains(.packets))
    }

    /// A worker that reads nothing for long.
    @Test func theNewestWaitForRoom() throws {
        let call = try Call(Self.changing, workers: 2)
        _ = try call.simulation.connect(2, worker: 1, subscribed: [call.subscribed(0)])
        call.send(call.encoder.sets + [call.encoder.keyframe])
        call.simulation.stalledWorkers = [1]
        var longest = 0
        for number in UInt64(0)..<4000 {
            Self.sendSets(number..<(number + 1), by: call)
            call.simulation.run(for: .milliseconds(1))
            longest = max(longest, call.simulation.engines[0].waitingRelays.count)
        }
        #expect(longest == 1)
        call.simulation.stalledWorkers = []
        call.simulation.run(for: .milliseconds(10))
        let late = try call.simulation.connect(3, worker: 1, subscribed: [call.subscribed(1)])
        call.publisher.send(
            sequence: 5000,
            timestamp: 5000 * 3000,
            ssrc: Calls.sourceSSRC,
            marker: true,
            payload: call.encoder.keyframe
        )
        call.simulation.run(for: .milliseconds(10))
        let newest = Self.sps + [UInt8(3999 >> 8), UInt8(3999 & 255)]
        #expect(
            try Self.payloads(of: late) == [Self.aggregate([0x78], [newest, Self.pps]), call.encoder.keyframe]
        )
    }

    /// Viewers come and go, and want keyframes, while the other worker reads nothing.
    @Test func whatWaitsForAnotherWorkerIsBounded() throws {
        let simulation = try Simulation(seed: 1, workers: 2)
        let engine = simulation.engines[0]
        simulation.stalledWorkers = [1]
        for round in 0..<20_000 {
            for track in UInt64(1)...3 {
                let kind: RelayRecord.Head.Kind = round % 2 == 0 ? .attach : .detach
                for kind in [kind, .keyframeRequest, .ended] {
                    engine.relay(RelayRecord.Head(kind: kind, track: TrackID(rawValue: track)), to: 1)
                }
            }
        }
        #expect(engine.waitingRelays.count == 9)
        #expect(engine.waitingRelays.filter { $0.head.kind == .detach }.count == 3)
        simulation.stalledWorkers = []
        simulation.run(for: .milliseconds(10))
        #expect(engine.waitingRelays.isEmpty)
    }
}
