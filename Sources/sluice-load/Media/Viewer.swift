import Transport
import Wire

/// Watches streams: counts what comes, tells whole frames from broken ones, reports to the server, and, when it is one of those
/// that verify, decrypts and checks every payload.
///
/// Confined to the media thread.
final class Viewer {
    /// Most packets that one NACK asks for.
    private static let maximumNackedPackets = 64
    /// Most report blocks of one receiver report (RFC 3550 §6.4.2).
    private static let blocksPerReport = 31

    /// One RTP source that comes in.
    private struct Source {
        let ssrc: UInt32
        let isVideo: Bool
        var unwrapper = SequenceNumberUnwrapper()
        var first: UInt64 = 0
        var highest: UInt64 = 0
        var received: UInt64 = 0
        /// At the last receiver report.
        var reportedExpected: UInt64 = 0
        var reportedReceived: UInt64 = 0
        /// Of the frame that is coming in: whether nothing of it is missing so far.
        var isIntact = true
        var isWithinFrame = false
        var timestamp: UInt32 = 0
    }

    /// What a viewer counts, in all or within the measured window.
    struct Counts {
        /// RTP packets that came, retransmissions left out.
        var packets: UInt64 = 0
        var bytes: UInt64 = 0
        var audioPackets: UInt64 = 0
        /// Sequence numbers that were missing when later ones came.
        var lost: UInt64 = 0
        var retransmissions: UInt64 = 0
        var wholeFrames: UInt64 = 0
        /// Frames with a packet missing in them.
        var brokenFrames: UInt64 = 0
        /// Frames whose end never came although the sequence numbers have no gap: half a frame was sent.
        var halfFrames: UInt64 = 0
        /// Payloads that were decrypted and were what was sent, and those that weren't.
        var verified: UInt64 = 0
        var corrupt: UInt64 = 0
    }

    let index: Int
    let peer: ClientPeer
    let isVerified: Bool
    /// Monotonic nanoseconds at which it asked for its stream.
    let startedAt: UInt64
    private let payloadTypes: InlineArray<128, UInt8>
    private let plan: LoadPlan
    private var sources: ContiguousArray<Source> = []
    private var random: UInt64
    private var missing: [UInt16] = []
    private var rtcpBuffer: [UInt8] = []

    private(set) var counts = Counts()
    /// Time from asking to the first whole frame.
    private(set) var timeToPicture: Duration?
    private(set) var lastWholeFrame: Instant?
    /// Sequence numbers missed when the others began to join.
    var lostBefore: UInt64 = 0
    /// Counts when the surge began and when it ended.
    var surgeStart = Counts()
    var surgeEnd = Counts()
    /// Counts when the window began.
    var windowStart = Counts()

    init(index: Int, startedAt: UInt64, peer: ClientPeer, payloadTypes: [UInt8: PeerPlan.Media], plan: LoadPlan) {
        self.index = index
        self.peer = peer
        self.startedAt = startedAt
        self.plan = plan
        let verified = plan.verifiedViewers
        isVerified = index * verified / plan.viewers != (index + 1) * verified / plan.viewers
        random = UInt64(index + 1) &* 0x9E37_79B9_7F4A_7C15
        var kinds = InlineArray<128, UInt8>(repeating: 0)
        for (type, media) in payloadTypes {
            kinds[Int(type & 127)] =
                switch media {
                case .audio: 1
                case .video: 2
                case .retransmission: 3
                }
        }
        self.payloadTypes = kinds
    }

    /// Streams whose video came.
    var streamsReceived: Int { sources.count(where: \.isVideo) }

