/// Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): when each packet
/// of a range of transport sequence numbers arrived.
public enum TransportFeedback {
    /// Arrival times count multiples of 250 µs.
    public static let tickMicroseconds: Int64 = 250
    /// The reference time counts multiples of 64 ms: 256 ticks.
    public static let ticksPerReference: Int64 = 256
    /// An arrival of a packet that did not arrive.
    public static let notReceived = Int64.min

    private enum Status: UInt16 {
        case notReceived = 0
        case smallDelta = 1
        case largeDelta = 2
    }

    /// Appends one feedback packet.
    ///
    /// - Parameters:
    ///   - baseSequence: The transport sequence number of the first arrival.
    ///   - count: A number that grows by one with each feedback packet.
    ///   - arrivals: When each packet arrived, in ticks of a clock that doesn't go back; `notReceived` for those that did
    ///     not. At least one has arrived.
    /// - Returns: How many of the arrivals went in: fewer than given when two are further apart than the format can say,
    ///   or when `maximumBytes` would be exceeded. The rest needs another packet. 0 when nothing was written.
    public static func write(
        sender: UInt32,
        media: UInt32,
        baseSequence: UInt16,
        count: UInt8,
        arrivals: Slice<UnsafeBufferPointer<Int64>>,
        maximumBytes: Int = 1000,
        to buffer: inout [UInt8]
    ) -> Int {
        guard let first = arrivals.first(where: { $0 != notReceived }) else { return 0 }
        let reference = first >= 0 ? first / ticksPerReference : 0
        let accepted = fitting(arrivals, reference: reference, maximumBytes: maximumBytes)
        guard accepted > 0 else { return 0 }
        let range = arrivals.prefix(accepted)

        let start = RTCPWriter.begin(
            RTCPPacket.PacketType.transportFeedback,
            count: Int(RTCPPacket.TransportFormat.transportWide),
            to: &buffer
        )
        buffer.appendBigEndian(sender)
        buffer.appendBigEndian(media)
        buffer.appendBigEndian(baseSequence)
        buffer.appendBigEndian(UInt16(clamping: accepted))
        buffer.appendBigEndian(UInt32(truncatingIfNeeded: reference & 0xFF_FFFF) << 8 | UInt32(count))
        appendChunks(range, reference: reference, to: &buffer)
        appendDeltas(range, reference: reference, to: &buffer)
        // Padded with the P bit set, as the last packet of its compound.
        let padding = (4 - (buffer.count - start) & 3) & 3
        if padding > 0 {
            for _ in 1..<padding { buffer.append(0) }
            buffer.append(UInt8(padding))
            buffer[start] |= 0x20
        }
        RTCPWriter.end(start, in: &buffer)
        return accepted
    }

    private static func status(ofDelta delta: Int64) -> Status? {
        if delta >= 0, delta <= 255 { return .smallDelta }
        return Int16(exactly: delta) == nil ? nil : .largeDelta
    }

    /// How many arrivals one packet can say.
    private static func fitting(_ arrivals: Slice<UnsafeBufferPointer<Int64>>, reference: Int64, maximumBytes: Int)
        -> Int
    {
        var previous = reference * ticksPerReference
        var deltaBytes = 0
        var accepted = 0
        for arrival in arrivals {
            if arrival != notReceived {
                guard let status = status(ofDelta: arrival - previous) else { break }
                deltaBytes += status == .smallDelta ? 1 : 2
                previous = arrival
            }
            // A chunk of two bytes says at least seven packets.
            guard 20 + deltaBytes + (accepted / 7 + 1) * 2 + 3 <= maximumBytes, accepted < 0x1FFF else { break }
            accepted += 1
        }
        return accepted
    }

    /// Run-length chunks where at least seven packets share a status, else vectors of seven two-bit symbols (§3.1.1-3).
    private static func appendChunks(
        _ arrivals: Slice<UnsafeBufferPointer<Int64>>,
        reference: Int64,
        to buffer: inout [UInt8]
    ) {
        var previous = reference * ticksPerReference
        var vector: UInt16 = 0
        var vectorCount = 0
        var run = 0
        var runStatus = Status.notReceived

        func flushVector(_ buffer: inout [UInt8]) {
            guard vectorCount > 0 else { return }
            buffer.appendBigEndian(0xC000 | vector << UInt16((7 - vectorCount) * 2))
            vector = 0
            vectorCount = 0
        }
        func push(_ status: Status, _ buffer: inout [UInt8]) {
            vector = vector << 2 | status.rawValue
            vectorCount += 1
            if vectorCount == 7 { flushVector(&buffer) }
        }
        func flushRun(_ buffer: inout [UInt8], isLast: Bool) {
            // What fills the vector that has begun goes there; vectors that are not the last have to be full.
            while run > 0, vectorCount > 0 {
                push(runStatus, &buffer)
                run -= 1
            }
            if run >= 7 {
                buffer.appendBigEndian(runStatus.rawValue << 13 | UInt16(run))
                run = 0
            }
            while run > 0 {
                push(runStatus, &buffer)
                run -= 1
            }
            if isLast { flushVector(&buffer) }
        }

        for arrival in arrivals {
            var status = Status.notReceived
            if arrival != notReceived {
                status = Self.status(ofDelta: arrival - previous) ?? .notReceived
                previous = arrival
            }
            if run > 0, status != runStatus { flushRun(&buffer, isLast: false) }
            runStatus = status
            run += 1
        }
        flushRun(&buffer, isLast: true)
    }

    private static func appendDeltas(
        _ arrivals: Slice<UnsafeBufferPointer<Int64>>,
        reference: Int64,
        to buffer: inout [UInt8]
    ) {
        var previous = reference * ticksPerReference
        for arrival in arrivals where arrival != notReceived {
            let delta = arrival - previous
            previous = arrival
            if status(ofDelta: delta) == .smallDelta {
                buffer.append(UInt8(truncatingIfNeeded: delta))
            } else {
                buffer.appendBigEndian(UInt16(truncatingIfNeeded: delta))
            }
        }
    }
}
