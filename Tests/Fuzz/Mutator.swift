// Mutations that know what descriptions and messages are made of: lines, m-lines, lists and numbers, and above all many of one. What
// libFuzzer does by itself, byte by byte, is soon refused by the first check and never gets far.

@_silgen_name("LLVMFuzzerMutate")
private func mutateBytes(_ data: UnsafeMutablePointer<UInt8>?, _ count: Int, _ maximum: Int) -> Int

@_cdecl("LLVMFuzzerCustomMutator")
public func mutate(data: UnsafeMutablePointer<UInt8>?, count: Int, maximum: Int, seed: UInt32) -> Int {
    var mutator = Mutator(seed: seed)
    guard let data, let kind = Mutator.Kind.ofTarget, mutator.chance(7, in: 8) else {
        return mutateBytes(data, count, maximum)
    }
    var bytes = Array(UnsafeBufferPointer(start: data, count: count))
    for _ in 0...mutator.number(below: 3) { mutator.mutate(&bytes, kind, maximum: maximum) }
    guard bytes.count <= maximum else { return count }
    for (place, byte) in bytes.enumerated() { data[place] = byte }
    return bytes.count
}

struct Mutator {
    enum Kind {
        case description
        case message

        static let ofTarget: Kind? =
            switch fuzzTargetName {
            case "sdp", "sdpfrag", "offer", "answer": .description
            case "message": .message
            default: nil
            }
    }

    private var state: UInt64

    init(seed: UInt32) { state = UInt64(seed) << 32 | 0x9E37_79B9 }

    private mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func number(below limit: Int) -> Int { limit < 1 ? 0 : Int(next() % UInt64(limit)) }
    mutating func chance(_ count: Int, in all: Int) -> Bool { number(below: all) < count }

    mutating func mutate(_ bytes: inout [UInt8], _ kind: Kind, maximum: Int) {
        switch kind {
        case .description: mutateDescription(&bytes, maximum: maximum)
        case .message: mutateList(&bytes, separators: Array(",:[]{}".utf8), maximum: maximum)
        }
    }

    /// Few, many, or as many as there is room for.
    private mutating func repetitions(of length: Int, room: Int) -> Int {
        guard length > 0, room > 0 else { return 0 }
        return min(1 << number(below: 17), room / length)
    }

    // MARK: Descriptions

    private static let lines = [
        "a=extmap:# urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "a=extmap:# urn:3gpp:video-orientation",
        "a=group:BUNDLE # #", "a=group:BUNDLE 0", "a=rtpmap:# VP8/90000", "a=rtpmap:# H264/90000",
        "a=rtpmap:# rtx/90000",
        "a=rtpmap:# opus/48000/2", "a=fmtp:# apt=#", "a=fmtp:# packetization-mode=#;profile-level-id=42e01f",
        "a=rtcp-fb:# nack pli", "a=rtcp-fb:* transport-cc", "a=rid:# send pt=#", "a=simulcast:send #;#;#",
        "a=ssrc:# cname:x",
        "a=ssrc-group:FID # #", "a=ssrc-group:SIM # # #", "a=mid:#", "a=bundle-only", "a=rtcp-mux", "a=sendonly",
        "a=recvonly",
        "a=inactive", "a=candidate:# 1 udp # 192.0.2.1 9 typ host", "a=ice-ufrag:abcd", "a=setup:passive",
        "a=end-of-candidates",
        "m=video 9 UDP/TLS/RTP/SAVPF # # #", "m=audio 0 UDP/TLS/RTP/SAVPF #",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=x-sluice-privacy:e2ee", "a=sctp-port:#", "a=x",
    ]

