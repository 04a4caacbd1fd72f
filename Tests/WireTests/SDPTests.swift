import Testing
import Wire

@Suite struct SDPTests {
    static let offer = """
        v=0\r
        o=- 4611731400430051336 2 IN IP4 127.0.0.1\r
        s=-\r
        t=0 0\r
        a=group:BUNDLE 0 1\r
        a=extmap-allow-mixed\r
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r
        c=IN IP4 0.0.0.0\r
        a=mid:0\r
        a=rtpmap:111 opus/48000/2\r
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r
        a=mid:1\r
        a=rtpmap:96 VP8/90000\r
        a=fmtp:97 apt=96\r

        """

    @Test func readsSectionsAndAttributes() throws {
        let description = try SessionDescription(parsing: Array(Self.offer.utf8))
        #expect(description.value("group") == "BUNDLE 0 1")
        #expect(description.has("extmap-allow-mixed"))
        #expect(description.mediaSections.map(\.kind) == ["audio", "video"])
        #expect(description.mediaSections[1].formats == ["96", "97"])
        #expect(description.mediaSections[0].value("rtpmap") == "111 opus/48000/2")
        #expect(description.mediaSections[1].value("missing") == nil)
    }

    @Test func readsBareLineFeedsAndWhatItWrites() throws {
        let bare = Self.offer.replacing("\r\n", with: "\n")
        let description = try SessionDescription(parsing: Array(bare.utf8))
        let again = try SessionDescription(parsing: Array(description.text.utf8))
        #expect(again == description)
        #expect(
            description.text.utf8.count(where: { $0 == 0x0A }) == description.text.utf8.count(where: { $0 == 0x0D })
        )
    }

    @Test func refusesWhatIsNoDescription() {
        func read(_ text: String) throws(SDPError) -> SessionDescription {
            try SessionDescription(parsing: Array(text.utf8), maximumBytes: 4096, maximumMediaSections: 2)
        }
        #expect(throws: SDPError.badVersion) { try read("v=1\r\n") }
        #expect(throws: SDPError.badVersion) { try read("") }
        #expect(throws: SDPError.missing("o=")) { try read("v=0\r\n") }
        #expect(throws: SDPError.badLine(2)) { try read("v=0\r\nnonsense\r\n") }
        #expect(throws: SDPError.badMediaLine(3)) { try read("v=0\r\no=-\r\nm=video 9\r\n") }
        #expect(throws: SDPError.tooManyMediaSections(maximum: 2)) {
            try read("v=0\r\no=-\r\n" + String(repeating: "m=audio 9 RTP/AVP 0\r\n", count: 3))
        }
        #expect(throws: SDPError.tooLong(maximum: 4096)) { try read(String(repeating: "a", count: 4097)) }
        #expect(throws: SDPError.notText) { try SessionDescription(parsing: [0x76, 0x3D, 0x30, 0xFF]) }
    }

    @Test func readsTypedAttributes() throws {
        let map = try #require(RTPMap("111 opus/48000/2"))
        #expect((map.payloadType, map.encodingName, map.clockRate, map.channels) == (111, "opus", 48000, 2))
        #expect(RTPMap("128 opus/48000") == nil && RTPMap("x") == nil)
        let parameters = FormatParameters(
            text: "level-asymmetry-allowed=1; Packetization-Mode=1;profile-level-id=42e01f"
        )
        #expect(parameters["packetization-mode"] == "1" && parameters["profile-level-id"] == "42e01f")
        let map2 = try #require(ExtensionMap("3/sendonly urn:ietf:params:rtp-hdrext:sdes:mid"))
        #expect((map2.id, map2.direction) == (3, "sendonly"))
        #expect(ExtensionMap("0 urn:x") == nil && ExtensionMap("256 urn:x") == nil)
        #expect(SSRCGroup("FID 1 2")?.ssrcs == [1, 2] && SSRCGroup("FID 1 x") == nil)
        let rid = try #require(RestrictionIdentifier("hi send pt=96,97;max-width=1280"))
        #expect(rid.sends && rid.payloadTypes == [96, 97] && rid.restrictions == ["max-width=1280"])
        #expect(RestrictionIdentifier("h! send") == nil && RestrictionIdentifier("hi both") == nil)
        let simulcast = try #require(Simulcast("send hi;~mid,lo recv x"))
        #expect(simulcast.send.count == 2 && simulcast.send[1].map(\.rid) == ["mid", "lo"])
        #expect(simulcast.send[1][0].isPaused && simulcast.receive.count == 1)
    }

    @Test func readsFingerprintsOfKnownLength() throws {
        let text = "SHA-256 " + Array(repeating: "aB", count: 32).joined(separator: ":")
        let fingerprint = try #require(CertificateFingerprint(text))
        #expect(fingerprint.digest == Array(repeating: 0xAB, count: 32))
        #expect(CertificateFingerprint(fingerprint.text) == fingerprint)
        #expect(CertificateFingerprint("sha-256 AB:CD") == nil)
        #expect(CertificateFingerprint("md5 " + Array(repeating: "00", count: 16).joined(separator: ":")) == nil)
    }

    @Test func namesAreNoAddresses() throws {
        let candidate = try #require(ICECandidate("1 1 UDP 2122260223 192.0.2.7 54321 typ host generation 0"))
        #expect(candidate.address.description == "192.0.2.7:54321" && candidate.transport == "udp")
        #expect(ICECandidate(candidate.text) == candidate)
        #expect(ICECandidate("1 1 udp 1 0f3c.local 9 typ host") == nil, "mDNS")
        #expect(ICECandidate("1 1 udp 1 192.0.2.7 9 typ") == nil)
    }

    @Test func readsTrickleFragments() throws {
        let text =
            "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
            + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n"
        let fragment = try TrickleFragment(parsing: Array(text.utf8))
        #expect(fragment.credentials?.usernameFragment == "EsAw")
        #expect(fragment.sections.last?.mid == "0" && fragment.sections.last?.endOfCandidates == true)
        #expect(try TrickleFragment(parsing: Array(text.utf8), maximumCandidates: 0).sections.last?.candidates == [])
    }
}

@Suite struct IPAddressTests {
    @Test(arguments: [
        "0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1", "1::", "2001:db8::1", "2001:db8:0:1:1:1:1:1",
        "2001:0:0:1::1", "fe80::1:2:3:4",
    ])
    func writesWhatItReads(text: String) throws {
        #expect(try #require(IPAddress(text)).description == text)
    }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", ":", ":::", "1::2::3", "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9", "12345::", "::1%eth0", "[::1]", "::1.2.3.999", "g::", "+1::",
    ])
    func refusesWhatIsNoAddress(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func readsEmbeddedIPv4() {
        #expect(IPAddress("::ffff:192.0.2.1")?.description == "::ffff:c000:201")
    }
}
