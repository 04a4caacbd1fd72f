import Commands
import Foundation
import Testing

@testable import Control

/// Messages as they come from clients; `Tests/EndToEnd/test_hostile_messages.py` has what the server does with them.
@Suite struct ClientMessageTests {
    private static let limits = Limits()

    private static func parse(_ text: String) throws(ClientMessage.Refusal) -> ClientMessage {
        try ClientMessage(parsing: Array(text.utf8), limits: limits)
    }

    private static func refusal(_ text: String) -> ClientMessage.Refusal? {
        do throws(ClientMessage.Refusal) {
            _ = try parse(text)
            return nil
        } catch {
            return error
        }
    }

    @Test func readsEveryField() throws {
        let message = try Self.parse(
            #"{"type":"publish","id":7,"room":"r","token":"t","name":"A\u00e9\ud83d\ude00\n","role":"view","privacy":"e2ee","#
                + #""resume":"x","policy":"all","sdp":"v=0","offer":12,"streams":[{"stream":"s","kind":"camera","mids":["0"],"#
                + #""muted":["audio"],"more":[{}],"more":1}],"stream":"s","muted":[],"paused":true,"peer":"p","action":"ice","to":"q","#
                + #""tracks":[1,0],"encodings":[{"stream":"s","encoding":2,"x":1}],"#
                + #""data": {"a": [1.50, null]} ,"unknown":{"a":[]}}"#
        )
        #expect(message.type == "publish" && message.id == .verbatim("7") && message.name == "Aé😀\n")
        #expect(message.offer == 12 && message.paused == true && message.muted == [])
        #expect(message.streams?.first?.mids == ["0"] && message.streams?.first?.muted == ["audio"])
        #expect(message.tracks == [1, 0])
        #expect(message.encodings?.first?.stream == "s" && message.encodings?.first?.encoding == 2)
        #expect(message.data == .verbatim(#"{"a": [1.50, null]}"#), "what clients send each other is not changed")
    }

