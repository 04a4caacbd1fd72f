import Commands
import Testing
import Wire

@testable import Negotiation

/// The share of one publisher, or of one session, in the m-lines and payload types.
@Suite struct SharesTests {
    private static func codecs() -> [(Codec, String)] {
        var formats: [(Codec, String)] = []
        for profile in 0...255 {
            for mode in ["", "packetization-mode=0;", "packetization-mode=1;", "packetization-mode=2;"] {
                for rest in ["0032", "e01f", "ffff"] {
                    let hexadecimal = String(profile + 256, radix: 16).dropFirst()
                    formats.append((.h264, "\(mode)profile-level-id=\(hexadecimal)\(rest);x=\(profile)"))
                }
            }
            formats.append((.vp9, "profile-id=\(profile)"))
            formats.append((.av1, "profile=\(profile);level-idx=\(profile);tier=1"))
            formats.append((.h265, "profile-id=\(profile);level-id=\(profile)"))
            formats.append((.vp8, "max-fs=\(profile)"))
            formats.append((.opus, "stereo=\(profile % 2);maxaveragebitrate=\(profile)"))
        }
        return formats
    }

    /// Whatever publishers write into their parameters, the payload types suffice: for as many publishers and as many tracks as one likes.
    @Test func nobodyUsesUpThePayloadTypes() throws {
        var media = OutgoingMediaTests.media(lines: 100_000, perPublisher: 16)
        for (number, (codec, parameters)) in Self.codecs().enumerated() {
            let track = OutgoingMediaTests.track(UInt64(number), codec, parameters)
            _ = try media.add(track, of: "\(number / 16)", place: 0, label: "l", cname: "c")
        }
        let offer = media.nextOffer(local: AnsweringTests.local)
        let maps = try #require(offer).split(separator: "\r\n").filter { $0.hasPrefix("a=rtpmap:") }
        // One meaning for each payload type in all of the offer (RFC 9143 §9.1).
        var meanings: [Substring: Set<Substring>] = [:]
        for map in maps {
            let words = map.split(separator: " ")
            meanings[words[0], default: []].insert(words[1])
        }
        #expect(meanings.values.allSatisfy { $0.count == 1 })
        #expect(meanings.count <= 61)
    }

