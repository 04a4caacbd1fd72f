/// One packet of an RTCP compound (RFC 3550 §6). Lists are kept as places in the bytes that were parsed, so that parsing
/// allocates nothing.
public enum RTCPPacket: Sendable, BitwiseCopyable {
    /// RFC 3550 §6.4.1.
    case senderReport(SenderReport)
    /// RFC 3550 §6.4.2.
    case receiverReport(sender: UInt32, reports: ReportBlockList)
    /// RFC 3550 §6.5. Nothing in it is of use to an SFU: names are not kept.
    case sourceDescription
    /// RFC 3550 §6.6: sources that end.
    case goodbye(SSRCList)
    /// RFC 4585 §6.2.1.
    case nack(sender: UInt32, media: UInt32, lost: NackList)
    /// RFC 4585 §6.3.1.
    case pictureLossIndication(sender: UInt32, media: UInt32)
    /// RFC 5104 §4.3.1.
    case fullIntraRequest(sender: UInt32, requests: FullIntraRequestList)
    /// draft-alvestrand-rmcat-remb-03.
    case receiverEstimatedMaximumBitrate(sender: UInt32, bitsPerSecond: UInt64, media: SSRCList)
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01; `TransportFeedback` reads it.
    case transportFeedback(sender: UInt32, media: UInt32, offset: Int, length: Int)
    /// RFC 3611; `ExtendedReportReader` steps through its blocks.
    case extendedReport(sender: UInt32, offset: Int, length: Int)
    /// A packet that we don't know or don't need.
    case other(packetType: UInt8, format: UInt8)

    /// The sender's part of a sender report.
    public struct SenderReport: Sendable, BitwiseCopyable, Hashable {
        public var ssrc: UInt32
        /// Wall clock: seconds since 1900 in the upper, their fraction in the lower 32 bits.
        public var ntp: UInt64
        public var rtpTimestamp: UInt32
        public var packetCount: UInt32
        /// Payload bytes, without headers and padding.
        public var octetCount: UInt32
        public var reports: ReportBlockList

        public init(
            ssrc: UInt32,
            ntp: UInt64,
            rtpTimestamp: UInt32,
            packetCount: UInt32,
            octetCount: UInt32,
            reports: ReportBlockList = .none
        ) {
            self.ssrc = ssrc
            self.ntp = ntp
            self.rtpTimestamp = rtpTimestamp
            self.packetCount = packetCount
            self.octetCount = octetCount
            self.reports = reports
        }
    }

    /// One report block (RFC 3550 §6.4.1).
    public struct ReportBlock: Sendable, BitwiseCopyable, Hashable {
        public static let length = 24

        public var ssrc: UInt32
        /// Fraction lost since the report before, in 1/256.
        public var fractionLost: UInt8
        /// Cumulative number lost, 24 bits, signed.
        public var packetsLost: Int32
        public var highestSequence: UInt32
        /// Interarrival jitter in timestamp units.
        public var jitter: UInt32
        /// The middle 32 bits of the last sender report's NTP time; 0 before the first.
        public var lastSenderReport: UInt32
        /// Time since that report came, in 1/65536 s.
        public var delaySinceLastSenderReport: UInt32

        public init(
            ssrc: UInt32,
            fractionLost: UInt8,
            packetsLost: Int32,
            highestSequence: UInt32,
            jitter: UInt32,
            lastSenderReport: UInt32,
            delaySinceLastSenderReport: UInt32
        ) {
            self.ssrc = ssrc
            self.fractionLost = fractionLost
            self.packetsLost = packetsLost
            self.highestSequence = highestSequence
            self.jitter = jitter
            self.lastSenderReport = lastSenderReport
            self.delaySinceLastSenderReport = delaySinceLastSenderReport
        }
    }

    /// Report blocks in the bytes that were parsed.
    public struct ReportBlockList: Sendable, BitwiseCopyable, Hashable {
        let offset: Int
        public let count: Int

        /// No blocks.
        public static let none = ReportBlockList(offset: 0, count: 0)

        /// The block at `index`, below `count`, of the same bytes that were parsed.
        public func block(at index: Int, in bytes: RawSpan) -> ReportBlock {
            let start = offset + index * ReportBlock.length
            let lost = bytes.uint24(at: start + 5)
            return ReportBlock(
                ssrc: bytes.uint32(at: start),
                fractionLost: bytes.byte(at: start + 4),
                packetsLost: Int32(bitPattern: lost << 8) >> 8,
                highestSequence: bytes.uint32(at: start + 8),
                jitter: bytes.uint32(at: start + 12),
                lastSenderReport: bytes.uint32(at: start + 16),
                delaySinceLastSenderReport: bytes.uint32(at: start + 20)
            )
        }
    }

    /// SSRCs in the bytes that were parsed.
    public struct SSRCList: Sendable, BitwiseCopyable {
        let offset: Int
        public let count: Int

        /// The SSRC at `index`, below `count`, of the same bytes that were parsed.
        public func ssrc(at index: Int, in bytes: RawSpan) -> UInt32 { bytes.uint32(at: offset + index * 4) }
    }

    /// Generic NACK items: each a packet and a mask of the 16 that follow it.
    public struct NackList: Sendable, BitwiseCopyable {
        let offset: Int
        /// Items; each names 1 to 17 packets.
        public let count: Int

        /// The item at `index`, below `count`, of the same bytes that were parsed.
        public func item(at index: Int, in bytes: RawSpan) -> (packet: UInt16, followingMask: UInt16) {
            (bytes.uint16(at: offset + index * 4), bytes.uint16(at: offset + index * 4 + 2))
        }
    }

    /// Full intra requests.
    public struct FullIntraRequestList: Sendable, BitwiseCopyable {
        let offset: Int
        public let count: Int

        /// The request at `index`, below `count`: the source, and a number that changes with each new request.
        public func request(at index: Int, in bytes: RawSpan) -> (ssrc: UInt32, number: UInt8) {
            (bytes.uint32(at: offset + index * 8), bytes.byte(at: offset + index * 8 + 4))
        }
    }

    /// Packet types (RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §2).
    enum PacketType {
        static let senderReport: UInt8 = 200
        static let receiverReport: UInt8 = 201
        static let sourceDescription: UInt8 = 202
        static let goodbye: UInt8 = 203
        static let transportFeedback: UInt8 = 205
        static let payloadFeedback: UInt8 = 206
        static let extendedReport: UInt8 = 207
    }

    /// Formats of transport layer feedback (RFC 4585 §6.2).
    enum TransportFormat {
        static let nack: UInt8 = 1
        static let transportWide: UInt8 = 15
    }

    /// Formats of payload-specific feedback (RFC 4585 §6.3).
    enum PayloadFormat {
        static let pictureLossIndication: UInt8 = 1
        static let fullIntraRequest: UInt8 = 4
        static let applicationLayer: UInt8 = 15
    }

    /// "REMB" in ASCII.
    static let rembIdentifier: UInt32 = 0x5245_4D42
}
