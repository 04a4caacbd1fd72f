import Commands
import Testing
import Wire

@testable import Negotiation

/// The m-lines on which a room's peer receives.
@Suite struct OutgoingMediaTests {
    static func track(_ number: UInt64, _ codec: Codec = .vp8, _ parameters: String = "") -> ForwardableTrack {
        ForwardableTrack(
            track: TrackID(rawValue: number),
            home: WorkerIndex(rawValue: 0),
            codec: codec,
            formatParameters: parameters
        )
    }

    /// What a browser answers: the offer's m-lines the other way round, with its own transport.
    static func answer(_ offer: String, rejecting rejected: Set<String> = []) -> [UInt8] {
        var text = offer.replacing("a=sendonly", with: "a=recvonly").replacing(
            "a=setup:actpass",
            with: "a=setup:active"
        )
        .replacing("a=ice-lite\r\n", with: "")
        .replacing(AnsweringTests.local.credentials.usernameFragment, with: "clientUfrag")
        for mid in rejected {
            let parts = text.split(separator: "m=", omittingEmptySubsequences: false).map { part in
                part.contains("a=mid:\(mid)\r\n")
                    ? String(part.replacing("a=recvonly", with: "a=inactive")) : String(part)
            }
            text = parts.joined(separator: "m=")
        }
        return Array(text.utf8)
    }

    private func offer(of media: inout OutgoingMedia) throws -> String {
        let offer = media.nextOffer(local: AnsweringTests.local)
        return try #require(offer)
    }

    private func hasOffer(_ media: inout OutgoingMedia) -> Bool { media.nextOffer(local: AnsweringTests.local) != nil }

    static func media(lines: Int = 8, perPublisher: Int = 200, privacy: PrivacyMode = .transport) -> OutgoingMedia {
        OutgoingMedia(
            privacy: privacy,
            maximumLines: lines,
            maximumLinesPerPublisher: perPublisher,
            ssrcs: SSRCSequence(first: 101, stride: 1)
        )
    }

    static func answer(to offer: String, rejecting rejected: Set<String> = []) throws -> Offer {
        try Offer(parsing: answer(offer, rejecting: rejected), limits: Limits())
    }

    @Test func aRestartsCandidatesArePreferredToThoseBefore() throws {
        var local = AnsweringTests.local
        var media = Self.media(lines: 8)
        _ = try media.add(Self.track(1), of: "p", place: 0, label: "s", cname: "c")
        var last: UInt32 = 0
        for restart in 0..<50 {
            let offer = media.nextOffer(local: local, restarts: true)
            let text = try #require(offer)
            let line = try #require(text.split(separator: "\r\n").first { $0.hasPrefix("a=candidate:") })
            let priority = try #require(ICECandidate(String(line.dropFirst("a=candidate:".count)))?.priority)
            // A browser's own host candidates have the type preference 126.
            #expect(priority > last || restart > 46 && priority == last)
            #expect(priority >> 24 <= 126)
            last = priority
            media.abandonOffer()
            local.restart(local.credentials)
        }
    }

