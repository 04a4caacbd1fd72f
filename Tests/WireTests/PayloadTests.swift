import Testing
import Wire

/// Payload descriptors: where pictures begin, and which layer a packet belongs to.
@Suite struct PayloadTests {
    /// Which parameter sets a payload has, by their kind and id, and how long each is.
    @Test(
        arguments: [
            (.h264, "67 42e01f 8c 01", [0x0700, 6]), (.h264, "68 ce3c", [0x0800, 3]),
            // Ids 1 and 2, of ue(v).
            (.h264, "67 42e01f 4c 01", [0x0701, 6]), (.h264, "68 7e3c", [0x0802, 3]),
            (.h264, "78 0006 67 42e01f 8c01 0003 68ce3c 0002 6588", [0x0700, 6, 0x0800, 3]),
            (.h264, "78 0006 67 42e01f 8c01 0009 68ce3c", [0x0700, 6]), (.h264, "7c 87 42e01f", []),
            (.h264, "65 8800", []), (.h264, "67", []), (.h264, "67 42 e0 1f", []), (.h264, "68 0000 00", []),
            (.h265, "4001 0c01", [0x2000, 4]), (.h265, "4201 0102", [0x2100, 4]), (.h265, "4401 c103", [0x2200, 4]),
            (.h265, "6001 0004 40010c01 0004 42010102 0003 2601af", [0x2000, 4, 0x2100, 4]), (.h265, "4001", []),
            (.av1, "18 08001122", [0x0100, 4]), (.av1, "28 04 08001122 3010", [0x0100, 4]),
            (.av1, "08 02 1200 04 08001122 02 3010", [0x0100, 4]),
            // What began before, or goes on.
            (.av1, "98 08001122", []), (.av1, "58 08001122", []), (.av1, "28 09 08001122", []), (.av1, "18", []),
            (.vp8, "10 00 00", []), (.opus, "67 42e01f 8c 01", []),
        ] as [(Codec, String, [Int])]
    )
    func findsParameterSets(codec: Codec, payload: String, expected: [Int]) {
        let bytes = hex(payload)
        var reader = ParameterSetReader(codec: codec)
        var found: [Int] = []
        while let unit = reader.next(in: bytes.span.bytes) { found += [Int(unit.key), unit.length] }
        #expect(found == expected)
    }

    @Test(
        arguments: [
            (.h264, "65 88", true), (.h264, "7c 85 88", true), (.h264, "7c 05 88", false), (.h264, "61 88", false),
            (.h264, "78 0006 67 42e01f 8c01 0002 6588", false), (.h265, "2601 af", true), (.h265, "0201 af", false),
            (.av1, "10 30 10", true), (.av1, "10 32 05 10", true), (.av1, "10 34 00 10", true),
            (.av1, "10 30 30", false),
            // One that shows a frame of before, one that goes on, and behind a sequence header.
            (.av1, "10 30 90", false), (.av1, "90 30 10", false), (.av1, "28 04 08001122 3010", false),
            // A temporal delimiter before it.
            (.av1, "20 01 12 30 10", false), (.vp8, "10 00", false),
        ] as [(Codec, String, Bool)]
    )
    func tellsBareKeyframes(codec: Codec, payload: String, isBare: Bool) {
        #expect(ParameterSetReader.isBareKeyframe(hex(payload).span.bytes, codec: codec) == isBare)
    }

    @Test func vp8() throws {
        let key = "90 80 81 23 10 02 00 9d 01 2a"
        let descriptor = try #require(VP8Descriptor(key))
        #expect(descriptor.startsKeyframe && descriptor.pictureID == 0x123 && descriptor.hasLongPictureID)
        #expect(descriptor.length == 4)
        #expect(!Codec.vp8.startsKeyframe("10 01 00"), "an interframe")
        #expect(!Codec.vp8.startsKeyframe("00 00 00"), "not the partition's beginning")
        #expect(!Codec.vp8.startsKeyframe("11 00 00"), "another partition")
        let layered = try #require(VP8Descriptor("90 f0 05 07 b3 01"))
        #expect(layered.pictureID == 5 && !layered.hasLongPictureID && layered.temporalLevelZeroIndex == 7)
        #expect(layered.temporalLayer == 2 && layered.isLayerSync && layered.keyIndex == 0x13)
    }

