package import Commands
import Transport
import Wire

/// A camera and a microphone: VP8 in one or several encodings, each with pictures' numbers and a byte that says which one it is, and Opus.
package final class SimulatedCamera {
    package static let audioSSRC: UInt32 = 0x9000
    package static let videoPayloadType: UInt8 = 96
    package static let audioPayloadType: UInt8 = 111
    /// Where in a VP8 payload the number of its encoding stands.
    package static let encodingOffset = 6
    /// A keyframe is so many times as large as another frame.
    private static let keyframeFactor = 4
    private static let payloadBytes = 1100
    private static let audioFrameBytes = 80

    package let publisher: SimulatedClient
    /// Of each encoding, in bits per second, the lowest first.
    package let rates: [Double]
    package let frameRate: UInt64
    private var frames: UInt64 = 0
    private var milliseconds: UInt64 = 0
    private var answered: [Int]
    private var sequences: [UInt64]
    private var audioSequence: UInt64 = 100

    package init(_ publisher: SimulatedClient, rates: [Double], frameRate: UInt64 = 20) {
        self.publisher = publisher
        self.rates = rates
        self.frameRate = frameRate
        answered = rates.map { _ in 0 }
        sequences = rates.indices.map { 1_000 + 20_000 * UInt64($0) }
    }

    package static func ssrc(_ encoding: Int) -> UInt32 { 0x1000 * UInt32(encoding + 1) }

    private func requests(_ encoding: Int) -> Int {
        publisher.controlPackets { packet, _ in
            if case .pictureLossIndication(_, Self.ssrc(encoding)) = packet { true } else { nil }
        }.count
    }

    /// Another millisecond has gone by.
    package func tick() {
        milliseconds += 1
        if milliseconds % 20 == 0 {
            audioSequence += 1
            publisher.send(
                sequence: audioSequence,
                timestamp: UInt32(truncatingIfNeeded: audioSequence &* 960),
                ssrc: Self.audioSSRC,
                payloadType: Self.audioPayloadType,
                payload: [UInt8](repeating: 9, count: Self.audioFrameBytes)
            )
        }
        if milliseconds % (1000 / frameRate) == 0 {
            for encoding in rates.indices { sendFrame(encoding) }
            frames += 1
        }
    }

    private func sendFrame(_ encoding: Int) {
        let asked = requests(encoding)
        let isKeyframe = frames == 0 || asked > answered[encoding]
        answered[encoding] = asked
        var left = Int(rates[encoding] / 8 / Double(frameRate)) * (isKeyframe ? Self.keyframeFactor : 1)
        let picture = UInt16(100 + 1_000 * encoding) + UInt16(truncatingIfNeeded: frames)
        var isFirst = true
        while left > 0 {
            // X and S; I and L; the picture's number in 15 bits; TL0PICIDX; P.
            var payload: [UInt8] = [
                isFirst ? 0x90 : 0x80, 0xC0, 0x80 | UInt8(picture >> 8 & 0x7F), UInt8(truncatingIfNeeded: picture),
            ]
            payload += [UInt8(truncatingIfNeeded: picture), isKeyframe || !isFirst ? 0 : 1, UInt8(encoding)]
            payload += [UInt8](repeating: 7, count: min(left, Self.payloadBytes))
            left -= Self.payloadBytes
            isFirst = false
            publisher.send(
                sequence: sequences[encoding],
                timestamp: UInt32(truncatingIfNeeded: frames) &* UInt32(90_000 / frameRate) &+ Self.ssrc(encoding),
                ssrc: Self.ssrc(encoding),
                payloadType: Self.videoPayloadType,
                marker: left <= 0,
                payload: payload
            )
            sequences[encoding] += 1
        }
    }

    // MARK: Its tracks

    /// The identifier that viewers have for transport-wide sequence numbers.
    package static let transportSequenceExtension: UInt8 = 5
    package static let viewerVideoSSRC: UInt32 = 0x2222_2222
    package static let viewerAudioSSRC: UInt32 = 0x3333_3333
    private static let audioTrack = TrackID(rawValue: 20)

    private static func track(_ encoding: Int) -> TrackID { TrackID(rawValue: UInt64(11 + encoding)) }

    private static func parameters(_ codec: Codec, type: UInt8, sends: Bool) -> MediaParameters {
        MediaParameters(
            mid: codec.kind.rawValue,
            codec: codec,
            payloadType: type,
            retransmissionPayloadType: codec.kind == .video ? type + 1 : nil,
            redundancyPayloadType: codec == .opus && !sends ? 63 : nil,
            headerExtensions: sends
                ? [] : [HeaderExtensionMapping(id: transportSequenceExtension, meaning: .transportSequenceNumber)],
            feedback: codec.kind == .audio
                ? [.transportWideCongestionControl]
                : [.nack, .pictureLossIndication, .transportWideCongestionControl],
            allowsReducedSizeRTCP: true
        )
    }

    /// What its publisher sends.
    package static func published(encodings: Int) -> [PublishedTrack] {
        (0..<encodings).map {
            PublishedTrack(
                track: track($0),
                parameters: parameters(.vp8, type: videoPayloadType, sends: true),
                announcedSources: [AnnouncedSource(ssrc: ssrc($0))]
            )
        } + [
            PublishedTrack(
                track: audioTrack,
                parameters: parameters(.opus, type: audioPayloadType, sends: true),
                announcedSources: [AnnouncedSource(ssrc: audioSSRC)]
            )
        ]
    }

    /// What a viewer is sent of it, with transport-wide feedback.
    package static func subscribed(encodings: Int) -> [SubscribedTrack] {
        [
            SubscribedTrack(
                track: track(0),
                higherEncodings: (1..<encodings).map(track),
                home: WorkerIndex(rawValue: 0),
                parameters: parameters(.vp8, type: 120, sends: false),
                ssrc: viewerVideoSSRC,
                retransmissionSSRC: viewerVideoSSRC + 1,
                cname: "c"
            ),
            SubscribedTrack(
                track: audioTrack,
                home: WorkerIndex(rawValue: 0),
                parameters: parameters(.opus, type: 111, sends: false),
                ssrc: viewerAudioSSRC,
                retransmissionSSRC: nil,
                cname: "c"
            ),
        ]
    }
}
