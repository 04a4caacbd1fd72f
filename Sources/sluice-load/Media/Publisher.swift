import CLinux
import Glibc
import Transport
import Wire

/// The RTP sources of a publisher, which its offer announces.
struct PublisherSources: Sendable {
    static let audioPayloadType: UInt8 = 111
    static let videoPayloadType: UInt8 = 96
    static let retransmissionPayloadType: UInt8 = 97

    let audio: UInt32
    let video: UInt32
    let retransmission: UInt32

    init(publisher: Int) {
        let base = 0x1000_0000 + UInt32(truncatingIfNeeded: publisher) * 16
        audio = base
        video = base + 1
        retransmission = base + 2
    }
}

/// Sends one stream of test pictures: video frames on time, a keyframe when one is asked for, and Opus packets.
///
/// Confined to the media thread.
final class Publisher {
    private static let audioPayloadBytes = 160
    private static let reportInterval = Duration.seconds(1)
    /// Packets kept to answer NACKs, a power of two.
    private static let historyPackets = 1024
    /// Bytes of one packet with whatever sealing adds.
    private static let packetRoom = 1536
    /// Most bytes and segments of one message (udp(7)).
    private static let messageBytes = 65_000
    private static let messageSegments = 64

    /// A frame on its way.
    private struct Frame {
        let number: UInt32
        let timestamp: UInt32
        let isKeyframe: Bool
        /// Its packets' payloads in bytes.
        let lengths: [Int]
        /// Packets that were sent.
        var sent = 0
        /// Between two packets; zero when it is sent at once.
        let interval: Duration
        /// When its next packet is sent.
        var next: Instant
    }

    let peer: ClientPeer
    private let index: Int
    private let plan: LoadPlan
    private let sources: PublisherSources
    private let slab: UnsafeMutableRawPointer
    private let slabBytes: Int
    /// Sent video payloads with their RTP timestamps, by sequence number.
    private var history: [(sequence: UInt64, timestamp: UInt32, marker: Bool, payload: [UInt8])]

    private var videoSequence: UInt64 = 1
    private var audioSequence: UInt64 = 1
    private var retransmissionSequence: UInt64 = 1
    private var frame: UInt32 = 0
    /// The frame that is being spread over its time.
    private var unfinished: Frame?
    private var audioFrame: UInt32 = 0
    private var nextVideo: Instant?
    private var nextAudio: Instant?
    private var nextReport: Instant?
    private var startedAt: Instant?
    private var wantsKeyframe = true
    private var reportBuffer: [UInt8] = []

    private(set) var packetsSent: UInt64 = 0
    private(set) var framesSent: UInt64 = 0
    private(set) var keyframesSent: UInt64 = 0
    private(set) var keyframeRequests: UInt64 = 0
    private(set) var nacksReceived: UInt64 = 0
    private(set) var packetsRetransmitted: UInt64 = 0
    /// Whether frames are as long as the plan's surge has them.
    var isSurging = false
    /// Whether media stops; the session stays.
    var isPaused = false

    init(index: Int, peer: ClientPeer, plan: LoadPlan) {
        self.index = index
        self.peer = peer
        self.plan = plan
        sources = PublisherSources(publisher: index)
        slabBytes = Self.messageBytes + 2 * Self.packetRoom
        slab = .allocate(byteCount: slabBytes, alignment: 64)
        history = .init(repeating: (0, 0, false, []), count: Self.historyPackets)
    }

    deinit { slab.deallocate() }

    private var audioInterval: Duration { .seconds(1 / plan.audioPacketsPerSecond) }
    /// RTP clock ticks from one audio packet to the next.
    private var audioTicks: UInt32 { UInt32(48_000 / plan.audioPacketsPerSecond) }

    /// When `advance` has to be called next.
    var nextDeadline: Instant {
        guard peer.isConnected, !isPaused else { return .distantFuture }
        let next = min(nextVideo ?? .init(nanoseconds: 0), nextAudio ?? .distantFuture)
        return min(next, unfinished?.next ?? .distantFuture)
    }

    /// Sends what is due.
    func advance(now: Instant) {
        guard peer.isConnected, !isPaused else { return }
        if startedAt == nil {
            startedAt = now
            // Publishers that connected together don't send together.
            nextVideo = now + .microseconds(Int64(index % 16) * 2083)
            if plan.hasAudio { nextAudio = now + .microseconds(Int64(index % 16) * 1250 + 7000) }
            nextReport = now
        }
        // Frames that come too late because this machine is busy are sent at once, but no more than a few.
        var frames = 0
        while let due = nextVideo, due <= now {
            finishFrame()
            beginFrame(now: .now)
            frames += 1
            nextVideo = frames < 4 ? due + .seconds(1 / plan.framesPerSecond) : now + .seconds(1 / plan.framesPerSecond)
        }
        while let due = unfinished?.next, due <= now { sendNextPacket() }
        frames = 0
        while let due = nextAudio, due <= now {
            sendAudio(now: .now)
            frames += 1
            nextAudio = frames < 4 ? due + audioInterval : now + audioInterval
        }
        if let due = nextReport, due <= now {
            sendReports(now: now)
            nextReport = now + Self.reportInterval
        }
    }

