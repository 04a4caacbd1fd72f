import Commands
import Testing
import Wire

@testable import Negotiation

/// Which m-line of an offer stands for the transport that all share (RFC 9143 §7.3.1).
@Suite struct BundleTests {
    private static let transport =
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n"
        + "a=fingerprint:\(AnsweringTests.fingerprint.text)\r\n"

    /// An m-line; those that are only to be bundled have no transport of their own.
    private static func line(_ mid: String, _ codec: String, direction: String = "recvonly", bundleOnly: Bool = false)
        -> String
    {
        let own = bundleOnly ? "a=bundle-only\r\n" : transport
        let port = bundleOnly ? 0 : 9
        switch codec {
        case "data":
            return
                "m=application \(port) UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:\(mid)\r\n\(own)a=sctp-port:5000\r\n"
        case "plain":
            return "m=video 9 RTP/AVP 96\r\na=mid:\(mid)\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
        case "off":
            return
                "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:\(mid)\r\na=rtcp-mux\r\na=inactive\r\na=rtpmap:96 VP8/90000\r\n"
        case "opus":
            return "m=audio \(port) UDP/TLS/RTP/SAVPF 111\r\na=mid:\(mid)\r\n\(own)a=rtcp-mux\r\na=\(direction)\r\n"
                + "a=rtpmap:111 opus/48000/2\r\n"
        default:
            return "m=video \(port) UDP/TLS/RTP/SAVPF 96\r\na=mid:\(mid)\r\n\(own)a=rtcp-mux\r\na=\(direction)\r\n"
                + "a=rtpmap:96 \(codec)/90000\r\n"
        }
    }

    private static func offer(_ groups: String..., lines: [String]) -> [UInt8] {
        let session = groups.map { "a=group:\($0)\r\n" }.joined()
        return Array(("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" + session + lines.joined()).utf8)
    }

    /// - Returns: Nil where it was refused.
    private func watch(_ offer: [UInt8]) throws(NegotiationError) -> SessionDescription {
        let answer = try Offer(parsing: offer, limits: Limits()).answerViewer(
            tracks: [AnsweringTests.track(1, .opus)],
            streamLabel: "l",
            cname: "c",
            local: AnsweringTests.local,
            ssrcs: SSRCSequence(first: 1, stride: 1)
        )
        do throws(SDPError) {
            return try SessionDescription(parsing: Array(answer.text.utf8))
        } catch {
            throw NegotiationError(.malformed, "\(error)")
        }
    }

    /// What RFC 9143 §7.3 asks of every answer with a group: it has the offer's mids only, none of what it rejects, and it begins with an
    /// m-line that the offer didn't leave without a transport.
    private func check(_ answer: SessionDescription, to offer: [UInt8]) throws {
        let offered = try SessionDescription(parsing: offer)
        let group = try #require(answer.value("group")).split(separator: " ").map(String.init)
        #expect(group.first == "BUNDLE")
        #expect(answer.mediaSections.count == offered.mediaSections.count)
        for (section, original) in zip(answer.mediaSections, offered.mediaSections) {
            #expect(section.kind == original.kind && section.proto == original.proto)
            #expect(Set(section.formats).isSubset(of: original.formats) && !section.formats.isEmpty)
            #expect(section.value("mid") == original.value("mid"))
            #expect(group.dropFirst().contains(section.value("mid") ?? "") == (section.port != 0))
            #expect(!section.has("bundle-only"))
        }
        let tagged = try #require(group.dropFirst().first)
        let place = try #require(offered.mediaSections.firstIndex { $0.value("mid") == tagged })
        #expect(!offered.mediaSections[place].has("bundle-only"), "it has no transport: \(tagged)")
        let section = answer.mediaSections[place]
        #expect(section.has("ice-ufrag") && section.has("fingerprint") && section.has("candidate"))
    }

    /// An m-line that we don't serve is first, and the others have no transport.
    @Test(arguments: ["data", "H261", "theora"])
    func theTaggedLineStaysWhenOthersNeedIt(codec: String) throws {
        let offer = Self.offer(
            "BUNDLE 0 1",
            lines: [Self.line("0", codec), Self.line("1", "opus", bundleOnly: true)]
        )
        let answer = try watch(offer)
        try check(answer, to: offer)
        #expect(answer.value("group") == "BUNDLE 0 1")
        #expect(answer.mediaSections[0].has("inactive") && answer.mediaSections[1].has("sendonly"))
        #expect(answer.mediaSections[0].value("sctp-port") == (codec == "data" ? "5000" : nil))
    }

    /// What has no transport of its own gives way to what has.
    @Test(arguments: ["off", "plain"])
    func anotherLineIsTaggedWhereItCan(codec: String) throws {
        let offer = Self.offer("BUNDLE 0 1", lines: [Self.line("0", codec), Self.line("1", "opus")])
        let answer = try watch(offer)
        try check(answer, to: offer)
        #expect(answer.value("group") == "BUNDLE 1")
        #expect(answer.mediaSections[0].port == 0)
    }