    /// One payload type has the same parameters wherever it is.
    @Test func aPayloadTypeHasOneSetOfParameters() throws {
        var media = OutgoingMediaTests.media(lines: 100_000, perPublisher: 100_000)
        for (number, (codec, parameters)) in Self.codecs().enumerated() {
            let track = OutgoingMediaTests.track(UInt64(number), codec, parameters)
            _ = try media.add(track, of: "p", place: 0, label: "l", cname: "c")
        }
        let offer = media.nextOffer(local: AnsweringTests.local)
        var parameters: [Substring: Set<Substring>] = [:]
        for line in try #require(offer).split(separator: "\r\n") where line.hasPrefix("a=fmtp:") {
            let words = line.split(separator: " ", maxSplits: 1)
            parameters[words[0], default: []].insert(words[1])
        }
        #expect(parameters.values.allSatisfy { $0.count == 1 })
    }

    @Test func onePublisherLeavesOthersTheirMLines() throws {
        let limits = Limits()
        var media = OutgoingMediaTests.media(
            lines: limits.roomMediaSections,
            perPublisher: limits.roomMediaSectionsPerPublisher
        )
        var number: UInt64 = 0
        func add(of publisher: String, _ media: inout OutgoingMedia) throws(NegotiationError) {
            number += 1
            let track = OutgoingMediaTests.track(number, number % 2 == 0 ? .opus : .vp8)
            _ = try media.add(track, of: publisher, place: 0, label: "l", cname: "c")
        }
        for _ in 0..<limits.roomMediaSectionsPerPublisher { try add(of: "greedy", &media) }
        #expect(throws: NegotiationError.self) { try add(of: "greedy", &media) }
        let others = (limits.roomMediaSections - limits.roomMediaSectionsPerPublisher) / 2
        for other in 0..<others {
            try add(of: "\(other)", &media)
            try add(of: "\(other)", &media)
        }
        #expect(media.lineCount == limits.roomMediaSections)
        // What it gives back it may have again.
        _ = media.remove(TrackID(rawValue: 1))
        number = 1_000_002
        try add(of: "greedy", &media)
    }

    @Test func aStreamHasSoManyTracks() throws {
        func source(_ line: Int, _ codec: Codec) -> NegotiatedSource {
            NegotiatedSource(
                line: line,
                parameters: MediaParameters(mid: "\(line)", codec: codec, payloadType: 96),
                encodings: [NegotiatedEncoding()]
            )
        }
        let limits = Limits()
        let most = limits.tracksPerStreamAndKind
        var sources = (1...most).flatMap { [source($0 * 2 - 1, .opus), source($0 * 2, .vp8)] }
        try sources.checkAsStream(limits)
        sources.append(source(77, .av1))
        do throws(NegotiationError) {
            try sources.checkAsStream(limits)
            Issue.record("it was taken")
        } catch {
            #expect(error.kind == .unservable && error.mediaLine == 77)
        }
    }

    /// SRTP's keys live as long as the session, so none of its SSRCs may come again.
    @Test(
        arguments: [(0, 0), (1, 1), (.max, 2), (0xFFFF_FFF0, 7), (5, .max), (0x8000_0000, 0x8000_0000)]
            as [(UInt32, UInt32)]
    )
    func noSSRCComesAgain(first: UInt32, stride: UInt32) {
        var sequence = SSRCSequence(first: first, stride: stride)
        var seen: Set<UInt32> = [0]
        for _ in 0..<200_000 { #expect(seen.insert(sequence.draw()).inserted) }
    }

    @Test func sessionsDontSendWithTheSame() {
        var random = SystemRandomNumberGenerator()
        var seen: Set<UInt32> = []
        for _ in 0..<100 {
            var sequence = SSRCSequence(using: &random)
            seen.insert(sequence.draw())
        }
        #expect(seen.count > 98)
    }

    /// Somebody who subscribes and unsubscribes for hours gets other SSRCs each time.
    @Test func aTrackThatComesAgainHasAnotherSSRC() throws {
        var random = SystemRandomNumberGenerator()
        var media = OutgoingMedia(
            privacy: .transport,
            maximumLines: 2,
            maximumLinesPerPublisher: 2,
            ssrcs: SSRCSequence(using: &random)
        )
        var seen: Set<Substring> = []
        for _ in 0..<500 {
            let track = OutgoingMediaTests.track(1)
            _ = try media.add(track, of: "p", place: 0, label: "l", cname: "c")
            let text = media.nextOffer(local: AnsweringTests.local)
            let offer = try #require(text)
            for line in offer.split(separator: "\r\n") where line.hasPrefix("a=ssrc:") {
                #expect(seen.insert(line).inserted)
            }
            let accepted = try media.accept(answer: OutgoingMediaTests.answer(to: offer))
            #expect(accepted.beginning.count == 1)
            _ = media.remove(track.track)
        }
    }

    /// Two videos of one stream are two tracks of one `MediaStream`.
    @Test func tracksOfAStreamHaveNamesOfTheirOwn() throws {
        var media = OutgoingMediaTests.media()
        for number in 0..<3 {
            let track = OutgoingMediaTests.track(UInt64(number), number == 2 ? .opus : .vp8)
            _ = try media.add(track, of: "p", place: number, label: "stream", cname: "c")
        }
        let offer = media.nextOffer(local: AnsweringTests.local)
        let names = try #require(offer).split(separator: "\r\n").filter { $0.hasPrefix("a=msid:") }
        #expect(names == ["a=msid:stream video0", "a=msid:stream video1", "a=msid:stream audio2"])
    }
}
