import Testing

@testable import Control

/// How long a client's messages are, told from their frames' heads.
@Suite struct FrameLengthsTests {
    private static func frame(_ first: UInt8, _ length: Int, isMasked: Bool = true, declared: UInt64? = nil) -> [UInt8]
    {
        let count = declared ?? UInt64(length)
        let mask: UInt8 = isMasked ? 0x80 : 0
        var bytes = [first]
        switch count {
        case ..<126: bytes.append(mask | UInt8(count))
        case ..<65_536: bytes += [mask | 126, UInt8(count >> 8), UInt8(count & 255)]
        default: bytes += [mask | 127] + (0..<8).reversed().map { UInt8(truncatingIfNeeded: count >> (8 * UInt64($0))) }
        }
        if isMasked { bytes += [1, 2, 3, 4] }
        return bytes + [UInt8](repeating: 0xFF, count: length)
    }

    private static func admits(_ bytes: [UInt8], pieces: Int = .max, maximum: Int = 1000) -> Bool {
        var lengths = FrameLengths()
        var rest = bytes[...]
        while !rest.isEmpty {
            if !lengths.take(rest.prefix(pieces), maximum: maximum) { return false }
            rest = rest.dropFirst(pieces)
        }
        return true
    }

    @Test(arguments: [1, 2, 3, 7, Int.max])
    func messagesOfAnyLengthUpToTheMaximumPass(pieces: Int) {
        let lengths = [0, 1, 125, 126, 127, 128, 999, 1000]
        let all = lengths.flatMap { Self.frame(0x81, $0) + Self.frame(0x82, $0, isMasked: false) }
        #expect(Self.admits(all, pieces: pieces))
        #expect(!Self.admits(all + Self.frame(0x81, 1001), pieces: pieces))
        #expect(Self.admits(all + all, pieces: pieces))
    }

    @Test(arguments: [1, 5, Int.max])
    func fragmentsAreAddedUpAndControlFramesBetweenThemAreNot(pieces: Int) {
        let half = Self.frame(0x01, 500) + Self.frame(0x89, 100) + Self.frame(0x00, 400)
        #expect(Self.admits(half + Self.frame(0x80, 100), pieces: pieces))
        #expect(!Self.admits(half + Self.frame(0x80, 101), pieces: pieces))
        // The next message begins anew.
        #expect(Self.admits(half + Self.frame(0x80, 100) + half + Self.frame(0x80, 100), pieces: pieces))
    }

    @Test(arguments: [UInt64(1001), 65_535, 65_536, 1 << 32, 1 << 63, .max])
    func theHeadAloneIsEnoughToRefuse(length: UInt64) {
        let head = Self.frame(0x81, 0, declared: length)
        #expect(!Self.admits(head))
        #expect(Self.admits(Array(head.dropLast())), "not before it is whole")
        #expect(!Self.admits(Self.frame(0x01, 900) + Self.frame(0x00, 0, declared: length)))
    }

    /// The maximum of the moment counts.
    @Test func whoJoinsMaySendMore() {
        var lengths = FrameLengths()
        let first = lengths.take(Self.frame(0x81, 100), maximum: 100)
        let asGuest = lengths.take(Self.frame(0x81, 200), maximum: 200)
        let asStranger = lengths.take(Self.frame(0x81, 200), maximum: 100)
        #expect(first && asGuest && !asStranger)
    }
}