    private mutating func mutateDescription(_ bytes: inout [UInt8], maximum: Int) {
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map(Array.init)
        let place = number(below: lines.count)
        let room = maximum - bytes.count
        switch number(below: 8) {
        case 0:
            let line = lines[place]
            let count = repetitions(of: line.count + 1, room: room)
            lines.insert(contentsOf: Array(repeating: line, count: count), at: place)
        case 1:
            // The same with other numbers.
            let line = lines[place]
            let count = repetitions(of: line.count + 7, room: room)
            lines.insert(contentsOf: (0..<count).map { numbered(line, $0) }, at: place)
        case 2: lines.removeSubrange(place..<min(lines.count, place + 1 + number(below: 4)))
        case 3: lines.insert(lines[number(below: lines.count)], at: place)
        case 4:
            let template = Self.lines[number(below: Self.lines.count)]
            var line: [UInt8] = []
            for byte in template.utf8 {
                line += byte == UInt8(ascii: "#") ? Array("\(number(below: 130))".utf8) : [byte]
            }
            lines.insert(line + [0x0D], at: place)
        case 5:
            var line = lines[place]
            mutateList(&line, separators: Array(" ;,=:".utf8), maximum: line.count + room)
            lines[place] = line
        case 6: repeatSection(&lines, room: room)
        default: lines[place] = numbered(lines[place], number(below: 200))
        }
        bytes = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
    }

    /// M-lines like one of those that are there, each with a MID of its own.
    private mutating func repeatSection(_ lines: inout [[UInt8]], room: Int) {
        let starts = lines.indices.filter { lines[$0].starts(with: "m=".utf8) }
        guard !starts.isEmpty else { return }
        let chosen = number(below: starts.count)
        let end = chosen + 1 < starts.count ? starts[chosen + 1] : lines.count
        let section = Array(lines[starts[chosen]..<end])
        let length = section.reduce(0) { $0 + $1.count + 1 }
        let count = min(repetitions(of: length, room: room), 220)
        var mids: [UInt8] = []
        for copy in 0..<count {
            lines += section.map { $0.starts(with: "a=mid:".utf8) ? Array("a=mid:n\(copy)\r".utf8) : $0 }
            mids += Array(" n\(copy)".utf8)
        }
        if let group = lines.firstIndex(where: { $0.starts(with: "a=group:".utf8) }), chance(3, in: 4) {
            lines[group] = lines[group].filter { $0 != 0x0D } + mids + [0x0D]
        }
    }

    /// The first number of a line in place of another.
    private func numbered(_ line: [UInt8], _ number: Int) -> [UInt8] {
        func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
        guard let start = line.firstIndex(where: isDigit) else { return line }
        let end = line[start...].firstIndex { !isDigit($0) } ?? line.count
        return Array(line[..<start]) + Array("\(number)".utf8) + Array(line[end...])
    }

    // MARK: Lists

    /// A piece between separators, or between two of them anywhere, is repeated, left out or put elsewhere.
    private mutating func mutateList(_ bytes: inout [UInt8], separators: [UInt8], maximum: Int) {
        let places = bytes.indices.filter { separators.contains(bytes[$0]) }
        guard !places.isEmpty else { return }
        let first = number(below: places.count)
        let start = places[first]
        let last = min(places.count - 1, first + 1 + number(below: 4))
        let end = last > first ? places[last] : bytes.count
        let piece = Array(bytes[start..<end])
        switch number(below: 6) {
        case 0, 1, 2:
            let count = repetitions(of: piece.count, room: maximum - bytes.count)
            bytes.insert(contentsOf: Array(repeatElement(piece, count: count).joined()), at: start)
        case 3: bytes.removeSubrange(start..<end)
        case 4: bytes.insert(contentsOf: piece, at: places[number(below: places.count)])
        default:
            let insertions = [#"\u0041"#, #"\n"#, "\u{301}", "1e9", "[[[[", "{\"a\":", "]", "}", " ", "0.5", "\"x\""]
            let text = Array(insertions[number(below: insertions.count)].utf8)
            let count = repetitions(of: text.count, room: maximum - bytes.count)
            bytes.insert(contentsOf: Array(repeatElement(text, count: count).joined()), at: start + 1)
        }
    }
}