    /// Chromium with `max-bundle` has one transport, and doesn't say `bundle-only`.
    @Test(arguments: ["H261", "data"])
    func theTaggedLineStaysAnyway(codec: String) throws {
        let offer = Self.offer("BUNDLE 0 1", lines: [Self.line("0", codec), Self.line("1", "opus")])
        let answer = try watch(offer)
        try check(answer, to: offer)
        #expect(answer.value("group") == "BUNDLE 0 1" && answer.mediaSections[0].has("inactive"))
    }

    /// Which m-line is for which track is a question of what it plays, not of its place.
    @Test func aTrackGoesToAnMLineThatPlaysIt() throws {
        let lines = [Self.line("0", "H261"), Self.line("1", "VP9"), Self.line("2", "VP8")]
        let answer = try Offer(parsing: Self.offer("BUNDLE 0 1 2", lines: lines), limits: Limits()).answerViewer(
            tracks: [AnsweringTests.track(1, .vp8), AnsweringTests.track(2, .vp9)],
            streamLabel: "l",
            cname: "c",
            local: AnsweringTests.local,
            ssrcs: SSRCSequence(first: 1, stride: 1)
        )
        #expect(answer.subscriptions.map(\.parameters.mid) == ["1", "2"])
        #expect(answer.subscriptions.map(\.track.rawValue) == [2, 1])
    }

    @Test func thePublishersTaggedLineStaysToo() throws {
        let offer = Self.offer(
            "BUNDLE data a",
            lines: [Self.line("data", "data"), Self.line("a", "opus", direction: "sendonly", bundleOnly: true)]
        )
        let answer = try Offer(parsing: offer, limits: Limits()).answerPublisher(local: AnsweringTests.local)
        try check(SessionDescription(parsing: Array(answer.text.utf8)), to: offer)
        #expect(answer.sources.map(\.parameters.mid) == ["a"])
    }

    /// The group's order counts, not that of the m-lines.
    @Test func theGroupSaysWhichIsTagged() throws {
        let offer = Self.offer(
            "BUNDLE 1 0",
            lines: [Self.line("0", "VP8", bundleOnly: true), Self.line("1", "opus")]
        )
        let answer = try watch(offer)
        try check(answer, to: offer)
        #expect(answer.value("group") == "BUNDLE 1 0")
    }

    /// Of two transports we serve one: that with an m-line for us.
    @Test func ofSeveralGroupsTheOneWithMediaIsServed() throws {
        let offer = Self.offer(
            "LS 1 2",
            "BUNDLE 0",
            "BUNDLE 1 2",
            lines: [Self.line("0", "data"), Self.line("1", "opus"), Self.line("2", "VP8", bundleOnly: true)]
        )
        let answer = try watch(offer)
        try check(answer, to: offer)
        #expect(answer.value("group") == "BUNDLE 1 2")
        let other = try watch(
            Self.offer("BUNDLE 0", "BUNDLE 1", lines: [Self.line("0", "opus"), Self.line("1", "VP8")])
        )
        #expect(other.value("group") == "BUNDLE 0" && other.mediaSections[1].port == 0)
    }

    /// What can't be answered is refused with the m-line and the reason.
    @Test func whatHasNoTransportIsRefused() {
        let cases: [([UInt8], NegotiationError.Kind, Int?)] = [
            // The m-line with the transport is switched off.
            (
                Self.offer("BUNDLE 0 1", lines: [Self.line("0", "off"), Self.line("1", "opus", bundleOnly: true)]),
                .unservable, 1
            ),
            // It isn't there.
            (Self.offer("BUNDLE x 1", lines: [Self.line("1", "opus")]), .malformed, nil),
            (Self.offer("BUNDLE x", lines: [Self.line("1", "opus")]), .malformed, nil),
            // There are two of it.
            (Self.offer("BUNDLE 0", lines: [Self.line("0", "opus"), Self.line("0", "VP8")]), .malformed, 2),
        ]
        for (offer, kind, line) in cases {
            do throws(NegotiationError) {
                let answer = try watch(offer)
                Issue.record("it was answered: \(answer.text)")
            } catch {
                #expect(error.kind == kind && error.mediaLine == line, "\(error)")
            }
        }
    }

    /// Names of nothing behind the first do no harm.
    @Test func unknownMIDsAreLeftOut() throws {
        let offer = Self.offer(
            "BUNDLE 0 x 1 0",
            lines: [Self.line("0", "opus"), Self.line("1", "VP8", bundleOnly: true)]
        )
        #expect(try watch(offer).value("group") == "BUNDLE 0 1")
    }

    /// Attributes of the transport stand in the m-line that is tagged, and others need not have them (RFC 9143 §7.1.3).
    @Test func theTransportIsTheTaggedLines() throws {
        let other = Self.line("1", "opus").replacing("abcd", with: "efgh")
        let offer = try Offer(
            parsing: Self.offer("BUNDLE 0 1", lines: [Self.line("0", "VP8"), other]),
            limits: Limits()
        )
        #expect(offer.credentials.usernameFragment == "abcd")
        let turned = try Offer(
            parsing: Self.offer("BUNDLE 1 0", lines: [Self.line("0", "VP8"), other]),
            limits: Limits()
        )
        #expect(turned.credentials.usernameFragment == "efgh")
    }
}
