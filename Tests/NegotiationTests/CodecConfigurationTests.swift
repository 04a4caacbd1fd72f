import Commands
import Testing
import Wire

@testable import Negotiation

/// Who can decode what, and what is asked for and told of it.
@Suite struct CodecConfigurationTests {
    /// An offer of one m-line with these formats, from 96 on.
    private static func offer(_ codec: String, _ formats: [String?], direction: String) -> [UInt8] {
        let kind = codec.hasPrefix("opus") ? "audio" : "video"
        let types = formats.indices.map { "\($0 + 96)" }
        var text =
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
            + "m=\(kind) 9 UDP/TLS/RTP/SAVPF \(types.joined(separator: " "))\r\na=mid:0\r\na=ice-ufrag:abcd\r\n"
            + "a=ice-pwd:0123456789012345678901\r\na=fingerprint:\(AnsweringTests.fingerprint.text)\r\na=rtcp-mux\r\n"
            + "a=\(direction)\r\n"
        for (type, format) in zip(types, formats) {
            text += "a=rtpmap:\(type) \(codec)\r\n"
            if let format { text += "a=fmtp:\(type) \(format)\r\n" }
        }
        return Array(text.utf8)
    }

    /// The payload type of the format that a viewer with these is sent a track as; nil when it is refused.
    private func watch(_ codec: String, _ formats: [String?], _ track: ForwardableTrack) -> (
        type: String, fmtp: String?
    )? {
        let offer = Self.offer(codec, formats, direction: "recvonly")
        guard
            let answer = try? Offer(parsing: offer, limits: Limits()).answerViewer(
                tracks: [track],
                streamLabel: "l",
                cname: "c",
                local: AnsweringTests.local,
                ssrcs: SSRCSequence(first: 1, stride: 1)
            ), let section = try? SessionDescription(parsing: Array(answer.text.utf8)).mediaSections[0]
        else { return nil }
        return (section.formats[0], section.value("fmtp"))
    }

    private func publish(_ codec: String, _ formats: [String?]) throws -> (
        answer: MediaSection, source: NegotiatedSource
    ) {
        let answer = try Offer(parsing: Self.offer(codec, formats, direction: "sendonly"), limits: Limits())
            .answerPublisher(local: AnsweringTests.local)
        return (try SessionDescription(parsing: Array(answer.text.utf8)).mediaSections[0], answer.sources[0])
    }

    /// A viewer's formats, the publisher's, and the one that the viewer is sent; nil for none.
    @Test(
        arguments: [
            // No packetization-mode says nothing: whepsrc's usual caps.
            ([nil], "packetization-mode=1;profile-level-id=42e01f", 96),
            (["profile-level-id=42e01f"], "packetization-mode=1;profile-level-id=42e01f", 96),
            (["packetization-mode=1;profile-level-id=42e01f"], "profile-level-id=42e01f", 96),
            (["packetization-mode=0;profile-level-id=42e01f"], "profile-level-id=42e01f", 96),
            // Single NAL units go to who takes more, and not the other way round.
            (["packetization-mode=1;profile-level-id=42e01f"], "packetization-mode=0;profile-level-id=42e01f", 96),
            (["packetization-mode=0;profile-level-id=42e01f"], "packetization-mode=1;profile-level-id=42e01f", nil),
            (["packetization-mode=2;profile-level-id=42e01f"], "packetization-mode=1;profile-level-id=42e01f", nil),
            // The best of several, wherever it stands.
            (
                ["profile-level-id=42e01f;packetization-mode=0", nil, "profile-level-id=42e01f;packetization-mode=1"],
                "packetization-mode=1;profile-level-id=42e01f", 98
            ),
            (
                ["packetization-mode=1;profile-level-id=42e01f", "packetization-mode=1;profile-level-id=640c1f"],
                "packetization-mode=1;profile-level-id=64002a", 97
            ),
            // Firefox names Constrained Baseline, and decodes Main and High (Decision 006).
            (
                ["profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1"],
                "packetization-mode=1;profile-level-id=640032", 96
            ),
            (["profile-level-id=42e01f;packetization-mode=1"], "packetization-mode=1;profile-level-id=4d0032", 96),
            // Nobody decodes these by chance.
            (["profile-level-id=42e01f;packetization-mode=1"], "packetization-mode=1;profile-level-id=6e0032", nil),
            (["profile-level-id=640032;packetization-mode=1"], "packetization-mode=1;profile-level-id=f40032", nil),
            (["profile-level-id=f40032;packetization-mode=1"], "packetization-mode=1;profile-level-id=f4001f", 96),
            // Blanks and case.
            (
                ["Profile-Level-ID = 42E01F ; packetization-mode = 1 ;"],
                " packetization-mode =1; profile-level-id= 42e01f", 96
            ),
            (
                ["\tpacketization-mode=1 ;\tprofile-level-id=42e01f\t"], "packetization-mode=1;profile-level-id=42e01f",
                96
            ),
        ] as [([String?], String, Int?)]
    )
    func anH264DecoderGetsWhatItPlays(formats: [String?], track: String, expected: Int?) {
        let found = watch("H264/90000", formats, AnsweringTests.track(1, .h264, track))
        #expect(found?.type == expected.map(String.init))
    }

