import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// Audio for viewers who lose packets.
@Suite struct RedundancyTests {
    private static let track = TrackID(rawValue: 1)
    private static let ssrc: UInt32 = 0x3333_3333

    /// A microphone, and a viewer that may take redundant audio data with payload type 63.
    private final class Call {
        let simulation: Simulation
        let publisher: SimulatedClient
        let viewer: SimulatedClient
        private var frame: UInt64 = 0

        init(feedback: FeedbackOptions = [], redundancy: UInt8? = 63, workers: Int = 1) throws {
            simulation = try Simulation(seed: 1, workers: workers)
            let microphone = PublishedTrack(
                track: RedundancyTests.track,
                parameters: MediaParameters(mid: "0", codec: .opus, payloadType: 96),
                announcedSources: [AnnouncedSource(ssrc: 7)]
            )
            publisher = try simulation.connect(1, published: [microphone])
            let subscribed = SubscribedTrack(
                track: RedundancyTests.track,
                home: WorkerIndex(rawValue: 0),
                parameters: MediaParameters(
                    mid: "a",
                    codec: .opus,
                    payloadType: 111,
                    redundancyPayloadType: redundancy,
                    feedback: feedback
                ),
                ssrc: RedundancyTests.ssrc,
                retransmissionSSRC: nil,
                cname: "c"
            )
            viewer = try simulation.connect(2, worker: workers - 1, subscribed: [subscribed])
        }

        /// Sends frames of 20 ms, all bytes of which are their number.
        func speak(_ count: Int, bytes: Int = 80, step: UInt64 = 1) {
            for _ in 0..<count {
                frame += step
                publisher.send(
                    sequence: frame,
                    timestamp: UInt32(frame) &* 960,
                    ssrc: 7,
                    payload: [UInt8](repeating: UInt8(truncatingIfNeeded: frame), count: bytes)
                )
                simulation.run(for: .milliseconds(20))
            }
        }

        func reportLoss(_ fraction: UInt8) {
            var report: [UInt8] = []
            let block = RTCPPacket.ReportBlock(
                ssrc: RedundancyTests.ssrc,
                fractionLost: fraction,
                packetsLost: 1,
                highestSequence: 0,
                jitter: 0,
                lastSenderReport: 0,
                delaySinceLastSenderReport: 0
            )
            RTCPWriter.receiverReport(sender: 9, blocks: [block][...], to: &report)
            viewer.send(control: report)
            simulation.run(for: .milliseconds(5))
        }
    }

    private static func payloadType(_ packet: [UInt8]) -> UInt8 { packet[1] & 0x7F }

    /// The frames of a packet by their timestamps, its own last (RFC 2198 §3).
    private static func frames(_ packet: [UInt8]) throws -> [(timestamp: UInt32, bytes: [UInt8])] {
        let header = try RTPHeader(parsing: packet.span.bytes)
        var payload = packet[header.payloadOffset...]
        guard header.payloadType == 63 else { return [(header.timestamp, Array(payload))] }
        var heads: [(offset: UInt32, length: Int)] = []
        while let first = payload.first, first & 0x80 != 0 {
            let word = payload.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
            #expect(word >> 24 & 0x7F == 111)
            heads.append((word >> 10 & 0x3FFF, Int(word & 0x3FF)))
            payload = payload.dropFirst(4)
        }
        #expect(payload.first == 111)
        payload = payload.dropFirst()
        var frames: [(timestamp: UInt32, bytes: [UInt8])] = []
        for head in heads {
            frames.append((header.timestamp &- head.offset, Array(payload.prefix(head.length))))
            payload = payload.dropFirst(head.length)
        }
        return frames + [(header.timestamp, Array(payload))]
    }

    @Test func nobodyPaysForLossesThatAreNotThere() throws {
        let call = try Call()
        call.speak(50)
        call.reportLoss(2)
        call.speak(50)
        #expect(call.viewer.received.count >= 99)
        #expect(call.viewer.received.allSatisfy { Self.payloadType($0) == 111 })
    }

    @Test(arguments: [1, 2])
    func eachPacketHasTheTwoFramesBeforeIt(workers: Int) throws {
        let call = try Call(workers: workers)
        call.speak(50)
        call.reportLoss(26)
        let before = call.viewer.received.count
        call.speak(50)
        let packets = call.viewer.received[before...]
        #expect(packets.count >= 49 && packets.allSatisfy { Self.payloadType($0) == 63 })
        let first = try Self.frames(call.viewer.received[0])[0]
        for packet in packets {
            let frames = try Self.frames(packet)
            #expect(frames.count == 3)
            for (place, frame) in frames.enumerated() {
                // Each has the bytes and the place of when it was first sent.
                #expect(frame.timestamp &- frames[2].timestamp == UInt32(2 - place) &* UInt32(bitPattern: -960))
                let number = first.bytes[0] &+ UInt8(truncatingIfNeeded: (frame.timestamp &- first.timestamp) / 960)
                #expect(frame.bytes == [UInt8](repeating: number, count: 80))
            }
        }
    }

    @Test func aTenthLostCostsFewFrames() throws {
        let call = try Call()
        call.speak(5)
        call.reportLoss(26)
        call.simulation.connect(call.viewer, up: Link(.init(), seed: 1), down: Link(.init(loss: .random(0.1)), seed: 2))
        let before = call.viewer.received.count
        call.speak(500)
        let packets = call.viewer.received[before...]
        #expect(packets.count > 400 && packets.count < 470)
        let frames = Set(try packets.flatMap { try Self.frames($0).map(\.timestamp) })
        #expect(frames.count > 495)
    }

    @Test func itEndsWithTheLosses() throws {
        let call = try Call()
        call.speak(5)
        call.reportLoss(26)
        call.speak(5)
        #expect(call.viewer.received.last.map(Self.payloadType) == 63)
        call.speak(Int(Limits().lossMemory.seconds * 50) + 5)
        #expect(call.viewer.received.last.map(Self.payloadType) == 111)
    }

    @Test func whatCannotBeCarriedIsLeftOut() throws {
        let call = try Call()
        call.speak(1)
        call.reportLoss(26)
        // Too long for a header; then too long for a datagram together.
        call.speak(5, bytes: 1100)
        #expect(call.viewer.received.last.map(Self.payloadType) == 111)
        call.speak(5, bytes: 500)
        let frames = try Self.frames(#require(call.viewer.received.last))
        #expect(frames.count == 2)
        // After a silence of 400 ms the frame before is too old for a header.
        call.speak(1, step: 20)
        #expect(call.viewer.received.last.map(Self.payloadType) == 111)
    }

    @Test func whoMayAskForPacketsToTheBitGetsNone() throws {
        let call = try Call(feedback: .nack)
        call.speak(5)
        call.reportLoss(26)
        call.speak(50)
        #expect(call.viewer.received.allSatisfy { Self.payloadType($0) == 111 })
    }

    @Test func whoDoesNotTakeItGetsNone() throws {
        let call = try Call(redundancy: nil)
        call.speak(5)
        call.reportLoss(26)
        call.speak(50)
        #expect(call.viewer.received.allSatisfy { Self.payloadType($0) == 111 })
    }
}
