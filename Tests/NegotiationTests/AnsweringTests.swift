import Commands
import Testing
import Wire

@testable import Negotiation

@Suite struct AnsweringTests {
    static let fingerprint = CertificateFingerprint(algorithm: .sha256, digest: Array(repeating: 0xAB, count: 32))
    static let local = LocalEndpoint(
        credentials: ICECredentials(usernameFragment: "localUfrag12", password: "localPassword1234567890a"),
        fingerprint: fingerprint,
        addresses: [.init(ip: .loopbackV4, port: 40000)],
        privacy: .transport,
        sessionID: 42
    )

    /// An offer of Chromium's shape.
    static func offer(
        session: String = "a=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\n",
        transport: String =
            "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:\(fingerprint.text)\r\n"
            + "a=rtcp-mux\r\na=rtcp-rsize\r\n",
        setup: String = "actpass",
        direction: String = "sendonly",
        redundancy: String = "",
        video: String = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103\r\n",
        videoExtra: String = ""
    ) -> [UInt8] {
        let text = """
            v=0\r
            o=- 1 2 IN IP4 127.0.0.1\r
            s=-\r
            t=0 0\r
            \(session)m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r
            a=mid:0\r
            \(transport)a=setup:\(setup)\r
            a=\(direction)\r
            a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
            a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
            a=rtpmap:63 red/48000/2\r
            a=fmtp:63 \(redundancy)\r
            a=rtpmap:111 opus/48000/2\r
            a=fmtp:111 minptime=10;useinbandfec=1\r
            a=rtcp-fb:111 transport-cc\r
            a=ssrc:1111 cname:x\r
            \(video)a=mid:1\r
            \(transport)a=setup:\(setup)\r
            a=\(direction)\r
            a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
            a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
            a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r
            a=rtpmap:96 VP8/90000\r
            a=rtpmap:97 rtx/90000\r
            a=fmtp:97 apt=96\r
            a=rtpmap:102 H264/90000\r
            a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\r
            a=rtpmap:103 rtx/90000\r
            a=fmtp:103 apt=102\r
            a=rtcp-fb:96 goog-remb\r
            a=rtcp-fb:96 transport-cc\r
            a=rtcp-fb:96 ccm fir\r
            a=rtcp-fb:96 nack\r
            a=rtcp-fb:96 nack pli\r
            a=rtcp-fb:102 nack\r
            a=ssrc-group:FID 2222 3333\r
            a=ssrc:2222 cname:x\r
            a=ssrc:3333 cname:x\r
            \(videoExtra)
            """
        return Array(text.utf8)
    }

    func publish(_ offer: [UInt8]) throws(NegotiationError) -> PublisherAnswer {
        try Offer(parsing: offer, limits: Limits()).answerPublisher(local: Self.local)
    }

    func watch(
        _ offer: [UInt8],
        _ tracks: [ForwardableTrack],
        local: LocalEndpoint = Self.local
    ) throws(NegotiationError) -> ViewerAnswer {
        try Offer(parsing: offer, limits: Limits()).answerViewer(
            tracks: tracks,
            streamLabel: "label",
            cname: "cname",
            local: local,
            ssrcs: SSRCSequence(first: 101, stride: 1)
        )
    }

    static func track(_ id: UInt64, _ codec: Codec, _ parameters: String = "") -> ForwardableTrack {
        ForwardableTrack(
            track: TrackID(rawValue: id),
            home: WorkerIndex(rawValue: 0),
            codec: codec,
            formatParameters: parameters
        )
    }

