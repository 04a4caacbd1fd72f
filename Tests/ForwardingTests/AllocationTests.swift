import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// What viewers get of a camera with three encodings, or layers, over networks of all kinds.
@Suite struct AllocationTests {
    private static let tracks = [11, 12, 13].map { TrackID(rawValue: $0) }
    private static let audioTrack = TrackID(rawValue: 20)
    private static let rates = [150_000.0, 500_000, 1_700_000]

    private static func parameters(_ codec: Codec, mid: String, type: UInt8, sends: Bool) -> MediaParameters {
        MediaParameters(
            mid: mid,
            codec: codec,
            payloadType: type,
            retransmissionPayloadType: codec.kind == .video ? type + 1 : nil,
            headerExtensions: sends ? [] : [HeaderExtensionMapping(id: 5, meaning: .transportSequenceNumber)],
            feedback: codec.kind == .audio
                ? [.transportWideCongestionControl]
                : [.nack, .pictureLossIndication, .transportWideCongestionControl],
            allowsReducedSizeRTCP: true
        )
    }

    private static let published =
        tracks.indices.map { place in
            PublishedTrack(
                track: tracks[place],
                parameters: parameters(.vp8, mid: "0", type: 96, sends: true),
                announcedSources: [AnnouncedSource(ssrc: SimulatedCamera.ssrc(place))]
            )
        } + [
            PublishedTrack(
                track: audioTrack,
                parameters: parameters(.opus, mid: "1", type: 111, sends: true),
                announcedSources: [AnnouncedSource(ssrc: SimulatedCamera.audioSSRC)]
            )
        ]

    private static let subscribed = [
        SubscribedTrack(
            track: tracks[0],
            higherEncodings: Array(tracks[1...]),
            home: WorkerIndex(rawValue: 0),
            parameters: parameters(.vp8, mid: "v", type: 120, sends: false),
            ssrc: 0x2222_2222,
            retransmissionSSRC: 0x2222_2223,
            cname: "cname"
        ),
        SubscribedTrack(
            track: audioTrack,
            home: WorkerIndex(rawValue: 0),
            parameters: parameters(.opus, mid: "a", type: 111, sends: false),
            ssrc: 0x3333_3333,
            retransmissionSSRC: nil,
            cname: "cname"
        ),
    ]

    /// A camera and a viewer.
    private final class Call {
        let simulation: Simulation
        let publisher: SimulatedClient
        let viewer: SimulatedClient
        let down: Link
        private let camera: SimulatedCamera

        init(_ conditions: Link.Conditions, seed: UInt64 = 1) throws {
            simulation = try Simulation(seed: seed)
            publisher = try simulation.connect(1, published: AllocationTests.published)
            camera = SimulatedCamera(publisher, rates: AllocationTests.rates)
            down = Link(conditions, seed: seed)
            viewer = try simulation.connect(2, subscribed: AllocationTests.subscribed, settles: false)
            viewer.transportSequenceExtension = 5
            simulation.connect(viewer, up: Link(.init(delay: conditions.delay), seed: seed + 1), down: down)
        }

        func run(for duration: Duration) { simulation.run(for: duration) { camera.tick() } }

        /// What came since some packet.
        func seen(since first: Int, from begin: Instant) -> Seen {
            var seen = Seen()
            var audio: [UInt16] = []
            for index in first..<viewer.received.count {
                let packet = viewer.received[index]
                guard let header = try? RTPHeader(parsing: packet.span.bytes) else { continue }
                if header.ssrc == 0x3333_3333 { audio.append(header.sequenceNumber) }
                guard header.ssrc == 0x2222_2222, packet.count > header.payloadOffset + SimulatedCamera.encodingOffset
                else { continue }
                let encoding = Int(packet[header.payloadOffset + SimulatedCamera.encodingOffset])
                if encoding != seen.encodings.last?.encoding {
                    seen.encodings.append((encoding, (viewer.arrivals[index] - begin).seconds))
                }
            }
            if let last = audio.last { seen.audioLost = Int(last &- audio[0]) + 1 - audio.count }
            return seen
        }
    }

    private struct Seen {
        /// The encodings in turn, each with the time of its first packet in seconds.
        var encodings: [(encoding: Int, at: Double)] = []
        var audioLost = 0

        var settled: Double { encodings.last?.at ?? 0 }
        var last: Int? { encodings.last?.encoding }
    }

