import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// One encoding that a viewer's network does not carry, and no feedback but receiver reports.
@Suite struct RationTests {
    private static let video = TrackID(rawValue: 1)
    private static let audio = TrackID(rawValue: 2)
    private static let videoSSRC: UInt32 = 0x2222_2222
    private static let audioSSRC: UInt32 = 0x3333_3333

    /// A camera of 1.5 Mbit/s and a microphone, and a viewer that reports once a second.
    private final class Call {
        let simulation: Simulation
        let camera: SimulatedCamera
        let viewer: SimulatedClient
        let down: Link
        let decoder = SimulatedDecoder(
            ssrc: RationTests.videoSSRC,
            retransmissionSSRC: RationTests.videoSSRC + 1
        )
        private var step = 0
        private var seen = 0
        private var highest: [UInt32: UInt16] = [:]
        private(set) var audioLost = 0
        private(set) var audioReceived = 0

        init(_ conditions: Link.Conditions) throws {
            simulation = try Simulation(seed: 1)
            func parameters(_ codec: Codec, _ type: UInt8) -> MediaParameters {
                MediaParameters(
                    mid: codec.rawValue,
                    codec: codec,
                    payloadType: type,
                    retransmissionPayloadType: codec.kind == .video ? type + 1 : nil,
                    feedback: codec.kind == .video ? [.nack, .pictureLossIndication] : []
                )
            }
            let published = [
                PublishedTrack(
                    track: RationTests.video,
                    parameters: parameters(.vp8, SimulatedCamera.videoPayloadType),
                    announcedSources: [AnnouncedSource(ssrc: SimulatedCamera.ssrc(0))]
                ),
                PublishedTrack(
                    track: RationTests.audio,
                    parameters: parameters(.opus, SimulatedCamera.audioPayloadType),
                    announcedSources: [AnnouncedSource(ssrc: SimulatedCamera.audioSSRC)]
                ),
            ]
            camera = SimulatedCamera(try simulation.connect(1, published: published), rates: [1_500_000])
            let home = WorkerIndex(rawValue: 0)
            viewer = try simulation.connect(
                2,
                subscribed: [
                    SubscribedTrack(
                        track: RationTests.video,
                        home: home,
                        parameters: parameters(.vp8, 120),
                        ssrc: RationTests.videoSSRC,
                        retransmissionSSRC: RationTests.videoSSRC + 1,
                        cname: "c"
                    ),
                    SubscribedTrack(
                        track: RationTests.audio,
                        home: home,
                        parameters: parameters(.opus, 111),
                        ssrc: RationTests.audioSSRC,
                        retransmissionSSRC: nil,
                        cname: "c"
                    ),
                ]
            )
            down = Link(conditions, seed: 1)
            simulation.connect(viewer, up: Link(.init(delay: conditions.delay), seed: 2), down: down)
        }

        func run(for duration: Duration) {
            simulation.run(for: duration) {
                camera.tick()
                decoder.advance(viewer, now: simulation.now)
                step += 1
                if step % 1000 == 0 { report() }
            }
        }

        /// Tells what was lost of each source since the last report (RFC 3550 A.3).
        private func report() {
            for source in [RationTests.videoSSRC, RationTests.audioSSRC] {
                let numbers = viewer.received[seen...].compactMap { bytes -> UInt16? in
                    guard let header = try? RTPHeader(parsing: bytes.span.bytes), header.ssrc == source else {
                        return nil
                    }
                    return header.sequenceNumber
                }
                guard let last = numbers.max(by: { Int16(bitPattern: $1 &- $0) > 0 }) else { continue }
                let expected = Int(last &- (highest[source] ?? numbers[0] &- 1))
                highest[source] = last
                let lost = max(0, expected - numbers.count)
                if source == RationTests.audioSSRC {
                    audioLost += lost
                    audioReceived += numbers.count
                }
                viewer.report(on: source, fractionLost: UInt8(min(255, lost * 256 / max(1, expected))))
            }
            seen = viewer.received.count
        }

        func forgetAudio() {
            audioLost = 0
            audioReceived = 0
        }
    }

    @Test func wholeRunsOfFramesAndAllAudioComeThrough() throws {
        let call = try Call(.init(bitsPerSecond: 600_000, queue: .milliseconds(200), delay: .milliseconds(10)))
        call.run(for: .seconds(8))
        call.forgetAudio()
        let before = call.decoder.decoded.count
        let begin = call.simulation.now
        call.run(for: .seconds(20))
        // More than browsers lose: nobody tells round trips here, so only losses show what is too much. All of it was 60 % before.
        #expect(call.audioReceived > 900 && call.audioLost * 15 < call.audioReceived)
        let frames = call.decoder.decoded[before...].map { ($0.at - begin).seconds }
        #expect(frames.count >= 10)
        let waits = zip(frames.dropFirst(), frames).map { $0 - $1 }
        #expect(waits.max() ?? 99 < 5)
        let viewers = call.simulation.snapshot().peers.flatMap(\.subscriptions)
        #expect(viewers.contains { $0.why == .network })
        // On time: nothing waits for long.
        #expect(call.down.queueingDelay < .milliseconds(210))
    }

    @Test func thePictureIsWholeAgainWhenThereIsRoom() throws {
        let call = try Call(.init(bitsPerSecond: 600_000, queue: .milliseconds(200), delay: .milliseconds(10)))
        call.run(for: .seconds(10))
        call.down.change(now: call.simulation.now) { $0.bitsPerSecond = 4_000_000 }
        call.run(for: .seconds(80))
        let before = call.decoder.decoded.count
        call.run(for: .seconds(5))
        #expect(call.decoder.decoded.count - before >= 98)
    }

    /// What the path loses anyhow is no reason to send less.
    @Test func lossesOfThePathCostNothing() throws {
        let call = try Call(.init(delay: .milliseconds(20), loss: .random(0.15)))
        call.run(for: .seconds(20))
        #expect(!call.simulation.snapshot().peers.flatMap(\.subscriptions).contains { $0.why == .network })
        #expect(call.decoder.decoded.count > 350)
    }
}
