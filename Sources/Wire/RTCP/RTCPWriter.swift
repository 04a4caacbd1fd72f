/// Appends RTCP packets to a buffer. What is appended one after another is a compound packet.
public enum RTCPWriter {
    /// A sender report (RFC 3550 §6.4.1) with at most 31 report blocks; more are left out.
    public static func senderReport(
        _ report: RTCPPacket.SenderReport,
        blocks: [RTCPPacket.ReportBlock] = [],
        to buffer: inout [UInt8]
    ) {
        let start = begin(RTCPPacket.PacketType.senderReport, count: min(blocks.count, 31), to: &buffer)
        buffer.appendBigEndian(report.ssrc)
        buffer.appendBigEndian(report.ntp)
        buffer.appendBigEndian(report.rtpTimestamp)
        buffer.appendBigEndian(report.packetCount)
        buffer.appendBigEndian(report.octetCount)
        for block in blocks.prefix(31) { append(block, to: &buffer) }
        end(start, in: &buffer)
    }

    /// Most report blocks that one report holds.
    public static let blocksPerReport = 31

    /// A receiver report (RFC 3550 §6.4.2) with at most 31 report blocks; more are left out.
    public static func receiverReport(sender: UInt32, blocks: [RTCPPacket.ReportBlock], to buffer: inout [UInt8]) {
        receiverReport(sender: sender, blocks: blocks[...], to: &buffer)
    }

    /// The same of a part of the blocks.
    public static func receiverReport(
        sender: UInt32,
        blocks: ArraySlice<RTCPPacket.ReportBlock>,
        to buffer: inout [UInt8]
    ) {
        let start = begin(RTCPPacket.PacketType.receiverReport, count: min(blocks.count, 31), to: &buffer)
        buffer.appendBigEndian(sender)
        for block in blocks.prefix(31) { append(block, to: &buffer) }
        end(start, in: &buffer)
    }

    /// A source description with one CNAME (RFC 3550 §6.5.1) of at most 255 bytes.
    public static func sourceDescription(ssrc: UInt32, cname: String, to buffer: inout [UInt8]) {
        let start = begin(RTCPPacket.PacketType.sourceDescription, count: 1, to: &buffer)
        buffer.appendBigEndian(ssrc)
        let name = cname.utf8.prefix(255)
        buffer.append(1)
        buffer.append(UInt8(name.count))
        buffer.append(contentsOf: name)
        // The list of items ends with at least one zero byte and fills its last word.
        repeat { buffer.append(0) } while (buffer.count - start) & 3 != 0
        end(start, in: &buffer)
    }

    /// RFC 3550 §6.6.
    public static func goodbye(ssrc: UInt32, to buffer: inout [UInt8]) {
        let start = begin(RTCPPacket.PacketType.goodbye, count: 1, to: &buffer)
        buffer.appendBigEndian(ssrc)
        end(start, in: &buffer)
    }

    /// A generic NACK (RFC 4585 §6.2.1).
    ///
    /// - Parameter lost: Sequence numbers in ascending order, at least one.
    public static func nack(sender: UInt32, media: UInt32, lost: ArraySlice<UInt16>, to buffer: inout [UInt8]) {
        let start = begin(
            RTCPPacket.PacketType.transportFeedback,
            count: Int(RTCPPacket.TransportFormat.nack),
            to: &buffer
        )
        buffer.appendBigEndian(sender)
        buffer.appendBigEndian(media)
        var rest = lost
        while let packet = rest.popFirst() {
            var mask: UInt16 = 0
            while let next = rest.first {
                let distance = next &- packet
                guard distance >= 1, distance <= 16 else { break }
                mask |= 1 << (distance - 1)
                rest.removeFirst()
            }
            buffer.appendBigEndian(packet)
            buffer.appendBigEndian(mask)
        }
        end(start, in: &buffer)
    }

    /// RFC 4585 §6.3.1.
    public static func pictureLossIndication(sender: UInt32, media: UInt32, to buffer: inout [UInt8]) {
        let start = begin(
            RTCPPacket.PacketType.payloadFeedback,
            count: Int(RTCPPacket.PayloadFormat.pictureLossIndication),
            to: &buffer
        )
        buffer.appendBigEndian(sender)
        buffer.appendBigEndian(media)
        end(start, in: &buffer)
    }