    @Test func aNetworkThatGetsNarrowAndWide() throws {
        let call = try Call(.init(bitsPerSecond: 4_000_000, queue: .milliseconds(200), delay: .milliseconds(10)))
        func at(_ rate: Int) -> Seen {
            call.down.change(now: call.simulation.now) { $0.bitsPerSecond = rate }
            let begin = call.simulation.now
            let first = call.viewer.received.count
            call.run(for: .seconds(12))
            return call.seen(since: first, from: begin)
        }
        let wide = at(4_000_000)
        #expect(wide.last == 2 && wide.settled < 1 && wide.audioLost == 0)
        let narrow = at(400_000)
        #expect(narrow.last == 0 && narrow.settled < 1 && narrow.audioLost < 12)
        let wider = at(1_200_000)
        #expect(wider.last == 1 && wider.settled < 5 && wider.audioLost == 0)
        let again = at(4_000_000)
        #expect(again.last == 2 && again.settled < 5 && again.audioLost == 0)
    }

    @Test func theBestEncodingStaysWhereItFits() throws {
        let call = try Call(.init(bitsPerSecond: 2_600_000, queue: .milliseconds(200), delay: .milliseconds(25)))
        call.run(for: .seconds(10))
        let first = call.viewer.received.count
        call.run(for: .seconds(120))
        let seen = call.seen(since: first, from: call.simulation.now)
        #expect(seen.encodings.map(\.encoding) == [2] && seen.audioLost == 0)
    }

    @Test func lossesWithoutAQueueCostNoEncoding() throws {
        let call = try Call(.init(delay: .milliseconds(50), jitter: .milliseconds(20), loss: .random(0.1)))
        call.run(for: .seconds(15))
        let first = call.viewer.received.count
        call.run(for: .seconds(30))
        #expect(call.seen(since: first, from: call.simulation.now).encodings.map(\.encoding) == [2])
    }

    /// A keyframe is longer than the queue, and comes through all the same.
    @Test func aLargeFrameDoesNotFillAShortQueue() throws {
        let call = try Call(.init(bitsPerSecond: 900_000, queue: .milliseconds(80), delay: .milliseconds(20)))
        call.run(for: .seconds(10))
        let first = call.viewer.received.count
        var pictures: [UInt32: Int] = [:]
        for _ in 0..<5 {
            var request: [UInt8] = []
            RTCPWriter.pictureLossIndication(sender: 9, media: 0x2222_2222, to: &request)
            call.viewer.send(control: request)
            call.run(for: .seconds(4))
        }
        for header in call.viewer.headers()[first...] where header.ssrc == 0x2222_2222 {
            pictures[header.timestamp, default: 0] += 1
        }
        // A keyframe of 12,500 bytes are twelve packets, others three.
        #expect(pictures.values.count { $0 >= 11 } >= 4)
    }

    @Test(arguments: [0.1, 0])
    func whatIsSentAgainMayBeLostToo(loss: Double) throws {
        let call = try Call(.init(delay: .milliseconds(50), loss: .random(loss)))
        call.run(for: .seconds(5))
        let wanted = try #require(call.viewer.headers().last { $0.ssrc == 0x2222_2222 }).sequenceNumber
        call.down.change(now: call.simulation.now) { $0.loss = .none }
        let before = call.viewer.received.count
        var nack: [UInt8] = []
        RTCPWriter.nack(sender: 9, media: 0x2222_2222, lost: [wanted], to: &nack)
        call.viewer.send(control: nack)
        call.run(for: .milliseconds(200))
        let again = call.viewer.received[before...].filter { bytes in
            guard let header = try? RTPHeader(parsing: bytes.span.bytes), header.ssrc == 0x2222_2223,
                bytes.count > header.payloadOffset + 2, bytes[0] & 0x20 == 0
            else { return false }
            return UInt16(bytes[header.payloadOffset]) << 8 | UInt16(bytes[header.payloadOffset + 1]) == wanted
        }
        #expect(again.count == (loss > 0 ? 2 : 1))
    }

    /// The viewer's numbers stay without gap or repeat, however often the encoding changes, and what the server thinks is told.
    @Test func theStatisticsTellWhy() throws {
        let call = try Call(.init(bitsPerSecond: 400_000, queue: .milliseconds(200), delay: .milliseconds(10)))
        call.run(for: .seconds(8))
        let peer = try #require(call.simulation.snapshot().peers.first { $0.peer == PeerID(rawValue: 2) })
        #expect(peer.subscriptions.map(\.why) == [.network, .publisher])
        let bandwidth = try #require(peer.bandwidth)
        #expect(bandwidth.estimate > 250_000 && bandwidth.estimate < 480_000)
        #expect(bandwidth.allocated < bandwidth.estimate && bandwidth.wanted > 1_700_000)
    }
}
