import Testing
import Wire

@testable import Control

/// The PROXY protocol's header (HAProxy's proxy-protocol.txt).
@Suite struct ProxyHeaderTests {
    private static let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10]

    private static func binary(_ first: UInt8, _ family: UInt8, _ body: [UInt8]) -> [UInt8] {
        signature + [first, family, UInt8(body.count >> 8), UInt8(body.count & 255)] + body
    }

    private static let good: [(bytes: [UInt8], client: String?)] = [
        (Array("PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n".utf8), "203.0.113.7"),
        (Array("PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".utf8), "2001:db8::7"),
        (Array("PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 80\r\n".utf8), "203.0.113.7"),
        (Array("PROXY UNKNOWN\r\n".utf8), nil), (Array("PROXY UNKNOWN whatever follows\r\n".utf8), nil),
        (binary(0x21, 0x11, [203, 0, 113, 7, 127, 0, 0, 1, 1, 2, 3, 4]), "203.0.113.7"),
        (binary(0x21, 0x11, [203, 0, 113, 7, 127, 0, 0, 1, 1, 2, 3, 4, 4, 0, 1, 9]), "203.0.113.7"),
        (
            binary(
                0x21,
                0x21,
                [0x20, 1, 0xD, 0xB8] + [UInt8](repeating: 0, count: 11) + [7] + [UInt8](repeating: 0, count: 20)
            ),
            "2001:db8::7"
        ),
        (binary(0x20, 0x00, []), nil), (binary(0x20, 0x11, [UInt8](repeating: 1, count: 12)), nil),
        (binary(0x21, 0x00, []), nil), (binary(0x21, 0x31, [UInt8](repeating: 1, count: 216)), nil),
    ]

    @Test func goodOnesAreReadAndEndWhereTheyEnd() {
        for (bytes, client) in Self.good {
            #expect(
                ProxyHeader.parse(bytes + [1, 2, 3])
                    == .header(client: client.flatMap { IPAddress($0) }, length: bytes.count)
            )
        }
    }

    @Test func eachOfTheirBeginningsWaitsForMore() {
        for (bytes, _) in Self.good {
            for length in 0..<bytes.count { #expect(ProxyHeader.parse(bytes[..<length]) == .incomplete) }
        }
    }

    @Test func whatIsSomethingElseIsLeftAlone() {
        for text in ["GET / HTTP/1.1\r\n", "PROXIMITY", "PROXY\t", "\u{16}\u{3}\u{1}", "POST /", "\r\n\r\nGET"] {
            #expect(ProxyHeader.parse(Array(text.utf8)) == .none)
        }
    }

    @Test func badOnesAreRefused() {
        let texts = [
            "PROXY TCP4 203.0.113.7 127.0.0.1 4711\r\n", "PROXY TCP4 203.0.113.7 127.0.0.1 4711 80 1\r\n",
            "PROXY TCP4 2001:db8::7 ::1 4711 80\r\n", "PROXY TCP6 203.0.113.7 127.0.0.1 4711 80\r\n",
            "PROXY TCP4 203.0.113.7 ::1 4711 80\r\n", "PROXY TCP4 203.0.113.7 127.0.0.1 65536 80\r\n",
            "PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\n", "PROXY UDP4 203.0.113.7 127.0.0.1 4711 80\r\n",
            "PROXY  TCP4 203.0.113.7 127.0.0.1 4711 80\r\n", "PROXY \r\n", "PROXY \n",
            "PROXY " + String(repeating: "x", count: 101), "PROXY " + String(repeating: "x", count: 101) + "\r\n",
        ]
        for text in texts { #expect(ProxyHeader.parse(Array(text.utf8)) == .malformed, "\(text)") }
        for bytes in [
            Self.binary(0x11, 0x11, [UInt8](repeating: 0, count: 12)),
            Self.binary(0x31, 0x11, [UInt8](repeating: 0, count: 12)),
            Self.binary(0x22, 0x11, [UInt8](repeating: 0, count: 12)), Self.binary(0x21, 0x11, [1, 2, 3, 4]),
            Self.binary(0x21, 0x21, [UInt8](repeating: 0, count: 12)), Self.binary(0x21, 0x41, []),
            Self.signature + [0x21, 0x11, 0xFF, 0xFF],
        ] {
            #expect(ProxyHeader.parse(bytes) == .malformed)
        }
    }
}
