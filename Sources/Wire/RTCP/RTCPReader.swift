/// Steps through the packets of an RTCP compound (RFC 3550 §6.1) or a reduced-size packet (RFC 5506).
public struct RTCPReader: Sendable {
    private var offset = 0

    public init() {}

    /// The next packet of `bytes`, the same on each call; nil at their end.
    ///
    /// - Throws: When a length in it reaches beyond what is there. What follows can't be found then.
    public mutating func next(in bytes: RawSpan) throws(RTCPError) -> RTCPPacket? {
        let rest = bytes.byteCount - offset
        guard rest > 0 else { return nil }
        guard rest >= 4 else { throw .truncated(expected: 4, found: rest) }
        let first = bytes.byte(at: offset)
        guard first >> 6 == 2 else { throw .badVersion(first >> 6) }
        let start = offset
        let length = (Int(bytes.uint16(at: start + 2)) + 1) * 4
        guard rest >= length else { throw .truncated(expected: length, found: rest) }
        var end = start + length
        offset = end

        if first & 0x20 != 0 {
            // RFC 3550 §6.4.1: only the last packet of a compound may be padded. It also wants multiples of four, which
            // transport-wide feedback, padded up to its last word, has never kept to.
            let padding = Int(bytes.byte(at: end - 1))
            guard end == bytes.byteCount, padding > 0, padding <= length - 4 else {
                throw .badPadding
            }
            end -= padding
        }
        return try Self.parse(bytes, from: start, to: end, count: first & 0x1F)
    }

    private static func parse(
        _ bytes: RawSpan,
        from start: Int,
        to end: Int,
        count: UInt8
    ) throws(RTCPError) -> RTCPPacket {
        let type = bytes.byte(at: start + 1)
        func need(_ length: Int) throws(RTCPError) {
            guard end - start >= length else { throw .badLength(packetType: type) }
        }
        switch type {
        case RTCPPacket.PacketType.senderReport:
            try need(28 + Int(count) * RTCPPacket.ReportBlock.length)
            return .senderReport(
                RTCPPacket.SenderReport(
                    ssrc: bytes.uint32(at: start + 4),
                    ntp: bytes.uint64(at: start + 8),
                    rtpTimestamp: bytes.uint32(at: start + 16),
                    packetCount: bytes.uint32(at: start + 20),
                    octetCount: bytes.uint32(at: start + 24),
                    reports: RTCPPacket.ReportBlockList(offset: start + 28, count: Int(count))
                )
            )
        case RTCPPacket.PacketType.receiverReport:
            try need(8 + Int(count) * RTCPPacket.ReportBlock.length)
            return .receiverReport(
                sender: bytes.uint32(at: start + 4),
                reports: RTCPPacket.ReportBlockList(offset: start + 8, count: Int(count))
            )
        case RTCPPacket.PacketType.sourceDescription:
            return .sourceDescription
        case RTCPPacket.PacketType.goodbye:
            try need(4 + Int(count) * 4)
            return .goodbye(RTCPPacket.SSRCList(offset: start + 4, count: Int(count)))
        case RTCPPacket.PacketType.transportFeedback, RTCPPacket.PacketType.payloadFeedback:
            try need(12)
            return try feedback(bytes, from: start, to: end, type: type, format: count)
        case RTCPPacket.PacketType.extendedReport:
            try need(8)
            return .extendedReport(sender: bytes.uint32(at: start + 4), offset: start + 8, length: end - start - 8)
        default:
            return .other(packetType: type, format: count)
        }
    }