    @Test func vp9() throws {
        // I, L, B and V; not P: a keyframe's first packet, 640x360 in its structure.
        let key = "aa 92 34 00 00 10 0280 0168 ff"
        let descriptor = try #require(VP9Descriptor(key))
        #expect(descriptor.startsKeyframe && descriptor.pictureID == 0x1234)
        #expect(descriptor.resolution?.width == 640 && descriptor.resolution?.height == 360)
        #expect(descriptor.spatialLayerCount == 1 && descriptor.length == 10)
        #expect(!Codec.vp9.startsKeyframe("ca 92 34 ff"), "predicted")
        // The second spatial layer of a key picture is no place to begin.
        #expect(!Codec.vp9.startsKeyframe("a8 92 34 03 00 ff"))
    }

    @Test func h264() {
        #expect(Codec.h264.startsKeyframe("67 42 e0 1f"), "a parameter set")
        #expect(Codec.h264.startsKeyframe("65 88"), "an IDR slice")
        #expect(Codec.h264.startsKeyframe("78 0002 6742 0002 68ce"), "STAP-A with parameter sets")
        #expect(Codec.h264.startsKeyframe("7c 85 88"), "FU-A that begins an IDR slice")
        #expect(!Codec.h264.startsKeyframe("7c 05 88"), "FU-A that continues one")
        #expect(!Codec.h264.startsKeyframe("61 88"), "a P slice")
        #expect(!Codec.h264.startsKeyframe("78 00ff 6742"), "a unit beyond the end")
    }

    @Test func h265() {
        #expect(Codec.h265.startsKeyframe("4001 0c01"), "a video parameter set")
        #expect(Codec.h265.startsKeyframe("2601 af"), "an IDR picture")
        #expect(Codec.h265.startsKeyframe("6001 0003 400101 0003 420101"), "aggregated")
        #expect(Codec.h265.startsKeyframe("6201 93 af"), "a fragment that begins one")
        #expect(!Codec.h265.startsKeyframe("6201 13 af"), "a fragment that continues one")
        #expect(!Codec.h265.startsKeyframe("0201 d0"), "a trailing picture")
    }

    @Test func av1() {
        #expect(Codec.av1.startsKeyframe("18 0a 0b"), "N is set")
        #expect(Codec.av1.startsKeyframe("10 08 00"), "a sequence header, W is 1")
        #expect(Codec.av1.startsKeyframe("20 02 0800 32"), "a sequence header behind its length")
        #expect(!Codec.av1.startsKeyframe("10 30 00"), "a frame")
        #expect(!Codec.av1.startsKeyframe("90 08 00"), "a continued element")
        #expect(!Codec.av1.startsKeyframe("00 ffffffffffffffffff"), "a length without an end")
    }

    @Test func dependencyDescriptor() throws {
        // Start and end of frame, template 0, frame 1, with a structure of two temporal layers.
        //         c0 0001 | flags 10000 | offset 000000 | targets 00001 | layers 01 11 | indications 10 10, 00 10
        let key = "c0 0001 80 01 7a 20"
        let descriptor = try #require(DependencyDescriptor(key))
        #expect(descriptor.startsKeyframe && descriptor.frameNumber == 1)
        let structure = try #require(descriptor.structure)
        #expect(structure.decodeTargetCount == 2)
        #expect(structure.templates.map(\.temporal) == [0, 1])
        #expect(structure.templates.map(\.isSwitchPoint) == [true, true])
        let next = try #require(DependencyDescriptor("c1 0002"))
        #expect(!next.startsKeyframe)
        #expect(next.template(known: structure)?.temporal == 1)
        #expect(DependencyDescriptor("c0 00") == nil)
        #expect(DependencyDescriptor("c0 0001 80") == nil)
        #expect(DependencyDescriptor("c0 0001 80 01 7a") == nil, "an indication is missing")
    }