    /// Takes an SRTP or SRTCP datagram in.
    func receive(_ datagram: UnsafeMutableRawBufferPointer, latency: inout LatencyByKind, now: Instant) {
        guard datagram.count > 12, !RTCP.isRTCP(secondByte: datagram[1]) else { return }
        if plan.loss > 0, isLost() { return }
        let kind = payloadTypes[Int(datagram[1] & 0x7F)]
        guard kind != 0 else { return }
        guard kind != 3 else {
            counts.retransmissions += 1
            return
        }
        let sequenceNumber = UInt16(datagram[2]) << 8 | UInt16(datagram[3])
        let timestamp = UInt32(bigEndian: datagram.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        let ssrc = UInt32(bigEndian: datagram.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        let place = source(ssrc, isVideo: kind == 2)
        let isNew = note(sequenceNumber, timestamp: timestamp, marker: datagram[1] & 0x80 != 0, at: place, now: now)
        guard isNew else { return }
        counts.packets += 1
        counts.bytes += UInt64(datagram.count)
        if kind == 1 { counts.audioPackets += 1 }
        if isVerified { verify(datagram, isVideo: kind == 2, latency: &latency, now: now) }
    }

    /// Asks again for what was found missing since the last call.
    func sendNacks() {
        guard !missing.isEmpty, let video = sources.first(where: \.isVideo) else { return }
        rtcpBuffer.removeAll(keepingCapacity: true)
        RTCPWriter.nack(sender: 1, media: video.ssrc, lost: missing[...], to: &rtcpBuffer)
        peer.sendRTCP(rtcpBuffer)
        missing.removeAll(keepingCapacity: true)
    }

    /// Sends a receiver report (RFC 3550 §6.4.2).
    func sendReport() {
        guard !sources.isEmpty else { return }
        var blocks: [RTCPPacket.ReportBlock] = []
        for place in sources.indices {
            let expected = sources[place].highest - sources[place].first + 1
            let newlyExpected = expected - sources[place].reportedExpected
            let newlyReceived = sources[place].received - sources[place].reportedReceived
            let lost = newlyExpected > newlyReceived ? newlyExpected - newlyReceived : 0
            sources[place].reportedExpected = expected
            sources[place].reportedReceived = sources[place].received
            blocks.append(
                RTCPPacket.ReportBlock(
                    ssrc: sources[place].ssrc,
                    fractionLost: newlyExpected == 0 ? 0 : UInt8(clamping: lost * 256 / newlyExpected),
                    packetsLost: Int32(clamping: Int64(expected) - Int64(sources[place].received)),
                    highestSequence: UInt32(truncatingIfNeeded: sources[place].highest),
                    jitter: 0,
                    lastSenderReport: 0,
                    delaySinceLastSenderReport: 0
                )
            )
        }
        rtcpBuffer.removeAll(keepingCapacity: true)
        for start in stride(from: 0, to: blocks.count, by: Self.blocksPerReport) {
            let part = Array(blocks[start..<min(start + Self.blocksPerReport, blocks.count)])
            RTCPWriter.receiverReport(sender: 1, blocks: part, to: &rtcpBuffer)
        }
        RTCPWriter.sourceDescription(ssrc: 1, cname: "sluice-load", to: &rtcpBuffer)
        peer.sendRTCP(rtcpBuffer)
    }

    private func source(_ ssrc: UInt32, isVideo: Bool) -> Int {
        for place in sources.indices where sources[place].ssrc == ssrc { return place }
        sources.append(Source(ssrc: ssrc, isVideo: isVideo))
        return sources.count - 1
    }

    /// Counts a packet and what is missing before it, and follows the frame it is part of.
    ///
    /// - Returns: False for a packet that is older than one that has come.
    private func note(_ number: UInt16, timestamp: UInt32, marker: Bool, at place: Int, now: Instant) -> Bool {
        let sequence = sources[place].unwrapper.unwrap(number)
        let isFirst = sources[place].received == 0
        guard isFirst || sequence > sources[place].highest else {
            sources[place].received += 1
            return false
        }
        if isFirst {
            sources[place].first = sequence
        } else if sequence > sources[place].highest + 1 {
            let gap = sequence - sources[place].highest - 1
            counts.lost += gap
            if sources[place].isVideo {
                sources[place].isIntact = false
                noteMissing(from: sources[place].highest + 1, count: gap)
            }
        }
        sources[place].highest = sequence
        sources[place].received += 1
        guard sources[place].isVideo else { return true }

        if sources[place].isWithinFrame, sources[place].timestamp != timestamp {
            if sources[place].isIntact { counts.halfFrames += 1 } else { counts.brokenFrames += 1 }
            sources[place].isIntact = true
        }
        sources[place].timestamp = timestamp
        sources[place].isWithinFrame = !marker
        if marker {
            if sources[place].isIntact {
                counts.wholeFrames += 1
                lastWholeFrame = now
                if timeToPicture == nil { timeToPicture = now - Instant(nanoseconds: startedAt) }
            } else {
                counts.brokenFrames += 1
            }
            sources[place].isIntact = true
        }
        return true
    }

    private func noteMissing(from first: UInt64, count: UInt64) {
        guard plan.sendsNacks else { return }
        let wanted = min(count, UInt64(max(0, Self.maximumNackedPackets - missing.count)))
        for offset in 0..<wanted { missing.append(UInt16(truncatingIfNeeded: first + offset)) }
    }

    private func verify(
        _ datagram: UnsafeMutableRawBufferPointer,
        isVideo: Bool,
        latency: inout LatencyByKind,
        now: Instant
    ) {
        guard let opener = peer.opener, let header = try? RTPHeader(parsing: UnsafeRawBufferPointer(datagram).bytes),
            case .opened(let length, _) = opener.open(datagram, header: header),
            let padding = try? header.paddingLength(in: UnsafeRawBufferPointer(rebasing: datagram[..<length]).bytes),
            header.payloadOffset <= length - padding,
            let stamp = TestPicture.read(
                UnsafeRawBufferPointer(rebasing: datagram[header.payloadOffset..<(length - padding)])
            ), (stamp.kind != .audio) == isVideo
        else {
            counts.corrupt += 1
            return
        }
        counts.verified += 1
        let nanoseconds = now.nanoseconds > stamp.sentAt ? now.nanoseconds - stamp.sentAt : 0
        if isVideo { latency.video.record(nanoseconds) } else { latency.audio.record(nanoseconds) }
    }

    private func isLost() -> Bool {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return Double(random >> 11) * 0x1p-53 < plan.loss
    }
}