    /// RFC 5104 §4.3.1.
    ///
    /// - Parameter number: Another one with each new request.
    public static func fullIntraRequest(sender: UInt32, media: UInt32, number: UInt8, to buffer: inout [UInt8]) {
        let start = begin(
            RTCPPacket.PacketType.payloadFeedback,
            count: Int(RTCPPacket.PayloadFormat.fullIntraRequest),
            to: &buffer
        )
        buffer.appendBigEndian(sender)
        // RFC 5104 §4.3.1.2: the media source's field is not used.
        buffer.appendBigEndian(UInt32(0))
        buffer.appendBigEndian(media)
        buffer.appendBigEndian(UInt32(number) << 24)
        end(start, in: &buffer)
    }

    /// draft-alvestrand-rmcat-remb-03 §2.2.
    public static func receiverEstimatedMaximumBitrate(
        sender: UInt32,
        bitsPerSecond: UInt64,
        media: [UInt32],
        to buffer: inout [UInt8]
    ) {
        let start = begin(
            RTCPPacket.PacketType.payloadFeedback,
            count: Int(RTCPPacket.PayloadFormat.applicationLayer),
            to: &buffer
        )
        buffer.appendBigEndian(sender)
        buffer.appendBigEndian(UInt32(0))
        buffer.appendBigEndian(RTCPPacket.rembIdentifier)
        let significant = max(0, UInt64.bitWidth - bitsPerSecond.leadingZeroBitCount - 18)
        let mantissa = UInt32(truncatingIfNeeded: bitsPerSecond >> UInt64(significant))
        let sources = media.prefix(255)
        buffer.appendBigEndian(UInt32(sources.count) << 24 | UInt32(significant) << 18 | mantissa)
        for ssrc in sources { buffer.appendBigEndian(ssrc) }
        end(start, in: &buffer)
    }

    /// An extended report that tells a receiver when its last reference time came (RFC 3611 §4.5).
    public static func delaySinceLastReceiverReport(
        sender: UInt32,
        ssrc: UInt32,
        lastReceiverReport: UInt32,
        delay: UInt32,
        to buffer: inout [UInt8]
    ) {
        let start = begin(RTCPPacket.PacketType.extendedReport, count: 0, to: &buffer)
        buffer.appendBigEndian(sender)
        buffer.appendBigEndian(UInt32(5) << 24 | 3)
        buffer.appendBigEndian(ssrc)
        buffer.appendBigEndian(lastReceiverReport)
        buffer.appendBigEndian(delay)
        end(start, in: &buffer)
    }

    /// Appends a packet's header, whose length `end` fills in.
    ///
    /// - Returns: Where the packet begins in the buffer.
    static func begin(_ type: UInt8, count: Int, to buffer: inout [UInt8]) -> Int {
        let start = buffer.count
        buffer.append(0x80 | UInt8(truncatingIfNeeded: count & 0x1F))
        buffer.append(type)
        buffer.appendBigEndian(UInt16(0))
        return start
    }

    /// Fills in the length of the packet that begins at `start` and ends at the buffer's end.
    static func end(_ start: Int, in buffer: inout [UInt8]) {
        let words = UInt16(clamping: (buffer.count - start) / 4 - 1)
        buffer[start + 2] = UInt8(truncatingIfNeeded: words >> 8)
        buffer[start + 3] = UInt8(truncatingIfNeeded: words)
    }

    private static func append(_ block: RTCPPacket.ReportBlock, to buffer: inout [UInt8]) {
        buffer.appendBigEndian(block.ssrc)
        // RFC 3550 A.3: the cumulative number lost is clamped to 24 bits.
        let lost = UInt32(bitPattern: min(max(block.packetsLost, -0x80_0000), 0x7F_FFFF)) & 0xFF_FFFF
        buffer.appendBigEndian(UInt32(block.fractionLost) << 24 | lost)
        buffer.appendBigEndian(block.highestSequence)
        buffer.appendBigEndian(block.jitter)
        buffer.appendBigEndian(block.lastSenderReport)
        buffer.appendBigEndian(block.delaySinceLastSenderReport)
    }
}