    @Test(arguments: [
        // VP8: X; I with 15 or 7 bits, L, T; temporal layer 2, and with Y.
        LayerCase(
            .vp8,
            "90 e0 81 23 07 a0 01",
            [.startsFrame, .isSwitchPoint, .hasLongPictureID],
            spatial: 0,
            temporal: 2,
            pictureID: 2,
            index: 4
        ),
        LayerCase(.vp8, "80 e0 23 07 80 01", [], spatial: 0, temporal: 2, pictureID: 2, index: 3),
        LayerCase(.vp8, "10 00 00", [.startsFrame, .startsKeyframe, .isSwitchPoint], spatial: 0, temporal: 0),
        // VP9: I, P, L, B and E; temporal layer 1 with U, spatial layer 2 with D.
        LayerCase(
            .vp9,
            "ec 92 34 35 07 ff",
            [.startsFrame, .endsFrame, .isSwitchPoint, .hasLongPictureID],
            spatial: 2,
            temporal: 1,
            pictureID: 1,
            index: 4
        ),
        LayerCase(.vp9, "e0 05 24 07 ff", [], spatial: 2, temporal: 1, pictureID: 1, index: 3),
        // H.264: a slice that no other picture refers to, one that others do, an SEI, and both in a STAP-A.
        LayerCase(.h264, "01 88", [.startsFrame, .isSwitchPoint], spatial: 0, temporal: 1),
        LayerCase(.h264, "61 88", [.startsFrame, .isSwitchPoint], spatial: 0, temporal: 0),
        LayerCase(.h264, "06 05", [.isSwitchPoint], spatial: 0, temporal: 0),
        LayerCase(.h264, "18 0002 0605 0002 0188", [.startsFrame, .isSwitchPoint], spatial: 0, temporal: 1),
        LayerCase(.h264, "1c 01 88", [.isSwitchPoint], spatial: 0, temporal: 1),
        // H.265: a TSA picture of temporal layer 1, and one that is no switch point.
        LayerCase(.h265, "0402 d0", [.startsFrame, .isSwitchPoint], spatial: 0, temporal: 1),
        LayerCase(.h265, "0202 d0", [.startsFrame], spatial: 0, temporal: 1),
        // AV1: a frame with an extension, a continued one, and one without an extension that goes on.
        LayerCase(.av1, "10 34 28 10", [.startsFrame, .endsFrame, .isSwitchPoint], spatial: 1, temporal: 1),
        LayerCase(.av1, "d0 ff ff", [.isContinuation], spatial: 0, temporal: 0),
        LayerCase(.av1, "50 30 10", [.startsFrame, .isSwitchPoint], spatial: 0, temporal: 0),
    ])
    func layers(_ expected: LayerCase) {
        let layer = LayerInfo(expected.payload, expected.codec)
        #expect(layer.flags == expected.flags)
        #expect(layer.spatial == expected.spatial && layer.temporal == expected.temporal)
        #expect(layer.pictureIDOffset == expected.pictureID && layer.temporalLevelZeroIndexOffset == expected.index)
    }

    @Test func aMarkerEndsAFrame() {
        #expect(LayerInfo("61 88", .h264, marker: true).flags.contains(.endsFrame))
        #expect(!LayerInfo("61 88", .h264).flags.contains(.endsFrame))
        // VP9 says so itself.
        #expect(!LayerInfo("e0 05 24 07 ff", .vp9, marker: true).flags.contains(.endsFrame))
    }

    @Test func aDependencyDescriptorKnowsBetter() throws {
        let structure = try #require(DependencyDescriptor("c0 0001 80 01 7a 20")).structure
        var layer = LayerInfo("d0 ff ff", .av1)
        layer.take(try #require(DependencyDescriptor("41 0002")), known: structure)
        #expect(layer.temporal == 1 && layer.flags == [.endsFrame, .isSwitchPoint])
        let before = layer
        layer.take(try #require(DependencyDescriptor("45 0002")), known: structure)
        #expect(layer == before, "no such template")
    }

    @Test func opus() throws {
        let packet = try #require(OpusPacket("78"))
        #expect((packet.frameSamples, packet.frameCount, packet.isStereo) == (960, 1, false))
        #expect(OpusPacket("7f ff") == nil, "longer than 120 ms")
        #expect(Codec.opus.startsKeyframe("78"))
    }

    @Test(arguments: Codec.allCases.filter { $0 != .opus })
    func anEmptyPayloadStartsNothing(codec: Codec) {
        #expect(!codec.startsKeyframe(""))
    }
}

/// A payload and what is known by it.
struct LayerCase: Sendable {
    let codec: Codec
    let payload: String
    let flags: LayerInfo.Flags
    let spatial: UInt8
    let temporal: UInt8
    /// Where the picture ID and TL0PICIDX lie.
    let pictureID: UInt8
    let index: UInt8

    init(
        _ codec: Codec,
        _ payload: String,
        _ flags: LayerInfo.Flags,
        spatial: UInt8,
        temporal: UInt8,
        pictureID: UInt8 = 0,
        index: UInt8 = 0
    ) {
        self.codec = codec
        self.payload = payload
        self.flags = flags
        self.spatial = spatial
        self.temporal = temporal
        self.pictureID = pictureID
        self.index = index
    }
}