    /// Takes an SRTCP packet in.
    func receive(_ datagram: UnsafeMutableRawBufferPointer, now: Instant) {
        guard datagram.count > 1, RTCP.isRTCP(secondByte: datagram[1]),
            case .opened(let length, _)? = peer.opener?.openRTCP(datagram)
        else { return }
        let bytes = UnsafeRawBufferPointer(rebasing: datagram[..<length]).bytes
        var reader = RTCPReader()
        while let packet = try? reader.next(in: bytes) {
            switch packet {
            case .pictureLossIndication, .fullIntraRequest:
                keyframeRequests += 1
                wantsKeyframe = true
            case .nack(_, let media, let lost) where media == sources.video:
                nacksReceived += 1
                for place in 0..<lost.count {
                    let (packet, mask) = lost.item(at: place, in: bytes)
                    retransmit(packet)
                    for bit in 0..<16 where mask & 1 << UInt16(bit) != 0 { retransmit(packet &+ UInt16(bit) &+ 1) }
                }
            default: break
            }
        }
    }

    // MARK: Sending

    /// Sends a frame, or the first packet of one that is spread.
    private func beginFrame(now: Instant) {
        let isKeyframe = wantsKeyframe
        wantsKeyframe = false
        let lengths = plan.payloadLengths(isKeyframe: isKeyframe, surge: isSurging ? plan.surge : 1)
        var begun = Frame(
            number: frame,
            timestamp: UInt32(truncatingIfNeeded: Int((Double(frame) * 90_000 / plan.framesPerSecond).rounded())),
            isKeyframe: isKeyframe,
            lengths: lengths,
            interval: plan.spread / lengths.count,
            next: now
        )
        if plan.spread == .zero {
            send(&begun, packets: lengths.count)
        } else {
            unfinished = begun
            sendNextPacket()
        }
        frame &+= 1
        framesSent += 1
        if isKeyframe { keyframesSent += 1 }
    }

    /// Sends one packet of the frame that is being spread.
    private func sendNextPacket() {
        guard var frame = unfinished else { return }
        send(&frame, packets: 1)
        frame.next = frame.next + frame.interval
        unfinished = frame.sent < frame.lengths.count ? frame : nil
    }

    /// Sends what is left of the frame that is being spread.
    private func finishFrame() {
        guard var frame = unfinished else { return }
        send(&frame, packets: frame.lengths.count - frame.sent)
        unfinished = nil
    }

    /// Sends a frame's next packets, as few messages as they fit in.
    private func send(_ frame: inout Frame, packets: Int) {
        let now = Instant.now
        var used = 0
        var segments = 0
        var segmentBytes = 0
        for place in frame.sent..<(frame.sent + packets) {
            let length = frame.lengths[place]
            let marker = place + 1 == frame.lengths.count
            let isLast = place + 1 == frame.sent + packets
            let sealed = write(
                TestPicture.Stamp(
                    kind: frame.isKeyframe ? .keyframe : .deltaFrame,
                    stream: UInt16(truncatingIfNeeded: index),
                    frame: frame.number,
                    index: UInt16(truncatingIfNeeded: place),
                    count: UInt16(truncatingIfNeeded: frame.lengths.count),
                    sentAt: now.nanoseconds
                ),
                length: length,
                payloadType: PublisherSources.videoPayloadType,
                marker: marker,
                sequence: videoSequence,
                timestamp: frame.timestamp,
                ssrc: sources.video,
                at: slab + used
            )
            videoSequence += 1
            // The next one is written behind this one only if it can be a segment of the same message.
            if segments == 0 { segmentBytes = sealed }
            used += sealed
            segments += 1
            let next = isLast ? 0 : frame.lengths[place + 1]
            let isFull = used + Self.packetRoom > Self.messageBytes || segments == Self.messageSegments
            if isLast || isFull || sealed < segmentBytes || next > length {
                peer.socket.send(UnsafeRawBufferPointer(start: slab, count: used), segmentBytes: segmentBytes)
                used = 0
                segments = 0
            }
        }
        frame.sent += packets
    }

    private func sendAudio(now: Instant) {
        let sealed = write(
            TestPicture.Stamp(
                kind: .audio,
                stream: UInt16(truncatingIfNeeded: index),
                frame: audioFrame,
                index: 0,
                count: 1,
                sentAt: now.nanoseconds
            ),
            length: Self.audioPayloadBytes,
            payloadType: PublisherSources.audioPayloadType,
            marker: false,
            sequence: audioSequence,
            timestamp: audioFrame &* audioTicks,
            ssrc: sources.audio,
            at: slab
        )
        peer.socket.send(UnsafeRawBufferPointer(start: slab, count: sealed), segmentBytes: sealed)
        audioSequence += 1
        audioFrame &+= 1
    }

