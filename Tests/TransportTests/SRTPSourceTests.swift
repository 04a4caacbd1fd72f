import Testing

@testable import Transport

/// What is remembered of the sources that a peer sends.
@Suite struct SRTPSourceTests {
    /// SplitMix64.
    private struct Random: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
            return value ^ value >> 31
        }
    }

    private static func accept(_ index: UInt64, of ssrc: UInt32, in table: inout SRTPSourceTable) -> Bool {
        let place = table.find(ssrc)
        guard table.accepts(index, at: place) else { return false }
        table.note(index, of: ssrc, at: place)
        return true
    }

    @Test func theLongestSilentGivesWayAndAllAreHeard() {
        var table = SRTPSourceTable(capacity: 80)
        for ssrc in UInt32(0)..<2000 {
            #expect(Self.accept(100, of: ssrc, in: &table))
            // One goes on all the time, and keeps its window.
            #expect(Self.accept(UInt64(ssrc) * 2 + 1000, of: 7777, in: &table))
        }
        #expect(Self.accept(4997, of: 7777, in: &table), "out of order")
        for ssrc in UInt32(0)..<2000 {
            #expect(!Self.accept(100, of: ssrc, in: &table), "a replay")
            #expect(!Self.accept(99, of: ssrc, in: &table), "nobody knows any more")
            #expect(Self.accept(101, of: ssrc, in: &table))
        }
    }

    @Test func whatIsRememberedIsBounded() {
        var table = SRTPSourceTable(capacity: 2)
        var ssrc: UInt32 = 0
        while Self.accept(1, of: ssrc, in: &table) { ssrc += 1 }
        #expect(ssrc == 2 + UInt32(SRTPSourceTable.maximumRetired))
        #expect(Self.accept(2, of: 0, in: &table), "those that are known are heard still")
        #expect(!Self.accept(1, of: 1, in: &table))
    }

    /// A sender that starts again may count from below where it began; what was sent already is a replay, wherever the window lies.
    @Test func indexesThatWereNeverUsedAreAccepted() {
        var table = SRTPSourceTable(capacity: 2)
        for index in UInt64(20_000)..<20_100 { #expect(Self.accept(index, of: 1, in: &table)) }
        for index in UInt64(15_000)..<15_100 { #expect(Self.accept(index, of: 1, in: &table)) }
        for index in (UInt64(20_000)..<20_100).reversed() { #expect(!Self.accept(index, of: 1, in: &table)) }
        for index in UInt64(15_000)..<15_100 { #expect(!Self.accept(index, of: 1, in: &table)) }
        for index in UInt64(15_100)..<20_000 { #expect(Self.accept(index, of: 1, in: &table)) }
        for index in UInt64(15_000)..<20_100 { #expect(!Self.accept(index, of: 1, in: &table)) }
        #expect(Self.accept(20_100, of: 1, in: &table))
        for index in UInt64(19_000)..<20_101 { #expect(!Self.accept(index, of: 1, in: &table)) }
    }

    /// Whatever is sent in whatever order, by however many sources: nothing is accepted twice.
    @Test(arguments: UInt64(1)...8) func nothingIsAcceptedTwice(seed: UInt64) {
        var random = Random(state: seed)
        var table = SRTPSourceTable(capacity: 4)
        var accepted: Set<UInt64> = []
        var positions = [UInt64](repeating: 100_000, count: 12)
        for _ in 0..<60_000 {
            let ssrc = Int(random.next() % 12)
            switch random.next() % 200 {
            case 0: positions[ssrc] += random.next() % 20_000
            case 1: positions[ssrc] -= min(positions[ssrc], random.next() % 20_000)
            default: positions[ssrc] += 1
            }
            let index = positions[ssrc] - min(positions[ssrc], random.next() % 4 == 0 ? random.next() % 2000 : 0)
            guard Self.accept(index, of: UInt32(ssrc), in: &table) else { continue }
            #expect(accepted.insert(UInt64(ssrc) << 48 | index).inserted, "seed \(seed), \(ssrc), \(index)")
        }
        #expect(accepted.count > 5000)
    }
}
