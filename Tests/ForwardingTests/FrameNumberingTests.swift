import Simulation
import Testing
import Wire

@testable import Forwarding

/// The numbers of frames go on when another encoding is forwarded.
@Suite struct FrameNumberingTests {
    private static let numbering = FrameNumbering(
        from: FrameNumbers(pictureID: 100, temporalLevelZeroIndex: 7, frame: 9),
        continuing: FrameNumbers(pictureID: 0x7FFF, temporalLevelZeroIndex: 255, frame: 65_535)
    )

    private static func rewritten(_ payload: [UInt8], _ codec: Codec) -> [UInt8] {
        var payload = payload
        let layer = LayerInfo(parsing: payload.span.bytes, codec: codec, marker: false)
        payload.withUnsafeMutableBytes { numbering.apply(to: $0, layer: layer) }
        return payload
    }

    @Test func theFirstFrameFollowsTheLastOneAcrossAWrap() {
        let first = Self.numbering.applied(to: FrameNumbers(pictureID: 100, temporalLevelZeroIndex: 7, frame: 9))
        #expect(first == FrameNumbers(pictureID: 0, temporalLevelZeroIndex: 0, frame: 0))
    }

    /// A descriptor before and after; 100 becomes 0, and 7 becomes 0.
    @Test(arguments: [
        // VP8: X, then I with 15 or 7 bits, and L.
        (Codec.vp8, [0x90, 0xC0, 0x80, 101, 8, 1], [0x90, 0xC0, 0x80, 1, 1, 1]),
        (.vp8, [0x90, 0xC0, 101, 8, 1], [0x90, 0xC0, 1, 1, 1]),
        (.vp8, [0x90, 0x80, 0x80, 101, 8], [0x90, 0x80, 0x80, 1, 8]),
        (.vp8, [0x90, 0x40, 8, 1], [0x90, 0x40, 1, 1]),
        (.vp8, [0x10, 0xC0, 0x80, 101], [0x10, 0xC0, 0x80, 101]),
        // VP9: I, L; with F there is no TL0PICIDX.
        (.vp9, [0xA0, 0x80, 101, 0x20, 8, 1], [0xA0, 0x80, 1, 0x20, 1, 1]),
        (.vp9, [0xB0, 101, 0x20, 8, 1], [0xB0, 1, 0x20, 8, 1]),
        (.h264, [0x90, 0xC0, 0x80, 101, 8], [0x90, 0xC0, 0x80, 101, 8]),
    ])
    func descriptorsAreRewritten(codec: Codec, payload: [UInt8], expected: [UInt8]) {
        #expect(Self.rewritten(payload, codec) == expected)
    }

    /// Of a layer that is left out only the number is sent.
    @Test func aPayloadThatIsNotSentIsLeftAlone() {
        let descriptor: [UInt8] = [0x90, 0xC0, 0x80, 101, 8, 1]
        var bytes = descriptor
        let layer = LayerInfo(parsing: bytes.span.bytes, codec: .vp8, marker: false)
        bytes.withUnsafeMutableBytes {
            Self.numbering.apply(to: UnsafeMutableRawBufferPointer(rebasing: $0[..<0]), layer: layer)
        }
        #expect(bytes == descriptor)
    }

    @Test func whatEndsEarlyIsLeftAlone() {
        var random = Simulation.Random(state: 5)
        for _ in 0..<100_000 {
            let payload = (0..<Int(random.next() % 8)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            for codec in Codec.allCases { #expect(Self.rewritten(payload, codec).count == payload.count) }
        }
    }
}