    /// Writes and seals a packet of a test picture, and keeps it when it is video.
    ///
    /// - Returns: Its length in bytes.
    private func write(
        _ stamp: TestPicture.Stamp,
        length: Int,
        payloadType: UInt8,
        marker: Bool,
        sequence: UInt64,
        timestamp: UInt32,
        ssrc: UInt32,
        at target: UnsafeMutableRawPointer
    ) -> Int {
        let payload = UnsafeMutableRawBufferPointer(start: target + 12, count: length)
        TestPicture.write(stamp, codec: plan.codec, into: payload)
        if stamp.kind != .audio {
            history[Int(sequence) & (Self.historyPackets - 1)] = (sequence, timestamp, marker, Array(payload))
        }
        packetsSent += 1
        return seal(
            payload: length,
            payloadType: payloadType,
            marker: marker,
            sequence: sequence,
            timestamp: timestamp,
            ssrc: ssrc,
            at: target
        )
    }

    /// Writes the header before a payload that lies 12 bytes behind `target`, and seals both.
    private func seal(
        payload: Int,
        payloadType: UInt8,
        marker: Bool,
        sequence: UInt64,
        timestamp: UInt32,
        ssrc: UInt32,
        at target: UnsafeMutableRawPointer
    ) -> Int {
        target.storeBytes(of: 0x80, as: UInt8.self)
        target.storeBytes(of: payloadType | (marker ? 0x80 : 0), toByteOffset: 1, as: UInt8.self)
        target.storeBytes(of: UInt16(truncatingIfNeeded: sequence).bigEndian, toByteOffset: 2, as: UInt16.self)
        target.storeBytes(of: timestamp.bigEndian, toByteOffset: 4, as: UInt32.self)
        target.storeBytes(of: ssrc.bigEndian, toByteOffset: 8, as: UInt32.self)
        return peer.sealer?.seal(
            header: UnsafeRawBufferPointer(start: target, count: 12),
            payload: UnsafeRawBufferPointer(start: target + 12, count: payload),
            rolloverCounter: UInt32(truncatingIfNeeded: sequence >> 16),
            into: target
        ) ?? 0
    }

    /// Sends a video packet again (RFC 4588 §4).
    private func retransmit(_ sequenceNumber: UInt16) {
        let behind = UInt16(truncatingIfNeeded: videoSequence &- 1) &- sequenceNumber
        let kept = history[Int((videoSequence &- 1 &- UInt64(behind)) & UInt64(Self.historyPackets - 1))]
        guard UInt16(truncatingIfNeeded: kept.sequence) == sequenceNumber, !kept.payload.isEmpty else { return }
        slab.storeBytes(of: sequenceNumber.bigEndian, toByteOffset: 12, as: UInt16.self)
        kept.payload.withUnsafeBytes { payload in
            if let base = payload.baseAddress { (slab + 14).copyMemory(from: base, byteCount: payload.count) }
        }
        let sealed = seal(
            payload: kept.payload.count + 2,
            payloadType: PublisherSources.retransmissionPayloadType,
            marker: kept.marker,
            sequence: retransmissionSequence,
            timestamp: kept.timestamp,
            ssrc: sources.retransmission,
            at: slab
        )
        retransmissionSequence += 1
        packetsRetransmitted += 1
        peer.socket.send(UnsafeRawBufferPointer(start: slab, count: sealed), segmentBytes: sealed)
    }

    /// RFC 3550 §6.4.1.
    private func sendReports(now: Instant) {
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        let seconds = UInt64(wall.tv_sec) + 2_208_988_800
        let ntp = seconds << 32 | (UInt64(wall.tv_nsec) << 32) / 1_000_000_000
        reportBuffer.removeAll(keepingCapacity: true)
        let videoClock = UInt32(truncatingIfNeeded: Int(Double(frame) * 90_000 / plan.framesPerSecond))
        for (ssrc, clock, count) in [
            (sources.video, videoClock, videoSequence), (sources.audio, audioFrame &* audioTicks, audioSequence),
        ] where ssrc != sources.audio || plan.hasAudio {
            let report = RTCPPacket.SenderReport(
                ssrc: ssrc,
                ntp: ntp,
                rtpTimestamp: clock,
                packetCount: UInt32(truncatingIfNeeded: count - 1),
                octetCount: 0
            )
            RTCPWriter.senderReport(report, to: &reportBuffer)
            RTCPWriter.sourceDescription(ssrc: ssrc, cname: "sluice-load", to: &reportBuffer)
        }
        peer.sendRTCP(reportBuffer)
    }
}
