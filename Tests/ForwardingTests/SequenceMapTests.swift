import Simulation
import Testing
import Wire

@testable import Forwarding

/// Whole frames are left out in the middle, and neither the viewer's numbers nor what it asks for again go wrong.
@Suite struct SequenceMapTests {
    private static func outgoing(_ map: SequenceMap, _ sequence: UInt64) -> UInt64? {
        map.span(of: sequence).map { sequence &+ $0.offset }
    }

    private static func incoming(_ map: SequenceMap, _ outgoing: UInt64) -> UInt64? {
        map.span(ofOutgoing: outgoing).map { outgoing &- $0.offset }
    }

    @Test func withoutOmissionsAllGetOneOffset() {
        let map = SequenceMap(first: 100, offset: 0 &- 60, numbering: FrameNumbering())
        #expect(Self.outgoing(map, 100) == 40)
        #expect(Self.outgoing(map, 1_000_000) == 999_940)
        #expect(Self.outgoing(map, 99) == nil)
        #expect(Self.incoming(map, 40) == 100)
        #expect(Self.incoming(map, 39) == nil)
    }

    @Test func whatIsLeftOutLeavesNoGap() {
        var map = SequenceMap(first: 100, offset: 0, numbering: FrameNumbering())
        for sequence in [UInt64(102), 103, 106] { map.omit(sequence, timestamp: 1, countsFrames: false) }
        #expect((100...108).map { Self.outgoing(map, $0) } == [100, 101, nil, nil, 102, 103, nil, 104, 105])
        #expect((100...105).map { Self.incoming(map, $0) } == [100, 101, 104, 105, 107, 108])
    }

    /// What is missing may come late.
    @Test func aGapKeepsItsPlace() {
        var map = SequenceMap(first: 100, offset: 0, numbering: FrameNumbering())
        map.omit(105, timestamp: 1, countsFrames: false)
        #expect((100...107).map { Self.outgoing(map, $0) } == [100, 101, 102, 103, 104, nil, 105, 106])
    }

    @Test func aLeftOutPictureHasNoNumber() {
        var map = SequenceMap(first: 1, offset: 0, numbering: FrameNumbering())
        // Two packets of one picture, and one of another.
        map.omit(2, timestamp: 10, countsFrames: true)
        map.omit(3, timestamp: 10, countsFrames: true)
        map.omit(5, timestamp: 30, countsFrames: true)
        let numbers = [1, 4, 6].map { sequence in
            map.span(of: UInt64(sequence))?.numbering.applied(to: FrameNumbers(pictureID: UInt16(sequence))).pictureID
        }
        #expect(numbers == [1, 3, 4])
    }

    @Test func aLimitHoldsFromItsPacketOn() {
        var map = SequenceMap(first: 1, offset: 5, numbering: FrameNumbering())
        let low = LayerLimit(spatial: 0, temporal: 0)
        map.change(to: low, at: 10)
        #expect(map.span(of: 9)?.limit == LayerLimit.none)
        #expect(map.span(of: 10)?.limit == low)
        #expect(Self.outgoing(map, 9) == 14 && Self.outgoing(map, 10) == 15)
    }

    /// Against a list of all that was sent.
    @Test(arguments: 1...20) func anyHistoryIsMappedBothWays(seed: UInt64) {
        var random = Simulation.Random(state: seed)
        var map = SequenceMap(first: 1000, offset: 0 &- 900, numbering: FrameNumbering())
        var expected: [UInt64: UInt64] = [1000: 100]
        var next: UInt64 = 101
        var sequence: UInt64 = 1000
        for _ in 0..<60 {
            let gap = random.next() % 4 == 0 ? random.next() % 5 : 0
            for _ in 0..<gap {
                sequence += 1
                expected[sequence] = next
                next += 1
            }
            sequence += 1
            if random.next() % 2 == 0 {
                map.omit(sequence, timestamp: UInt32(sequence), countsFrames: true)
            } else {
                expected[sequence] = next
                next += 1
            }
        }
        for number in 1000...sequence { #expect(Self.outgoing(map, number) == expected[number]) }
        for (number, outgoing) in expected { #expect(Self.incoming(map, outgoing) == number) }
    }

    @Test func whatIsTooOldIsNotKnown() {
        var map = SequenceMap(first: 0, offset: 0, numbering: FrameNumbering())
        for sequence in 0..<UInt64(1000) where sequence % 2 == 1 {
            map.omit(sequence, timestamp: UInt32(sequence), countsFrames: false)
        }
        #expect(Self.outgoing(map, 2) == nil && Self.incoming(map, 2) == nil)
        #expect(Self.outgoing(map, 998) == 499 && Self.incoming(map, 499) == 998)
        #expect(Self.outgoing(map, 900) == 450 && Self.incoming(map, 450) == 900)
    }
}

@Suite struct LayerSelectorTests {
    private static func layer(_ spatial: UInt8, _ temporal: UInt8, switches: Bool = false) -> LayerInfo {
        var layer = LayerInfo()
        layer.spatial = spatial
        layer.temporal = temporal
        layer.flags = switches ? [.startsFrame, .endsFrame, .isSwitchPoint] : [.startsFrame, .endsFrame]
        return layer
    }

    /// Whether each of these layers is sent, as pictures of their own.
    private static func sent(_ selector: inout LayerSelector, _ layers: [LayerInfo], from timestamp: UInt32) -> [Bool] {
        layers.enumerated().map { index, layer in
            selector.observe(layer, timestamp: timestamp + UInt32(index), startsKeyframe: false)
            return selector.current.includes(layer)
        }
    }

    @Test func temporalLayersGoAtOnceAndComeAtASwitchPoint() {
        var selector = LayerSelector()
        let pattern = [Self.layer(0, 0, switches: true), Self.layer(0, 2), Self.layer(0, 1), Self.layer(0, 2)]
        #expect(selector.isIdle)
        selector.target.temporal = 0
        #expect(Self.sent(&selector, pattern, from: 1) == [true, false, false, false])
        selector.target = .none
        #expect(Self.sent(&selector, pattern, from: 5) == [true, false, false, false], "no frame to switch at")
        let next = [
            Self.layer(0, 0, switches: true), Self.layer(0, 2), Self.layer(0, 1, switches: true), Self.layer(0, 2),
        ]
        #expect(Self.sent(&selector, next, from: 9) == [true, false, true, false])
        let last = [Self.layer(0, 0, switches: true), Self.layer(0, 2, switches: true)]
        #expect(Self.sent(&selector, last, from: 13) == [true, true])
    }

    @Test func spatialLayersGoWithTheNextPictureAndComeWithAKeyframe() {
        var selector = LayerSelector()
        func observe(_ spatial: UInt8, _ timestamp: UInt32, isKeyframe: Bool = false) -> Bool {
            let layer = Self.layer(spatial, 0, switches: true)
            selector.observe(layer, timestamp: timestamp, startsKeyframe: isKeyframe)
            return selector.current.includes(layer)
        }
        #expect(observe(0, 1, isKeyframe: true) && observe(1, 1))
        selector.target.spatial = 0
        #expect(observe(2, 1), "the picture is sent whole")
        #expect(observe(0, 2) && !observe(1, 2) && !observe(2, 2))
        selector.target = .none
        #expect(observe(0, 3) && !observe(1, 3))
        #expect(selector.current.spatial == 0 && !selector.isIdle)
        #expect(observe(0, 4, isKeyframe: true) && observe(1, 4) && observe(2, 4))
        #expect(selector.isIdle)
    }
}
