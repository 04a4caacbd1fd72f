import Testing
import Wire

@Suite struct RTCPTests {
    /// All packets of a compound; the arrays they point into stay with the caller.
    private func packets(_ bytes: [UInt8]) throws -> [RTCPPacket] {
        var reader = RTCPReader()
        var packets: [RTCPPacket] = []
        while let packet = try reader.next(in: bytes.span.bytes) { packets.append(packet) }
        return packets
    }

    @Test func readsTheSenderReportThatItWrites() throws {
        let block = RTCPPacket.ReportBlock(
            ssrc: 7,
            fractionLost: 64,
            packetsLost: -5,
            highestSequence: 0x1_0002,
            jitter: 99,
            lastSenderReport: 0xAABB_CCDD,
            delaySinceLastSenderReport: 65536
        )
        let report = RTCPPacket.SenderReport(
            ssrc: 0x1122_3344,
            ntp: 0x8899_AABB_CCDD_EEFF,
            rtpTimestamp: 5,
            packetCount: 6,
            octetCount: 7
        )
        var bytes: [UInt8] = []
        RTCPWriter.senderReport(report, blocks: [block], to: &bytes)
        RTCPWriter.sourceDescription(ssrc: report.ssrc, cname: "name", to: &bytes)
        RTCPWriter.goodbye(ssrc: 9, to: &bytes)
        let all = try packets(bytes)
        #expect(all.count == 3)
        guard case .senderReport(let read) = all[0], case .sourceDescription = all[1], case .goodbye(let list) = all[2]
        else {
            Issue.record("other packets: \(all)")
            return
        }
        #expect((read.ssrc, read.ntp, read.rtpTimestamp) == (report.ssrc, report.ntp, 5))
        #expect((read.packetCount, read.octetCount) == (6, 7))
        #expect(read.reports.count == 1)
        let readBlock = read.reports.block(at: 0, in: bytes.span.bytes)
        #expect(readBlock == block)
        let left = list.ssrc(at: 0, in: bytes.span.bytes)
        #expect(left == 9)
    }

    @Test func aNackNamesThePacketsItWasGiven() throws {
        let lost: [UInt16] = [3, 4, 19, 20, 21, 37, 65535]
        var bytes: [UInt8] = []
        RTCPWriter.nack(sender: 1, media: 2, lost: lost[...], to: &bytes)
        guard case .nack(1, 2, let list)? = try packets(bytes).first else {
            Issue.record("no NACK")
            return
        }
        var named: [UInt16] = []
        for index in 0..<list.count {
            let (packet, mask) = list.item(at: index, in: bytes.span.bytes)
            named.append(packet)
            for bit in 0..<16 where mask & 1 << UInt16(bit) != 0 { named.append(packet &+ UInt16(bit) &+ 1) }
        }
        #expect(named == lost)
    }

    @Test func readsTheKeyframeRequestsAndBitratesThatItWrites() throws {
        var bytes: [UInt8] = []
        RTCPWriter.pictureLossIndication(sender: 1, media: 2, to: &bytes)
        RTCPWriter.fullIntraRequest(sender: 1, media: 3, number: 4, to: &bytes)
        let all = try packets(bytes)
        guard case .pictureLossIndication(1, 2) = all[0], case .fullIntraRequest(1, let requests) = all[1] else {
            Issue.record("other packets: \(all)")
            return
        }
        let request = requests.request(at: 0, in: bytes.span.bytes)
        #expect((request.ssrc, request.number) == (3, 4))

        for bitrate in [0, 1, 262_143, 262_144, 20_000_000, 10_000_000_000] as [UInt64] {
            bytes = []
            RTCPWriter.receiverEstimatedMaximumBitrate(sender: 1, bitsPerSecond: bitrate, media: [5], to: &bytes)
            guard case .receiverEstimatedMaximumBitrate(1, let read, let media)? = try packets(bytes).first else {
                Issue.record("no REMB")
                return
            }
            // 18 bits of mantissa.
            #expect(read <= bitrate && bitrate - read <= bitrate >> 17)
            let source = media.ssrc(at: 0, in: bytes.span.bytes)
            #expect(source == 5)
        }
    }

    @Test func readsReceiverReferenceTimes() throws {
        var bytes = hex("80cf 0004 00000001 04 00 0002 0102030405060708")
        RTCPWriter.delaySinceLastReceiverReport(sender: 2, ssrc: 3, lastReceiverReport: 4, delay: 5, to: &bytes)
        let all = try packets(bytes)
        guard case .extendedReport(1, let first, let firstLength) = all[0],
            case .extendedReport(2, let second, let secondLength) = all[1]
        else {
            Issue.record("other packets: \(all)")
            return
        }
        var reader = ExtendedReportReader(offset: first, length: firstLength)
        guard case .receiverReferenceTime(0x0102_0304_0506_0708)? = reader.next(bytes) else {
            Issue.record("no reference time")
            return
        }
        reader = ExtendedReportReader(offset: second, length: secondLength)
        guard case .delaySinceLastReceiverReport(3, 4, 5)? = reader.next(bytes) else {
            Issue.record("no delay")
            return
        }
        let end = reader.next(bytes)
        #expect(end.map { "\($0)" } == nil)
    }