    @Test func aPublisherGetsOneCodecALine() throws {
        let answer = try publish(Self.offer())
        let description = try SessionDescription(parsing: Array(answer.text.utf8))
        #expect(description.has("ice-lite"))
        #expect(description.value("x-sluice-privacy") == "transport")
        #expect(description.value("group") == "BUNDLE 0 1")
        #expect(description.mediaSections.map(\.formats) == [["111"], ["96", "97"]])
        for section in description.mediaSections {
            #expect(section.has("recvonly") && section.value("setup") == "passive" && section.has("rtcp-mux"))
            #expect(section.value("ice-ufrag") == "localUfrag12")
            #expect(section.value("candidate")?.contains("127.0.0.1 40000 typ host") == true)
            #expect(!section.has("rid") && !section.has("simulcast"))
        }
        #expect(answer.sources.map(\.parameters.codec) == [.opus, .vp8])
        let video = answer.sources[1]
        #expect(video.parameters.retransmissionPayloadType == 97)
        let source = AnnouncedSource(ssrc: 2222, retransmissionSSRC: 3333)
        #expect(video.encodings == [NegotiatedEncoding(announcedSources: [source])])
        #expect(video.parameters.feedback.contains([.nack, .pictureLossIndication, .transportWideCongestionControl]))
        #expect(answer.remote.dtlsRole == .passive)
    }

    private static let redundantOffer = offer(direction: "recvonly", redundancy: "111/111")

    @Test func aViewerThatTakesRedundantAudioIsAnsweredWithIt() throws {
        let answer = try watch(Self.redundantOffer, [Self.track(1, .opus)])
        let audio = try SessionDescription(parsing: Array(answer.text.utf8)).mediaSections[0]
        #expect(audio.formats == ["111", "63"])
        #expect(answer.text.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"))
        #expect(answer.subscriptions[0].parameters.redundancyPayloadType == 63)
    }

    @Test func nobodyIsSentRedundantAudioInAnEncryptedRoom() throws {
        var local = Self.local
        local.privacy = .endToEnd
        let answer = try watch(Self.redundantOffer, [Self.track(1, .opus)], local: local)
        #expect(!answer.text.contains("red/48000"))
        #expect(answer.subscriptions[0].parameters.redundancyPayloadType == nil)
    }

    @Test(arguments: ["111/112", "112/112", "", "x/x", "111/111/0", "/111"])
    func redundancyOfSomethingElseIsNotTaken(parameters: String) throws {
        let answer = try watch(Self.offer(direction: "recvonly", redundancy: parameters), [Self.track(1, .opus)])
        #expect(answer.subscriptions[0].parameters.redundancyPayloadType == nil)
    }

    @Test func aPublisherIsNotAskedForRedundantAudio() throws {
        let answer = try publish(Self.offer(redundancy: "111/111"))
        #expect(!answer.text.contains("red/48000"))
    }

