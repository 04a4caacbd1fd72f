import Commands
import Glibc
import Testing
import Wire

@testable import Negotiation

/// What it takes to look at a description grows with its length and with nothing else, whatever it is made of. How long it takes is
/// measured by `Benchmarks/Signalling`.
@Suite(.serialized) struct CostTests {
    private static let head =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
        + "a=fingerprint:\(AnsweringTests.fingerprint.text)\r\na=setup:actpass\r\n"

    private static func video(_ mid: Int, _ formats: String = "96") -> String {
        "m=video 9 UDP/TLS/RTP/SAVPF \(formats)\r\na=mid:\(mid)\r\na=rtcp-mux\r\na=sendrecv\r\na=rtpmap:96 VP8/90000\r\n"
    }

    private static func group(_ count: Int) -> String {
        "a=group:BUNDLE \((0..<count).map(String.init).joined(separator: " "))\r\n"
    }

    /// Pieces until there are so many bytes, and as many m-lines as there is one for each 512.
    private static func session(_ size: Int, _ piece: (Int) -> String) -> String {
        let count = size / 512
        let tail = group(count) + (0..<count).map { video($0) }.joined()
        var text = head
        var number = 0
        while text.utf8.count < size {
            text += piece(number)
            number += 1
        }
        return text + tail
    }

    private static func lines(_ size: Int, formats: String = "96", _ piece: (Int) -> String) -> String {
        var text = head + group(8)
        for line in 0..<8 {
            text += video(line, formats)
            let end = text.utf8.count + size / 8
            var number = 0
            while text.utf8.count < end {
                text += piece(number)
                number += 1
            }
        }
        return text
    }

    private struct Shape: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let make: @Sendable (Int) -> String
    }

    private static let shapes: [Shape] = [
        Shape(testDescription: "session-level extmaps") { session($0) { "a=extmap:\($0 % 14 + 1) u\r\n" } },
        Shape(testDescription: "session-level lines") { session($0) { _ in "a=x\n" } },
        Shape(testDescription: "session-level directions") { session($0) { _ in "a=sendonly\r\n" } },
        Shape(testDescription: "a group of many") { size in
            session(size) {
                $0 == 0 ? "a=group:BUNDLE 0\((0..<size / 8).map { " \($0 + 1_000_000)" }.joined())\r\n" : "a=x\r\n"
            }
        },
        Shape(testDescription: "one format again and again") { size in
            lines(size, formats: Array(repeating: "96", count: 128).joined(separator: " ")) { number in
                number == 0 ? "a=fmtp:96 \(String(repeating: "a;", count: 900))\r\n" : "a=rtpmap:96 rtx/90000\r\n"
            }
        },
        Shape(testDescription: "formats with all there is of them") { size in
            lines(size, formats: (0..<128).map(String.init).joined(separator: " ")) {
                "a=rtpmap:\($0 % 128) H264/90000\r\na=rtcp-fb:\($0 % 128) nack pli\r\na=fmtp:\($0 % 128) apt=\($0 % 128)\r\n"
            }
        },
        Shape(testDescription: "SSRCs and groups") {
            lines($0) { "a=ssrc:\($0) c:x\r\na=ssrc-group:FID \($0) \($0 + 1)\r\n" }
        },
        Shape(testDescription: "RIDs") { lines($0) { "a=rid:\($0) send\r\na=simulcast:send \($0);a\r\n" } },
        Shape(testDescription: "long lists of RIDs") { size in
            lines(size) { _ in "a=simulcast:send a\(String(repeating: ";a,b", count: size / 64))\r\n" }
        },
        Shape(testDescription: "one character of many bytes") { size in
            session(size) { $0 == 0 ? "a=e\(String(repeating: "\u{301}", count: size / 2))\r\n" : "a=x\r\n" }
        },
        Shape(testDescription: "values of one character of many bytes") { size in
            lines(size) { _ in "a=rtpmap:96 e\(String(repeating: "\u{301}", count: size / 32))/90000\r\n" }
        },
        Shape(testDescription: "candidates") { lines($0) { "a=candidate:\($0) 1 udp 1 192.0.2.1 9 typ host\r\n" } },
        Shape(testDescription: "fingerprints") { session($0) { _ in "a=fingerprint:sha-256 AB:CD\r\n" } },
    ]

    /// Without the bounds that it has: four times the length takes four times as long, where the square would take sixteen times.
    @Test(arguments: shapes)
    private func growsWithTheLength(shape: Shape) throws {
        var limits = Limits()
        limits.bodyBytes = .max
        limits.mediaSections = .max
        limits.descriptionLines = .max
        limits.descriptionAttributes = .max
        let short = time(Array(shape.make(16 * 1024).utf8), limits)
        let long = time(Array(shape.make(64 * 1024).utf8), limits)
        #expect(long < short * 9, "\(Double(long) / Double(short)) times as long")
    }

    /// The least of some: what else the machine does is no part of it.
    private func time(_ text: [UInt8], _ limits: Limits) -> UInt64 {
        (0..<5).map { _ in
            let before = threadTime()
            if let offer = try? Offer(parsing: text, limits: limits) {
                _ = try? offer.answerPublisher(local: AnsweringTests.local, allowsSilence: true)
                _ = try? offer.answerViewer(
                    tracks: [AnsweringTests.track(1, .h264, String(repeating: "a=b;", count: 500))],
                    streamLabel: "l",
                    cname: "c",
                    local: AnsweringTests.local,
                    ssrcs: SSRCSequence(first: 1, stride: 1)
                )
            }
            return threadTime() - before
        }.min() ?? 0
    }

    private func threadTime() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Longer descriptions than anybody writes are refused, and the reason says what there may be.
    @Test(arguments: [
        (String(repeating: "a=x\r\n", count: 1025), "1024 attributes"),
        (video(0) + String(repeating: "a=x\r\n", count: 1025), "1024 attributes"),
        (String(repeating: "\r\n", count: 10_001), "10000 lines"),
        (String(repeating: "b=x\r\n", count: 10_001), "10000 lines"),
    ])
    func tellsHowMuchThereMayBe(text: String, reason: String) {
        do throws(NegotiationError) {
            _ = try Offer(parsing: Array((Self.head + text).utf8), limits: Limits())
            Issue.record("it was read")
        } catch {
            #expect(error.kind == .malformed && error.reason.contains(reason), "\(error.reason)")
        }
    }
}