    @Test func nullIsAsGoodAsAbsent() throws {
        let message = try Self.parse(#"{"type":"ping","id":null,"room":null,"streams":null,"paused":null,"data":null}"#)
        #expect(message.id == nil && message.room == nil && message.streams == nil && message.paused == nil)
        #expect(message.data == .verbatim("null"), "null is data too")
    }

    @Test(arguments: [
        (#"{}"#, "type is missing."),
        (#"[]"#, "The message has to be an object."),
        (#"{"type":7}"#, "type has to be a string."),
        (#"{"type":"ping","type":"join"}"#, "type is there twice."),
        (#"{"type":"ping","id":{}}"#, "id has to be a string or a number."),
        (#"{"type":"ping","id":true}"#, "id has to be a string or a number."),
        (#"{"type":"publish","streams":[{"stream":"s"}]}"#, "streams.0 has no mids."),
        (#"{"type":"publish","streams":[{"stream":"s","mids":[0]}]}"#, "streams.0.mids.0 has to be a string."),
        (#"{"type":"publish","streams":[{"stream":"s","stream":"t","mids":[]}]}"#, "streams.0.stream is there twice."),
        (#"{"type":"publish","streams":[{"stream":null,"mids":[]}]}"#, "streams.0 has no stream."),
        (
            #"{"type":"update","encodings":[{"stream":"s","encoding":1,"encoding":2}]}"#,
            "encodings.0.encoding is there twice."
        ),
        (#"{"type":"update","encodings":[{"stream":"s"}]}"#, "encodings.0 has no encoding."),
        (#"{"type":"update","encodings":[{"encoding":1}]}"#, "encodings.0 has no stream."),
        (#"{"type":"answer","offer":-1}"#, "offer has to be a whole number."),
        (#"{"type":"answer","offer":1e400}"#, "offer is a number that is too large."),
        (#"{"type":"message","data":1e400}"#, "data is a number that is too large."),
        (#"{"type":"message","data":"\ud800"}"#, "data holds half a surrogate pair."),
        (#"{"type":"update","paused":1}"#, "paused has to be true or false."),
        (#"{"type":"ping"}}"#, "The message is not JSON."),
        (#"{"type":"ping",}"#, "The message is not JSON."),
        (#"{"type":"ping","x":NaN}"#, "The message is not JSON."),
        (#"{"type":"ping","x":01}"#, "The message is not JSON."),
        ("{\"type\":\"ping\",\"x\":\"\t\"}", "The message is not JSON."),
    ])
    func saysWhatIsWrong(text: String, expected: String) {
        #expect(Self.refusal(text) == .wrong(expected))
    }

    @Test func boundsDepthListsAndLengths() throws {
        func nested(_ depth: Int, _ open: String, _ close: String) -> String {
            #"{"type":"message","data":"# + String(repeating: open, count: depth) + "1"
                + String(repeating: close, count: depth) + "}"
        }
        for (open, close) in [("[", "]"), (#"{"a":"#, "}")] {
            _ = try Self.parse(nested(Self.limits.controlMessageDepth - 1, open, close))
            let tooDeep = ClientMessage.Refusal.wrong("The message is nested more than 32 deep.")
            #expect(Self.refusal(nested(Self.limits.controlMessageDepth, open, close)) == tooDeep)
            #expect(Self.refusal(nested(20_000, open, "")) == tooDeep)
        }
        let stream = #"{"stream":"s","mids":[]}"#
        let streams = Array(repeating: stream, count: 5000).joined(separator: ",")
        #expect(
            Self.refusal(#"{"type":"publish","streams":[\#(streams)]}"#) == .wrong("streams has at most 64 entries.")
        )
        #expect(Self.refusal(#"{"type":"ping","id":"\#(String(repeating: "x", count: 65))"}"#) != nil)
        let long = String(repeating: "x", count: Self.limits.controlRequestBytes)
        #expect(Self.refusal(#"{"type":"join","room":"\#(long)"}"#) == .tooLarge(maximum: 32_768))
        #expect(Self.refusal(#"{"type":"publish","sdp":"\#(long)"}"#) == nil)
        #expect(Self.refusal(#"{"type":"message","data":"\#(long.prefix(16_384))"}"#) == .tooLarge(maximum: 16_384))
    }

    @Test func whoseRefusalItIsIsKnown() {
        func identifier(_ text: String) -> JSONValue? {
            ClientMessage.identifier(in: Array(text.utf8), limits: Self.limits)
        }
        #expect(identifier(#"{"type":7,"id":"a"}"#) == .verbatim(#""a""#))
        #expect(identifier(#"{"id":4,"type":"ping"#) == .verbatim("4"))
        #expect(identifier(#"{"id":[],"type":"ping"}"#) == nil)
        #expect(identifier("7") == nil)
    }

    @Test func whatIsNoUTF8IsTold() {
        for bytes in [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82]] as [[UInt8]] {
            let text = Array(#"{"type":"ping","x":""#.utf8) + bytes + Array("\"}".utf8)
            #expect(throws: ClientMessage.Refusal.notUTF8) { try ClientMessage(parsing: text, limits: Self.limits) }
        }
    }

    /// What is written is read again as the same, by another reader too.
    @Test func writesWhatOthersRead() throws {
        let value: JSONValue = [
            "text": "\"\\/\u{0}\u{1F}\n\r\té😀", "whole": 3, "part": .number(0.1), "large": .number(1e300),
            "none": .number(.nan), "list": [.null, true, []], "empty": [:],
        ]
        let read = try #require(
            try JSONSerialization.jsonObject(with: Data(value.encoded.utf8)) as? [String: Any]
        )
        #expect(read["text"] as? String == "\"\\/\u{0}\u{1F}\n\r\té😀")
        #expect(read["whole"] as? Int == 3 && read["part"] as? Double == 0.1 && read["large"] as? Double == 1e300)
        #expect(read["none"] is NSNull)
    }

    // MARK: At random

    /// Valid messages whose bytes are changed, moved, doubled and left out: nothing traps, and nothing is taken for JSON that
    /// Foundation doesn't take for it.
    @Test func mutatedMessagesAreReadOrRefused() {
        var generator = Seeded(state: 0x5EED)
        let valid = [
            #"{"type":"join","id":1,"room":"standup","name":"Ann \u00e9\ud83d\ude00","policy":"all"}"#,
            #"{"type":"publish","id":"2","sdp":"v=0\r\n","streams":[{"stream":"X","kind":"camera","height":720,"mids":["0","1"]}]}"#,
            #"{"type":"message","to":"p","data":{"a":[1,-0.5e-3,true,false,null,"\"\\\/"],"b":{}}}"#,
            #"{"type":"update","stream":"a","paused":true,"muted":["audio"],"action":"mute","peer":"p"}"#,
            #"{"type":"update","stream":"a","tracks":[0,1],"encodings":[{"stream":"a","encoding":2},{"encoding":0}]}"#,
        ].map { Array($0.utf8) }
        let words = [
            "1e400", "-0", "18446744073709551616", "NaN", "null", "[[[[", "}", "\\ud800", "\"", "{\"a\":", ",",
            "\u{FEFF}",
        ]
        .map { Array($0.utf8) }
        var accepted = 0
        for _ in 0..<100_000 {
            var text = valid[generator.below(valid.count)]
            for _ in 0...generator.below(3) { Self.mutate(&text, words, &generator) }
            guard (try? ClientMessage(parsing: text, limits: Self.limits)) != nil else { continue }
            accepted += 1
            // Foundation's is slow.
            guard accepted % 8 == 0 else { continue }
            #expect(
                (try? JSONSerialization.jsonObject(with: Data(text))) != nil,
                "\(String(decoding: text, as: UTF8.self))"
            )
        }
        #expect(accepted > 1000)
    }

    private static func mutate(_ text: inout [UInt8], _ words: [[UInt8]], _ generator: inout Seeded) {
        guard !text.isEmpty else { return }
        let place = generator.below(text.count)
        let end = min(text.count, place + 1 + generator.below(8))
        switch generator.below(5) {
        case 0: text[place] = UInt8(truncatingIfNeeded: generator.next())
        case 1: text.removeSubrange(place..<end)
        case 2: text.insert(contentsOf: text[place..<end], at: generator.below(text.count))
        case 3: text.insert(contentsOf: words[generator.below(words.count)], at: place)
        default: text.replaceSubrange(place..<end, with: words[generator.below(words.count)])
        }
    }

    /// SplitMix64.
    private struct Seeded: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return value ^ (value >> 31)
        }

        mutating func below(_ count: Int) -> Int { Int(next() % UInt64(count)) }
    }
}