    /// RFC 4585 §6.1: all feedback begins with the sender's and the media source's SSRC.
    private static func feedback(
        _ bytes: RawSpan,
        from start: Int,
        to end: Int,
        type: UInt8,
        format: UInt8
    ) throws(RTCPError) -> RTCPPacket {
        let sender = bytes.uint32(at: start + 4)
        let media = bytes.uint32(at: start + 8)
        let body = start + 12
        switch (type, format) {
        case (RTCPPacket.PacketType.transportFeedback, RTCPPacket.TransportFormat.nack):
            return .nack(
                sender: sender,
                media: media,
                lost: RTCPPacket.NackList(offset: body, count: (end - body) / 4)
            )
        case (RTCPPacket.PacketType.transportFeedback, RTCPPacket.TransportFormat.transportWide):
            return .transportFeedback(sender: sender, media: media, offset: body, length: end - body)
        case (RTCPPacket.PacketType.payloadFeedback, RTCPPacket.PayloadFormat.pictureLossIndication):
            return .pictureLossIndication(sender: sender, media: media)
        case (RTCPPacket.PacketType.payloadFeedback, RTCPPacket.PayloadFormat.fullIntraRequest):
            return .fullIntraRequest(
                sender: sender,
                requests: RTCPPacket.FullIntraRequestList(offset: body, count: (end - body) / 8)
            )
        case (RTCPPacket.PacketType.payloadFeedback, RTCPPacket.PayloadFormat.applicationLayer):
            guard end - body >= 8, bytes.uint32(at: body) == RTCPPacket.rembIdentifier else {
                return .other(packetType: type, format: format)
            }
            // 8 bits of count, 6 of exponent, 18 of mantissa.
            let sources = Int(bytes.byte(at: body + 4))
            guard end - body - 8 >= sources * 4 else { throw .badLength(packetType: type) }
            let value = bytes.uint24(at: body + 5)
            let exponent = UInt64(value >> 18)
            let mantissa = UInt64(value & 0x3FFFF)
            return .receiverEstimatedMaximumBitrate(
                sender: sender,
                bitsPerSecond: mantissa.leadingZeroBitCount >= Int(exponent) ? mantissa << exponent : .max,
                media: RTCPPacket.SSRCList(offset: body + 8, count: sources)
            )
        default:
            return .other(packetType: type, format: format)
        }
    }
}

/// One block of an extended report (RFC 3611 §3) that tells round-trip times to receivers.
public enum ExtendedReportBlock: Sendable, BitwiseCopyable {
    /// RFC 3611 §4.4: the receiver's wall clock in NTP format.
    case receiverReferenceTime(ntp: UInt64)
    /// RFC 3611 §4.5, one sub-block: when that receiver's last reference time came, both in 1/65536 s.
    case delaySinceLastReceiverReport(ssrc: UInt32, lastReceiverReport: UInt32, delay: UInt32)
}

/// Steps through the blocks of an extended report, skipping those that we don't know.
public struct ExtendedReportReader: Sendable {
    private var offset: Int
    private let end: Int
    private var subBlocks = 0

    /// - Parameters: `offset` and `length` as `RTCPPacket.extendedReport` gave them.
    public init(offset: Int, length: Int) {
        self.offset = offset
        end = offset + length
    }

    /// The next block of `bytes`, the same that the report was read from; nil at the report's end or when a length in it is
    /// wrong.
    public mutating func next(in bytes: RawSpan) -> ExtendedReportBlock? {
        let end = min(end, bytes.byteCount)
        while true {
            if subBlocks > 0 {
                defer {
                    subBlocks -= 1
                    offset += 12
                }
                return .delaySinceLastReceiverReport(
                    ssrc: bytes.uint32(at: offset),
                    lastReceiverReport: bytes.uint32(at: offset + 4),
                    delay: bytes.uint32(at: offset + 8)
                )
            }
            guard offset + 4 <= end else { return nil }
            let type = bytes.byte(at: offset)
            let length = Int(bytes.uint16(at: offset + 2)) * 4
            let body = offset + 4
            guard body + length <= end else { return nil }
            switch type {
            case 4 where length == 8:
                offset = body + length
                return .receiverReferenceTime(ntp: bytes.uint64(at: body))
            case 5 where length % 12 == 0:
                subBlocks = length / 12
                offset = body
            default:
                offset = body + length
            }
        }
    }
}