    @Test func offersWhatWasAddedAndForwardsWhatIsAccepted() throws {
        var media = Self.media(lines: 8)
        let audio = try media.add(Self.track(1, .opus, "minptime=10"), of: "p", place: 0, label: "s", cname: "c")
        let video = try media.add(
            Self.track(2, .h264, "packetization-mode=1;profile-level-id=42e01f"),
            of: "p",
            place: 1,
            label: "s",
            cname: "c"
        )
        #expect([audio, video] == ["0", "1"])
        let offer = try self.offer(of: &media)
        #expect(!hasOffer(&media), "one offer at a time")
        for line in [
            "a=group:BUNDLE 0 1", "a=ice-lite", "a=x-sluice-privacy:transport", "m=audio 9 UDP/TLS/RTP/SAVPF 96 97",
            "m=video 9 UDP/TLS/RTP/SAVPF 98 99", "a=rtpmap:96 opus/48000/2", "a=rtpmap:97 red/48000/2",
            "a=fmtp:97 96/96", "a=fmtp:99 apt=98", "a=msid:s video1",
            "a=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            "a=ssrc-group:FID 102 103", "a=sendonly",
        ] { #expect(offer.contains(line + "\r\n"), "\(line)") }
        #expect(media.ssrc(of: TrackID(rawValue: 2)) == nil)

        let accepted = try media.accept(answer: Self.answer(to: offer))
        #expect(accepted.remote.dtlsRole == .passive)
        #expect(accepted.declined.isEmpty)
        #expect(accepted.beginning.map(\.ssrc) == [101, 102])
        #expect(accepted.beginning[0].parameters.redundancyPayloadType == 97)
        #expect(accepted.beginning[1].retransmissionSSRC == 103)
        #expect(accepted.beginning[1].parameters.feedback.contains(.nack))
        #expect(media.ssrc(of: TrackID(rawValue: 2)) == 102)
        #expect(!hasOffer(&media), "nothing has changed")
    }

    @Test func redundantAudioIsNeitherOfferedNorTakenWhereFramesAreEncrypted() throws {
        var media = Self.media(privacy: .endToEnd)
        _ = try media.add(Self.track(1, .opus), of: "p", place: 0, label: "s", cname: "c")
        let offer = try self.offer(of: &media)
        #expect(offer.contains("SAVPF 96\r\n") && !offer.contains("red/"))
        let answer = offer.replacing("SAVPF 96\r\n", with: "SAVPF 96 97\r\n").replacing(
            "a=rtpmap:96",
            with: "a=rtpmap:97 red/48000/2\r\na=fmtp:97 96/96\r\na=rtpmap:96"
        )
        let accepted = try media.accept(answer: Self.answer(to: answer))
        #expect(accepted.beginning[0].parameters.redundancyPayloadType == nil)
    }

    @Test func aClientMayDeclineRedundantAudio() throws {
        var media = Self.media()
        _ = try media.add(Self.track(1, .opus), of: "p", place: 0, label: "s", cname: "c")
        let offer = try self.offer(of: &media)
        let accepted = try media.accept(answer: Self.answer(to: offer.replacing("SAVPF 96 97", with: "SAVPF 96")))
        #expect(accepted.beginning[0].parameters.redundancyPayloadType == nil)
    }

    @Test func aDeclinedTrackIsNotSent() throws {
        var media = Self.media(lines: 8)
        _ = try media.add(Self.track(1), of: "p", place: 0, label: "a", cname: "c")
        _ = try media.add(Self.track(2, .av1), of: "p", place: 0, label: "b", cname: "c")
        let offer = try self.offer(of: &media)
        let accepted = try media.accept(answer: Self.answer(to: offer, rejecting: ["1"]))
        #expect(accepted.beginning.map(\.track.rawValue) == [1])
        #expect(accepted.declined.map(\.rawValue) == [2])
    }

    /// What comes and goes while an offer waits is in the next one.
    @Test func changesWaitForTheAnswer() throws {
        var media = Self.media(lines: 8)
        _ = try media.add(Self.track(1), of: "p", place: 0, label: "a", cname: "c")
        let first = try offer(of: &media)
        _ = try media.add(Self.track(2), of: "p", place: 0, label: "b", cname: "c")
        let ending = media.remove(TrackID(rawValue: 1))
        #expect(ending == nil, "it was never sent")
        _ = try media.add(Self.track(3), of: "p", place: 0, label: "d", cname: "c")
        let accepted = try media.accept(answer: Self.answer(to: first))
        #expect(accepted.beginning.isEmpty, "the m-line has another track by now")
        let second = try offer(of: &media)
        #expect(second.contains(" 2 IN IP4"))
        let next = try media.accept(answer: Self.answer(to: second))
        #expect(Set(next.beginning.map(\.track.rawValue)) == [2, 3])
        #expect(media.lineCount == 2)
    }

    /// An hour of people coming and going.
    @Test func mLinesAreUsedAgain() throws {
        var media = Self.media(lines: 16)
        var present: [UInt64] = []
        var number: UInt64 = 0
        var largest = 0
        for round in 0..<500 {
            if present.count < 5, round % 3 != 2 {
                number += 1
                present.append(number)
                _ = try media.add(
                    Self.track(number, number % 2 == 0 ? .vp8 : .vp9),
                    of: "p",
                    place: 0,
                    label: "x",
                    cname: "c"
                )
            } else {
                let gone = present.removeFirst()
                let ending = media.remove(TrackID(rawValue: gone))
                #expect(ending != nil)
            }
            largest = max(largest, present.count)
            let offer = try self.offer(of: &media)
            _ = try media.accept(answer: Self.answer(to: offer))
        }
        #expect(media.lineCount == largest)
    }

    /// A publisher who changes his parameters again and again uses up nobody's payload types.
    @Test func payloadTypesAreUsedAgain() throws {
        var media = Self.media(lines: 8)
        for number in UInt64(1)...200 {
            _ = try media.add(Self.track(number, .vp8, "x=\(number)"), of: "p", place: 0, label: "x", cname: "c")
            let offer = try self.offer(of: &media)
            let begun = try accept(offer, by: &media)
            #expect(begun == 1)
            _ = media.remove(TrackID(rawValue: number))
        }
    }

    private func accept(_ offer: String, by media: inout OutgoingMedia) throws -> Int {
        try media.accept(answer: Self.answer(to: offer)).beginning.count
    }

    @Test func refusesWhatDoesNotFit() throws {
        var media = Self.media(lines: 1)
        let early = try Self.answer(to: offer(of: Self.track(1)))
        #expect(throws: NegotiationError.self, "nothing was offered") { _ = try media.accept(answer: early) }
        _ = try media.add(Self.track(1), of: "p", place: 0, label: "a", cname: "c")
        #expect(throws: NegotiationError.self) {
            _ = try media.add(Self.track(2), of: "p", place: 0, label: "a", cname: "c")
        }
        let offer = try self.offer(of: &media)
        let long = Self.answer(offer) + Array("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".utf8)
        let bad = try Offer(parsing: long, limits: Limits())
        #expect(throws: NegotiationError.self) { _ = try media.accept(answer: bad) }
        #expect(media.awaitsAnswer, "a bad answer leaves the offer open")
        let accepted = try media.accept(answer: Self.answer(to: offer))
        #expect(accepted.beginning.count == 1)
    }

    private func offer(of track: ForwardableTrack) throws -> String {
        var media = Self.media()
        _ = try media.add(track, of: "p", place: 0, label: "a", cname: "c")
        return try offer(of: &media)
    }
}