    @Test(arguments: [
        ("VP9/90000", Codec.vp9, "profile-id = 2 ", "x=1; profile-id=2", true),
        ("VP9/90000", .vp9, "profile-id=0", "", true), ("VP9/90000", .vp9, "profile-id=2", "profile-id=0", false),
        ("AV1/90000", .av1, "profile=1", "profile=0", true), ("AV1/90000", .av1, "profile=0", "profile=1", false),
        ("H265/90000", .h265, "profile-id=2", "profile-id=1", true),
        ("H265/90000", .h265, "profile-id=1", "profile-id=2", false),
        ("vp8/90000", .vp8, "max-fs=12288; max-fr=60", "", true),
    ])
    func otherDecodersToo(name: String, codec: Codec, format: String, track: String, plays: Bool) {
        #expect((watch(name, [format], AnsweringTests.track(1, codec, track)) != nil) == plays)
    }

    /// Of a publisher's profiles the one that most viewers can have.
    @Test(arguments: [
        (
            "H264/90000",
            [
                "profile-level-id=640032;packetization-mode=1", "profile-level-id=4d001f;packetization-mode=1",
                "profile-level-id=42001f;packetization-mode=0", "profile-level-id=42001f;packetization-mode=1",
            ], "99"
        ),
        ("H264/90000", ["profile-level-id=42e01f", "profile-level-id=640032;packetization-mode=1"], "96"),
        ("VP9/90000", ["profile-id=2", "profile-id=1", "profile-id=0"], "98"),
        ("AV1/90000", ["profile=1", "profile=0"], "97"),
        ("H265/90000", ["profile-id=2", "profile-id=1"], "97"),
    ])
    func aPublisherIsAskedForWhatMostDecode(codec: String, formats: [String], expected: String) throws {
        #expect(try publish(codec, formats).answer.formats[0] == expected)
    }

    @Test func theFirstCodecIsStillThePublishersChoice() throws {
        let offer = String(decoding: Self.offer("VP9/90000", [nil, nil], direction: "sendonly"), as: UTF8.self)
            .replacing("a=rtpmap:97 VP9", with: "a=rtpmap:97 VP8")
        let answer = try Offer(parsing: Array(offer.utf8), limits: Limits()).answerPublisher(
            local: AnsweringTests.local
        )
        #expect(answer.sources[0].parameters.codec == .vp9)
    }

    /// What stands behind the payload type.
    private static func parameters(_ fmtp: String?) -> FormatParameters {
        FormatParameters(text: fmtp?.split(separator: " ", maxSplits: 1).last.map(String.init) ?? "")
    }

    /// A publisher's Opus, whether it is stereo, and with that what we answer.
    @Test(arguments: [
        ("minptime=10;useinbandfec=1", false), ("minptime=10;stereo=1", true), ("sprop-stereo=1", true),
        ("stereo = 1 ; sprop-stereo = 1", true), ("stereo=0;sprop-stereo=1", true), ("stereo=1;sprop-stereo=0", false),
        ("stereo=0", false),
    ])
    func stereoIsAskedForAndTold(offered: String, isStereo: Bool) throws {
        let (answer, source) = try publish("opus/48000/2", [offered])
        let asked = Self.parameters(answer.value("fmtp"))
        if isStereo { #expect(asked["stereo"] == "1") }
        let track = AnsweringTests.track(1, .opus, source.parameters.formatParameters)
        #expect(track.configuration == .opus(isStereo: isStereo))

        for viewer in ["minptime=10;useinbandfec=1", "stereo=1"] {
            let told = Self.parameters(watch("opus/48000/2", [viewer], track)?.fmtp)
            #expect((told["sprop-stereo"] == "1") == isStereo, "\(viewer)")
            if isStereo { #expect(told["stereo"] == "1") }
        }
        var media = OutgoingMediaTests.media()
        _ = try media.add(track, of: "p", place: 0, label: "l", cname: "c")
        let line = media.nextOffer(local: AnsweringTests.local)?.split(separator: "\r\n").first {
            $0.hasPrefix("a=fmtp:")
        }
        let offer = Self.parameters(line.map(String.init))
        #expect((offer["sprop-stereo"] == "1") == isStereo && (offer["stereo"] == "1") == isStereo)
    }

    /// A publisher that comes back writes its parameters in another way, and its viewers stay.
    @Test func theSameWrittenOtherwiseFits() throws {
        let track = AnsweringTests.track(1, .h264, "packetization-mode=1;profile-level-id=42e01f")
        let again = try publish(
            "H264/90000",
            ["level-asymmetry-allowed=1; profile-level-id=42C02A; packetization-mode=1"]
        )
        #expect(track.fits(again.source))
        #expect(!track.fits(try publish("H264/90000", ["packetization-mode=1;profile-level-id=64001f"]).source))
        #expect(!track.fits(try publish("VP8/90000", [nil]).source))
    }
}
