// The most expensive messages of the largest size that we know how to write, and what it takes to look at each of them.
// `Benchmarks/Signalling/run` builds it together with the layers that parse, as one module, with the optimizer.

import Glibc

/// A message of as many bytes as a client may send, made to be dear.
struct WorstMessage: Sendable {
    /// Which request or message it comes in.
    enum Carrier: String, Sendable, CaseIterable {
        case whip = "WHIP offer"
        case whep = "WHEP offer"
        case patch = "PATCH fragment"
        case publish = "room publish"
        case answer = "room answer"
        case other = "room message"
    }

    let name: String
    let carriers: [Carrier]
    /// - Parameter size: Bytes that it may have at most.
    let make: @Sendable (_ size: Int) -> String
}

private let transport =
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 "
    + Array(repeating: "AB", count: 32).joined(separator: ":") + "\r\n"
private let head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" + transport

/// M-lines: as many as there may be, and short ones in short texts.
private func sections(_ size: Int) -> Int { size > 100_000 ? 200 : min(16, size / 512) }
private func group(_ count: Int) -> String {
    "a=group:BUNDLE \((0..<count).map(String.init).joined(separator: " "))\r\n"
}

/// As often as there is room for.
private func fill(_ text: String, _ size: Int, _ piece: (Int) -> String) -> String {
    var text = text
    var length = text.utf8.count
    var number = 0
    while true {
        let next = piece(number)
        guard length + next.utf8.count <= size else { return text }
        text += next
        length += next.utf8.count
        number += 1
    }
}

/// M-lines of the same size, as many as there may be.
private func divided(_ size: Int, session: String = "", kind: String = "video", _ section: (Int, Int) -> String)
    -> String
{
    let count = sections(size)
    var text = head + session + group(count)
    let share = (size - text.utf8.count) / count
    for number in 0..<count {
        let piece = section(number, share)
        if text.utf8.count + piece.utf8.count <= size { text += piece }
    }
    return text
}

private func video(_ mid: Int, _ formats: String = "96") -> String {
    "m=video 9 UDP/TLS/RTP/SAVPF \(formats)\r\na=mid:\(mid)\r\na=rtcp-mux\r\na=sendrecv\r\n"
}

private func minimal(_ count: Int) -> String {
    (0..<count).map { video($0) + "a=rtpmap:96 VP8/90000\r\n" }.joined()
}