    @Test func aViewerGetsTheTracksInItsOwnNumbers() throws {
        let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
        let answer = try watch(
            Self.offer(direction: "recvonly"),
            [Self.track(1, .opus), Self.track(2, .h264, h264)]
        )
        let description = try SessionDescription(parsing: Array(answer.text.utf8))
        #expect(description.mediaSections.map(\.formats) == [["111"], ["102", "103"]])
        #expect(answer.subscriptions.map(\.parameters.payloadType) == [111, 102])
        #expect(Set(answer.subscriptions.map(\.ssrc)).count == 2)
        let video = try #require(answer.subscriptions.last)
        #expect(
            description.mediaSections[1].value("ssrc-group") == "FID \(video.ssrc) \(video.retransmissionSSRC ?? 0)"
        )
        #expect(description.mediaSections[1].value("msid")?.hasPrefix("label ") == true)
        #expect(video.parameters.headerExtensions.map(\.meaning) == [.mid])
    }

    @Test func aViewerThatCannotDecodeIsToldWhich() {
        let high10 = "packetization-mode=1;profile-level-id=6e0032"
        #expect(throws: NegotiationError.self) {
            do throws(NegotiationError) {
                _ = try watch(Self.offer(direction: "recvonly"), [Self.track(2, .h264, high10)])
            } catch {
                #expect(error.kind == .noCommonCodec && error.mediaLine == 2)
                throw error
            }
        }
    }

    @Test func audioAloneIsServed() throws {
        let answer = try watch(Self.offer(direction: "recvonly"), [Self.track(1, .opus)])
        let description = try SessionDescription(parsing: Array(answer.text.utf8))
        #expect(description.mediaSections[1].has("inactive"))
        #expect(answer.subscriptions.count == 1)
    }

    @Test(arguments: [
        ("active", DTLSRole.passive, "passive"), ("passive", .active, "active"), ("actpass", .passive, "passive"),
    ])
    func takesTheOtherRole(setup: String, role: DTLSRole, ours: String) throws {
        let answer = try publish(Self.offer(setup: setup))
        #expect(answer.remote.dtlsRole == role)
        #expect(answer.text.contains("a=setup:\(ours)\r\n"))
    }

    /// What an m-line offers, the answer to it, and the encodings, the lowest first.
    @Test(arguments: [
        ("a=rid:hi send\r\na=rid:lo send\r\na=simulcast:send hi;lo\r\n", "hi;lo", ["lo", "hi"]),
        ("a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n", "q;h;f", ["q", "h", "f"]),
        ("a=rid:r0 send\r\na=rid:r1 send\r\na=simulcast:send r1;r0\r\n", "r1;r0", ["r0", "r1"]),
        // As OBS has it: the best first.
        ("a=rid:0 send\r\na=rid:1 send\r\na=rid:2 send\r\na=simulcast:send 0;1;2\r\n", "0;1;2", ["2", "1", "0"]),
        // Alternatives: the first; what begins paused is taken; what is for another codec, or is received, is not.
        ("a=rid:m send pt=96\r\na=rid:x send\r\na=rid:l send\r\na=simulcast:send m,x;~l\r\n", "m;l", ["l", "m"]),
        (
            "a=rid:h send pt=102\r\na=rid:m send\r\na=rid:l send\r\na=rid:z recv\r\na=simulcast:send h;m;l;z;none\r\n",
            "m;l", ["l", "m"]
        ),
        // More than there may be.
        (
            "a=rid:a send\r\na=rid:b send\r\na=rid:c send\r\na=rid:d send\r\na=rid:e send\r\na=simulcast:send a;b;c;d;e\r\n",
            "a;b;c;d", ["d", "c", "b", "a"]
        ),
    ])
    func simulcastIsAccepted(extra: String, answered: String, encodings: [String]) throws {
        let answer = try publish(Self.offer(videoExtra: extra))
        let section = try SessionDescription(parsing: Array(answer.text.utf8)).mediaSections[1]
        #expect(section.values("simulcast") == ["recv \(answered)"])
        let rids = answered.split(separator: ";").map { "\($0) recv" }
        #expect(section.values("rid") == rids)
        #expect(section.values("extmap").contains { $0.hasSuffix("rtp-stream-id") })
        #expect(answer.sources[1].encodings.map(\.rid) == encodings)
        #expect(answer.sources[1].encodings.flatMap(\.announcedSources) == [])
    }

    /// What is no simulcast: one encoding, none that is known, and nothing about it in the answer.
    @Test(arguments: [
        "a=rid:hi send\r\na=simulcast:send hi\r\n", "a=simulcast:send hi;lo\r\n",
        "a=rid:hi send\r\na=rid:hi send\r\na=simulcast:send hi;hi,hi;~hi\r\n",
        "a=rid:h\u{E9} send\r\na=simulcast:send h\u{E9};lo\r\n",
        "a=ssrc-group:SIM 2222 2222\r\n", "a=ssrc-group:SIM 2222 3333\r\n", "a=ssrc-group:SIM 7 8 9\r\n",
        "a=ssrc-group:SIM\r\n",
        "a=rid:hi recv\r\na=rid:lo recv\r\na=simulcast:recv hi;lo\r\n", "a=rid:hi send\r\na=simulcast:send ;;\r\n",
    ])
    func oneEncodingIsNoSimulcast(extra: String) throws {
        let answer = try publish(Self.offer(videoExtra: extra))
        #expect(!answer.text.contains("simulcast") && !answer.text.contains("a=rid"))
        #expect(answer.sources[1].encodings.map(\.rid) == [nil])
    }

    @Test func simulcastBySSRCsIsTaken() throws {
        let extra =
            "a=ssrc:4444 cname:x\r\na=ssrc:5555 cname:x\r\na=ssrc-group:FID 4444 5555\r\na=ssrc-group:SIM 2222 4444\r\n"
        let encodings = try publish(Self.offer(videoExtra: extra)).sources[1].encodings
        #expect(
            encodings.flatMap(\.announcedSources) == [
                AnnouncedSource(ssrc: 2222, retransmissionSSRC: 3333),
                AnnouncedSource(ssrc: 4444, retransmissionSSRC: 5555),
            ]
        )
        #expect(encodings.count == 2)
    }

    @Test func sendrecvIsAnsweredByWhatWeDo() throws {
        #expect(try publish(Self.offer(direction: "sendrecv")).text.contains("a=recvonly"))
        #expect(try watch(Self.offer(direction: "sendrecv"), [Self.track(1, .opus)]).text.contains("a=sendonly"))
    }

    /// What is refused, of which kind, at which m-line.
    @Test(
        arguments: [
            (offer(session: "", direction: "sendonly"), NegotiationError.Kind.unservable, 2),
            (offer(transport: "a=rtcp-mux\r\n"), .unservable, 1),
            (offer(transport: "a=ice-ufrag:a\r\na=ice-pwd:b\r\na=rtcp-mux\r\n"), .malformed, 1),
            (
                offer(transport: "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=rtcp-mux\r\n"), .unservable,
                1
            ),
            (offer(setup: "holdconn"), .unservable, 1),
            (offer(direction: "recvonly"), .unservable, 1),
            (offer(video: "m=video 9 UDP/TLS/RTP/SAVPF 99\r\na=rtpmap:99 H261/90000\r\n"), .noCommonCodec, 2),
            (offer(session: "a=ice-lite\r\na=group:BUNDLE 0 1\r\n"), .unservable, nil),
            (Array("v=0\r\no=-\r\n".utf8), .malformed, nil),
            (Array("hello".utf8), .malformed, nil),
        ] as [([UInt8], NegotiationError.Kind, Int?)]
    )
    func refuses(offer: [UInt8], kind: NegotiationError.Kind, mediaLine: Int?) {
        do throws(NegotiationError) {
            _ = try publish(offer)
            Issue.record("it was answered")
        } catch {
            #expect(error.kind == kind, "\(error)")
            #expect(error.mediaLine == mediaLine, "\(error)")
        }
    }

    @Test func dataChannelsAreRejectedAndMediaServed() throws {
        let offer =
            Self.offer(session: "a=group:BUNDLE 0 1 2\r\n")
            + Array("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n".utf8)
        let description = try SessionDescription(parsing: Array(try publish(offer).text.utf8))
        #expect(description.mediaSections[2].port == 0)
        #expect(description.value("group") == "BUNDLE 0 1")
    }

    @Test func onlyNewCredentialsAreARestart() throws {
        let remote = ICECredentials(usernameFragment: "abcd", password: "0123456789012345678901")
        func patch(_ text: String) throws(NegotiationError) -> PatchRequest {
            try PatchRequest(parsing: Array(text.utf8), local: Self.local.credentials, remote: remote, limits: Limits())
        }
        #expect(try patch("a=candidate:1 1 udp 1 x.local 9 typ host\r\n") == .trickle)
        #expect(try patch("a=ice-ufrag:localUfrag12\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\n") == .trickle, "our own")
        #expect(
            try patch("a=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\n") == .trickle,
            "only a new password"
        )
        #expect(try patch("a=ice-ufrag:efgh\r\n") == .trickle, "no password")
        let fresh = ICECredentials(usernameFragment: "efgh", password: "aaaaaaaaaaaaaaaaaaaaaaaa")
        #expect(try patch("a=ice-ufrag:efgh\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\n") == .restart(fresh, mid: nil))
    }
}
