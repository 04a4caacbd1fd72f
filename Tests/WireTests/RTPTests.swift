import Testing
import Wire

@Suite struct RTPTests {
    @Test func readsAHeaderWithSourcesAndAnExtension() throws {
        let packet = hex("92e0 1234 01020304 05060708 aaaaaaaa bbbbbbbb bede0002 10ff 3102 aabb 0000 cafe")
        let header = try RTPHeader(packet)
        #expect(header.marker)
        #expect(header.payloadType == 96)
        #expect(header.sequenceNumber == 0x1234)
        #expect(header.timestamp == 0x0102_0304)
        #expect(header.ssrc == 0x0506_0708)
        #expect(header.csrcCount == 2)
        #expect(header.payloadOffset == 32)
        let elements = header.elements(packet)
        #expect(elements.map(\.id) == [1, 3])
        #expect(elements.map(\.offset) == [25, 27])
        #expect(elements.map(\.length) == [1, 2])
    }

    @Test func readsTwoByteElements() throws {
        let packet = hex("9060 0001 00000000 00000001 10000002 1000 20 03 010203 00")
        let header = try RTPHeader(packet)
        let elements = header.elements(packet)
        #expect(elements.map(\.id) == [16, 32])
        #expect(elements.map(\.length) == [0, 3])
    }

    /// RFC 8285 §4.2: of the one-byte form, identifier 0 with a length ends the extension, as identifier 15 does. Padding is one byte in
    /// both forms, and of the two-byte form every other identifier is an element's.
    @Test(
        arguments: [
            ("bede0002 10 aa 02 bb cc dd 20 ee", [1]),
            ("bede0002 02 bb cc dd 10 aa 20 ee", []),
            ("bede0002 10 aa f0 bb 20 cc 00 00", [1]),
            ("bede0002 00 10 aa 00 00 20 cc 00", [1, 2]),
            ("10000002 00 01 01 aa 00 0f 01 bb", [1, 15]),
            ("10000002 10 00 00 03 01 aa 00 00", [16, 3]),
        ] as [(String, [UInt8])]
    )
    func identifierZeroEndsTheOneByteForm(elements: String, identifiers: [UInt8]) throws {
        let packet = hex("9060 0001 00000000 00000001 \(elements)")
        #expect(try RTPHeader(packet).elements(packet).map(\.id) == identifiers)
    }

    @Test func anElementBeyondTheExtensionEndsIt() throws {
        let packet = hex("9060 0001 00000000 00000001 bede0001 1f 01 02 03")
        #expect(try RTPHeader(packet).elements(packet).isEmpty)
    }

    @Test func refusesTruncatedHeaders() {
        let packet = hex("92e0 1234 01020304 05060708 aaaaaaaa bbbbbbbb bede0002 10ff 3102 aabb 0000")
        for length in 0..<packet.count {
            let part = Array(packet.prefix(length))
            #expect(throws: RTPError.self) { try RTPHeader(part) }
        }
    }

    @Test func checksPadding() throws {
        let good = hex("a060 0001 00000000 00000001 cafe 0002")
        #expect(try RTPHeader(good).paddingLength(good) == 2)
        for bad in ["a060 0001 00000000 00000001 cafe 0000", "a060 0001 00000000 00000001 cafe 0005"] {
            let bytes = hex(bad)
            let header = try RTPHeader(bytes)
            #expect(throws: RTPError.self) { try header.paddingLength(bytes) }
        }
    }

    /// Wrapping in both directions, from every place where a 16-bit comparison can go wrong.
    @Test(
        arguments: [
            0, 1, 127, 128, 129, 511, 512, 513, 32767, 32768, 32769, 65407, 65408, 65409, 65534, 65535,
        ] as [UInt16]
    )
    func unwrapsAroundAnyStart(start: UInt16) {
        var unwrapper = SequenceNumberUnwrapper()
        let first = unwrapper.unwrap(start)
        #expect(first > 0)
        for step in [1, 127, 512, 32767] as [UInt16] {
            var forward = unwrapper
            #expect(forward.unwrap(start &+ step) == first + UInt64(step))
            #expect(forward.unwrap(start) == first)
        }
        var long = unwrapper
        var expected = first
        for _ in 0..<20 {
            expected += 10_000
            #expect(long.unwrap(UInt16(truncatingIfNeeded: expected)) == expected)
        }
        #expect(long.unwrap(UInt16(truncatingIfNeeded: expected - 300)) == expected - 300)
    }
}