let worstMessages: [WorstMessage] = [
    WorstMessage(name: "session-level extmaps", carriers: [.whip, .whep, .publish, .answer]) { size in
        let count = sections(size)
        let tail = group(count) + minimal(count)
        return fill(head, size - tail.utf8.count) { "a=extmap:\($0 % 14 + 1) u\r\n" } + tail
    },
    WorstMessage(name: "session-level lines of three letters", carriers: [.whip, .whep, .publish, .answer]) { size in
        let count = sections(size)
        let tail = group(count) + minimal(count)
        return fill(head, size - tail.utf8.count) { _ in "a=x\n" } + tail
    },
    WorstMessage(name: "lines of m-lines of three letters", carriers: [.whip, .whep, .publish, .answer]) { size in
        divided(size) { number, share in
            fill(video(number) + "a=rtpmap:96 VP8/90000\r\n", share) { _ in "a=x\n" }
        }
    },
    WorstMessage(name: "empty lines", carriers: [.whip, .patch, .publish, .answer]) { size in
        fill(head, size) { _ in "\n" }
    },
    WorstMessage(name: "a BUNDLE group of everything", carriers: [.whip, .whep, .publish, .answer]) { size in
        let count = sections(size)
        let tail = minimal(count)
        return fill(head + "a=group:BUNDLE", size - tail.utf8.count - 2) { " \($0 + 1000)" } + "\r\n" + tail
    },
    WorstMessage(name: "BUNDLE groups", carriers: [.whip, .publish]) { size in
        let count = sections(size)
        let tail = minimal(count)
        return fill(head, size - tail.utf8.count) { _ in "a=group:BUNDLE 0 1\r\n" } + tail
    },
    WorstMessage(
        name: "one format named again and again, with long parameters",
        carriers: [.whip, .whep, .publish, .answer]
    ) { size in
        divided(size) { number, share in
            let types = Array(repeating: "96", count: 128).joined(separator: " ")
            let start = video(number, types) + "a=rtpmap:96 rtx/90000\r\na=fmtp:96 "
            return fill(start, min(share - 2, start.utf8.count + 2000)) { _ in "a;" } + "\r\n"
        }
    },
    WorstMessage(name: "H.264 formats with long parameters", carriers: [.whip, .whep, .publish, .answer]) { size in
        divided(size) { number, share in
            let types = (0..<128).map { _ in "96" }.joined(separator: " ")
            let start = video(number, types) + "a=rtpmap:96 H264/90000\r\na=fmtp:96 "
            return fill(start, min(share - 2, start.utf8.count + 2000)) { _ in "a=b;" } + "\r\n"
        }
    },
    WorstMessage(name: "formats, feedback and parameters", carriers: [.whip, .whep, .publish, .answer]) { size in
        divided(size) { number, share in
            let types = (0..<128).map(String.init).joined(separator: " ")
            return fill(video(number, types), share) { piece in
                let type = piece / 3 % 128
                return [
                    "a=rtpmap:\(type) VP8/90000\r\n", "a=rtcp-fb:\(type) nack pli\r\n",
                    "a=fmtp:\(type) apt=\(type)\r\n",
                ][piece % 3]
            }
        }
    },
    WorstMessage(name: "header extensions", carriers: [.whip, .whep, .publish, .answer]) { size in
        divided(size) { number, share in
            fill(video(number) + "a=rtpmap:96 VP8/90000\r\n", share) {
                "a=extmap:\($0 % 14 + 1) urn:3gpp:video-orientation\r\n"
            }
        }
    },
    WorstMessage(name: "SSRCs and their groups", carriers: [.whip, .publish]) { size in
        divided(size) { number, share in
            fill(video(number) + "a=rtpmap:96 VP8/90000\r\n", share) {
                $0 % 2 == 0 ? "a=ssrc:\($0) c\r\n" : "a=ssrc-group:FID \($0) \($0 + 1)\r\n"
            }
        }
    },
    WorstMessage(name: "RIDs and simulcast", carriers: [.whip, .publish]) { size in
        divided(size) { number, share in
            let start =
                video(number) + "a=rtpmap:96 VP8/90000\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
            let half = fill(start, share / 2) { "a=rid:\($0) send\r\n" }
            return fill(half + "a=simulcast:send 0", share - 2) { ";\($0 + 1)" } + "\r\n"
        }
    },
    WorstMessage(name: "simulcast lines", carriers: [.whip, .publish]) { size in
        divided(size) { number, share in
            let start =
                video(number) + "a=rtpmap:96 VP8/90000\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
            return fill(start, share) { "a=simulcast:send \($0);a,b,c,~d;e\r\n" }
        }
    },
    WorstMessage(name: "candidates", carriers: [.whip, .whep, .patch, .publish, .answer]) { size in
        divided(size) { number, share in
            fill(video(number) + "a=rtpmap:96 VP8/90000\r\n", share) {
                "a=candidate:\($0) 1 udp 1 192.0.2.1 9 typ host\r\n"
            }
        }
    },
    WorstMessage(name: "fingerprints", carriers: [.whip, .publish, .answer]) { size in
        let count = sections(size)
        let tail = group(count) + minimal(count)
        return fill(head, size - tail.utf8.count) { _ in "a=fingerprint:sha-256 AB:CD\r\n" } + tail
    },
    WorstMessage(name: "names of many bytes that are one character", carriers: [.whip, .publish, .answer]) { size in
        let count = sections(size)
        let tail = group(count) + minimal(count)
        return fill(head + "a=e", size - tail.utf8.count - 2) { _ in "\u{301}" } + "\r\n" + tail
    },
    WorstMessage(name: "fragments", carriers: [.patch]) { size in
        fill("", size) { "a=ice-ufrag:abcd\($0)\r\n" }
    },
    WorstMessage(name: "lists of numbers", carriers: [.other]) { size in
        fill(#"{"type":"publish","data":[1"#, size - 2) { _ in ",1" } + "]}"
    },
    WorstMessage(name: "numbers with exponents", carriers: [.other]) { size in
        fill(#"{"type":"publish","data":[1"#, size - 2) { _ in ",1e9" } + "]}"
    },
    WorstMessage(name: "one long number", carriers: [.other]) { size in
        fill(#"{"type":"publish","data":[0.1"#, size - 2) { _ in "7" } + "]}"
    },
    WorstMessage(name: "long numbers", carriers: [.other]) { size in
        fill(#"{"type":"publish","data":[1"#, size - 2) { _ in "," + String(repeating: "7", count: 300) + "e-290" }
            + "]}"
    },
    WorstMessage(name: "escapes", carriers: [.other]) { size in
        fill(#"{"type":"publish","sdp":""#, size - 2) { _ in #"\n"# } + #""}"#
    },
    WorstMessage(name: "hexadecimal escapes", carriers: [.other]) { size in
        fill(#"{"type":"publish","sdp":""#, size - 2) { _ in #"\u0041"# } + #""}"#
    },
    WorstMessage(name: "members with no meaning", carriers: [.other]) { size in
        fill(#"{"type":"publish""#, size - 2) { #","\#($0)":0"# } + "}"
    },
    WorstMessage(name: "members that are there twice", carriers: [.other]) { size in
        fill(#"{"type":"publish""#, size - 2) { _ in #","a":0"# } + "}"
    },
    WorstMessage(name: "brackets", carriers: [.other]) { size in
        fill(#"{"type":"publish","x":[0"#, size - 2) { _ in ",[[[[]]]]" } + "]}"
    },
    WorstMessage(name: "what ends too early", carriers: [.other]) { size in
        fill(#"{"type":"publish","x":[0"#, size) { _ in ",[]" }
    },
    WorstMessage(name: "white space", carriers: [.other]) { size in
        fill(#"{"type":"publish""#, size - 2) { _ in " " } + "}"
    },
    WorstMessage(name: "m-lines of many streams", carriers: [.other]) { size in
        let mids = (0..<64).map { #""\#($0)""# }.joined(separator: ",")
        let streams = (0..<64).map { #"{"stream":"s\#($0)","mids":[\#(mids)]}"# }.joined(separator: ",")
        return #"{"type":"publish","streams":[\#(streams)],"x":""#
            + String(repeating: "x", count: max(0, size - streams.utf8.count - 60)) + #""}"#
    },
]

extension WorstMessage.Carrier {
    private static let limits = Limits()

    private var limits: Limits {
        switch self {
        case .whip, .whep, .patch: Self.limits
        case .publish, .answer, .other: Self.limits.ofRooms
        }
    }

    /// The most bytes that such a request or message may have.
    var maximumBytes: Int { limits.bodyBytes }

    private static let local = LocalEndpoint(
        credentials: ICECredentials(usernameFragment: "localUfrag12", password: "localPassword1234567890a"),
        fingerprint: CertificateFingerprint(algorithm: .sha256, digest: Array(repeating: 1, count: 32)),
        addresses: [SocketAddress(ip: .loopbackV4, port: 1)],
        privacy: .transport,
        sessionID: .max
    )

    /// Does with a message what the server does.
    ///
    /// - Returns: How many nanoseconds of it the directory takes: other clients wait for that.
    func lookAt(_ bytes: [UInt8]) -> UInt64 {
        switch self {
        case .whip, .publish:
            guard let offer = try? Offer(parsing: bytes, limits: limits) else { return 0 }
            return timed { _ = try? offer.answerPublisher(local: Self.local, allowsSilence: self == .publish) }
        case .whep:
            guard let offer = try? Offer(parsing: bytes, limits: limits) else { return 0 }
            let tracks = (0..<16).map { Self.track($0, parameters: String(repeating: "a=b;", count: 512)) }
            return timed {
                _ = try? offer.answerViewer(
                    tracks: tracks,
                    streamLabel: "l",
                    cname: "c",
                    local: Self.local,
                    ssrcs: SSRCSequence(first: 1, stride: 1)
                )
            }
        case .patch:
            _ = try? PatchRequest(
                parsing: bytes,
                local: Self.local.credentials,
                remote: Self.local.credentials,
                limits: limits
            )
            return 0
        case .answer:
            guard let answer = try? Offer(parsing: bytes, limits: limits) else { return 0 }
            var media = Self.offered
            return timed { _ = try? media.accept(answer: answer) }
        case .other:
            if (try? ClientMessage(parsing: bytes, limits: limits)) == nil {
                _ = ClientMessage.identifier(in: bytes, limits: limits)
            }
            return 0
        }
    }

    /// As many tracks as a room's peer may be offered.
    static func full() -> OutgoingMedia {
        let limits = Limits()
        var media = OutgoingMedia(
            privacy: .transport,
            maximumLines: limits.roomMediaSections,
            maximumLinesPerPublisher: limits.roomMediaSections,
            ssrcs: SSRCSequence(first: 1, stride: 1)
        )
        for number in 0..<limits.roomMediaSections {
            _ = try? media.add(track(number), of: "p", place: 0, label: "0123456789012345", cname: "0123456789012345")
        }
        return media
    }

    static func offer(_ media: inout OutgoingMedia) -> String { media.nextOffer(local: local) ?? "" }

    private static let offered: OutgoingMedia = {
        var media = full()
        _ = offer(&media)
        return media
    }()

    private static func track(_ number: Int, parameters: String = "") -> ForwardableTrack {
        ForwardableTrack(
            track: TrackID(rawValue: UInt64(number)),
            home: WorkerIndex(rawValue: 0),
            codec: .h264,
            formatParameters: parameters
        )
    }
}

/// Nanoseconds of this thread's time.
func timed(_ body: () -> Void) -> UInt64 {
    let before = threadTime()
    body()
    return threadTime() - before
}

func threadTime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