    @Test func refusesLengthsThatReachTooFar() {
        for text in [
            "81c8 0006 00000001 0000000000000000 00000000 00000000 00000000",  // a block that is not there
            "80c9 0002 00000001",  // longer than the datagram
            "40c9 0001 00000001",  // version 1
            "a0c9 0001 00000000",  // padding of 0
            "a0c9 0001 00000001 80c9 0001 00000001",  // padding in the middle
            "80c9 0001 0000",
        ] {
            #expect(throws: RTCPError.self, "\(text)") { try packets(hex(text)) }
        }
    }
}

/// Transport-wide congestion control feedback.
@Suite struct TransportFeedbackTests {
    private func write(_ arrivals: [Int64], base: UInt16 = 100, maximumBytes: Int = 1000) -> ([UInt8], Int) {
        var bytes: [UInt8] = []
        let written = arrivals.withUnsafeBufferPointer {
            TransportFeedback.write(
                sender: 1,
                media: 2,
                baseSequence: base,
                count: 3,
                arrivals: $0[...],
                maximumBytes: maximumBytes,
                to: &bytes
            )
        }
        return (bytes, written)
    }

    private func read(_ bytes: [UInt8]) throws -> [Int64?] {
        var reader = RTCPReader()
        guard case .transportFeedback(1, 2, let offset, let length)? = try reader.next(in: bytes.span.bytes) else {
            return []
        }
        guard let feedback = TransportFeedbackReader(offset: offset, length: length, in: bytes.span.bytes) else {
            return []
        }
        #expect(feedback.number == 3)
        return arrivals(of: feedback, in: bytes)
    }

    private func arrivals(of feedback: TransportFeedbackReader, in bytes: [UInt8]) -> [Int64?] {
        var feedback = feedback
        var arrivals: [Int64?] = []
        while let item = feedback.next(in: bytes.span.bytes) {
            switch item {
            case .received(let ticks): arrivals.append(ticks)
            case .missing(let count): arrivals += [Int64?](repeating: nil, count: count)
            }
        }
        return arrivals
    }

    @Test func saysWhatArrivedAndWhen() throws {
        var random = SplitMix(state: 7)
        for _ in 0..<500 {
            var now: Int64 = 1_000_000
            var arrivals: [Int64] = []
            let loss = random.next() % 3
            for _ in 0..<(1 + random.next() % 300) {
                now += Int64(random.next() % 400) - 20
                arrivals.append(random.next() % 4 < loss ? TransportFeedback.notReceived : now)
            }
            guard arrivals.contains(where: { $0 != TransportFeedback.notReceived }) else { continue }
            let (bytes, written) = write(arrivals)
            #expect(bytes.count % 4 == 0 && bytes.count <= 1004)
            #expect(written > 0)
            let expected = arrivals.prefix(written).map { $0 == TransportFeedback.notReceived ? nil : $0 }
            #expect(try read(bytes) == expected)
        }
    }

    @Test func longRunsTakeFewBytes() throws {
        let (bytes, written) = write((0..<500).map { 1_000_000 + Int64($0) })
        #expect(written == 500)
        // One run-length chunk for the small deltas, and the first, which is up to 64 ms from the reference, may be one more.
        #expect(bytes.count <= 20 + 3 * 2 + 501 + 3)
    }

    @Test func stopsWhereTheFormatEnds() {
        // Two packets more than 8 s apart don't fit one report.
        let (_, written) = write([1_000_000, 1_000_001, 1_000_001 + 40_000])
        #expect(written == 2)
        #expect(write([TransportFeedback.notReceived]).1 == 0)
    }

    @Test func aReportThatEndsTooEarlyIsNone() throws {
        let (bytes, _) = write([1_000_000, 1_000_300, TransportFeedback.notReceived, 1_000_310])
        for length in 0..<(bytes.count - 12) {
            // Without the padding the last bytes are deltas that a shorter report lacks.
            if let read = TransportFeedbackReader(offset: 12, length: length, in: bytes.span.bytes) {
                #expect(arrivals(of: read, in: bytes).count == 4)
            }
        }
    }

    /// 65,535 packets that did not arrive take 18 bytes to say, and no more steps than that to read.
    @Test func manyMissingPacketsAreReadInFewSteps() throws {
        let bytes: [UInt8] =
            [0, 1, 0xFF, 0xFF, 0, 0, 0, 3]
            + (0..<8).flatMap { _ in [0x1F, 0xFF] as [UInt8] } + [0x00, 0x07]
        let read = TransportFeedbackReader(offset: 0, length: bytes.count, in: bytes.span.bytes)
        var feedback = try #require(read)
        var missing = 0
        var steps = 0
        while case .missing(let count)? = feedback.next(in: bytes.span.bytes) {
            missing += count
            steps += 1
        }
        #expect(missing == 65_535 && steps == 9)
    }

    @Test func aChunkThatSaysNothingIsRefused() {
        let bytes: [UInt8] = [0, 1, 0, 1, 0, 0, 0, 3, 0, 0]
        #expect(TransportFeedbackReader(offset: 0, length: bytes.count, in: bytes.span.bytes) == nil)
    }
}

/// A small seeded generator: SplitMix64.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
