import Commands
import Transport
import Wire

/// One track forwarded to one peer: rewrites the publisher's packets into one continuous RTP source of our own.
final class Subscription {
    /// What happened to a packet that was to be forwarded.
    enum Outcome {
        case forwarded
        /// It starts no keyframe, and the viewer's decoder can't start without one.
        case awaitsKeyframe
        /// It precedes the packet that the viewer started with, or belongs to no encoding that is forwarded.
        case skipped
    }

    /// A viewer's retransmissions may at most equal what was forwarded to it, plus this many packets.
    private static let retransmissionBurst = 256

    unowned let peer: Peer
    unowned let track: Track
    let ssrc: UInt32
    let retransmissionSSRC: UInt32?
    let cname: String
    let clockRate: UInt32

    private let header: OutgoingHeader
    private let retransmissionHeader: OutgoingHeader?
    private let needsKeyframe: Bool

    /// How the encoding that is forwarded maps onto our source.
    private struct Mapping {
        var generation: UInt32
        /// The packet that the viewer started with.
        var firstSequence: UInt64
        /// Added, with wrapping, to the publisher's extended sequence number.
        var sequenceOffset: UInt64
        /// Added, with wrapping, to the publisher's timestamps.
        var timestampOffset: UInt32
    }

    private var mapping: Mapping?
    /// Our next extended sequence number. Its upper bits are SRTP's rollover counter, so it starts below 2^15
    /// (RFC 3711 §3.3.1 wants room before the first wrap).
    private var nextSequence: UInt64
    private var lastTimestamp: UInt32 = 0
    private var lastSentAt: Instant?
    private var nextRetransmissionSequence: UInt64
    private var retransmissionCredit = Subscription.retransmissionBurst
    /// Until the viewer reports on our SSRC, each packet says which m-line it belongs to (RFC 9143 §14).
    private var viewerKnowsSource = false

    private(set) var packetsForwarded: UInt64 = 0
    private(set) var packetsRetransmitted: UInt64 = 0
    private(set) var bytesSent: UInt64 = 0
    private(set) var payloadBytesSent: UInt64 = 0
    var nacksReceived: UInt64 = 0
    var keyframeRequestsReceived: UInt64 = 0
    private(set) var fractionLost: Double = 0
    private(set) var roundTrip: Duration?
    private var lastReport: (middleNTP: UInt32, sentAt: Instant)?

    init(_ description: SubscribedTrack, peer: Peer, track: Track) {
        self.peer = peer
        self.track = track
        ssrc = description.ssrc
        cname = description.cname
        let parameters = description.parameters
        clockRate = parameters.codec.clockRate
        needsKeyframe = parameters.codec.kind == .video
        if let payloadType = parameters.retransmissionPayloadType, let ssrc = description.retransmissionSSRC {
            retransmissionSSRC = ssrc
            retransmissionHeader = OutgoingHeader(parameters, payloadType: payloadType, repeatsExactly: false)
        } else {
            retransmissionSSRC = nil
            retransmissionHeader = nil
        }
        header = OutgoingHeader(
            parameters,
            payloadType: parameters.payloadType,
            repeatsExactly: retransmissionHeader == nil
        )
        // Both depend on random SSRCs, so they are as unpredictable as RFC 3550 §5.1 wants them.
        nextSequence = UInt64(ssrc & 0x3FFF) + 1
        nextRetransmissionSequence = UInt64((ssrc >> 14) & 0x3FFF) + 1
    }

    /// Whether the viewer waits for a keyframe of the encoding that is forwarded now.
    var awaitsKeyframe: Bool {
        needsKeyframe && (mapping == nil || mapping?.generation != track.encoding?.generation)
    }

    /// Forwards one packet of `encoding`: step 6 of the data path.
    ///
    /// The batch must not be full.
    @inline(__always)
    func forward(
        _ sequence: UInt64,
        of encoding: Encoding,
        sealer: SRTPSealer,
        to destination: SocketAddress,
        into egress: EgressBatch,
        now: Instant
    ) -> Outcome {
        guard let record = encoding.history.record(of: sequence) else { return .skipped }
        let map: Mapping
        if let current = mapping, current.generation == encoding.generation {
            guard sequence >= current.firstSequence else { return .skipped }
            map = current
        } else {
            guard !needsKeyframe || record.pointee.startsKeyframe else { return .awaitsKeyframe }
            map = start(at: record.pointee, of: encoding, now: now)
        }

        let outgoing = sequence &+ map.sequenceOffset
        let timestamp = record.pointee.timestamp &+ map.timestampOffset
        let length = write(
            record,
            bytes: encoding.history.bytes(of: sequence),
            header: header,
            sequence: outgoing,
            timestamp: timestamp,
            ssrc: ssrc,
            originalSequenceNumber: nil,
            sealer: sealer,
            into: egress,
            now: now
        )
        egress.commit(length: length, to: destination)

        if outgoing >= nextSequence {
            nextSequence = outgoing + 1
            lastTimestamp = timestamp
            lastSentAt = now
        }
        packetsForwarded += 1
        bytesSent += UInt64(length)
        payloadBytesSent += UInt64(record.pointee.payloadLength)
        if retransmissionCredit < Self.retransmissionBurst { retransmissionCredit += 1 }
        return .forwarded
    }

    /// Answers a viewer's NACK for one packet from the history: over RTX (RFC 4588) where negotiated, else by the same
    /// packet again.
    ///
    /// - Returns: Whether the packet was still there and is on its way. The batch must not be full.
    func retransmit(
        _ sequenceNumber: UInt16,
        sealer: SRTPSealer,
        to destination: SocketAddress,
        into egress: EgressBatch,
        now: Instant
    ) -> Bool {
        guard let mapping, let encoding = track.encoding, mapping.generation == encoding.generation,
            retransmissionCredit > 0
        else { return false }
        // The asked-for packet is the latest one sent with these 16 bits.
        let behind = UInt16(truncatingIfNeeded: nextSequence &- 1) &- sequenceNumber
        let outgoing = nextSequence &- 1 &- UInt64(behind)
        let sequence = outgoing &- mapping.sequenceOffset
        guard behind < UInt16(clamping: encoding.history.capacity), sequence >= mapping.firstSequence,
            let record = encoding.history.record(of: sequence)
        else { return false }

        let timestamp = record.pointee.timestamp &+ mapping.timestampOffset
        let bytes = encoding.history.bytes(of: sequence)
        let length: Int
        if let retransmissionHeader, let retransmissionSSRC {
            length = write(
                record,
                bytes: bytes,
                header: retransmissionHeader,
                sequence: nextRetransmissionSequence,
                timestamp: timestamp,
                ssrc: retransmissionSSRC,
                originalSequenceNumber: sequenceNumber,
                sealer: sealer,
                into: egress,
                now: now
            )
            nextRetransmissionSequence += 1
        } else {
            length = write(
                record,
                bytes: bytes,
                header: header,
                sequence: outgoing,
                timestamp: timestamp,
                ssrc: ssrc,
                originalSequenceNumber: nil,
                sealer: sealer,
                into: egress,
                now: now
            )
        }
        egress.commit(length: length, to: destination)
        retransmissionCredit -= 1
        packetsRetransmitted += 1
        bytesSent += UInt64(length)
        return true
    }

    /// A report block of the viewer on our SSRC (RFC 3550 §6.4.1).
    func received(fractionLost: UInt8, lastSenderReport: UInt32, delay: UInt32, now: Instant) {
        viewerKnowsSource = true
        self.fractionLost = Double(fractionLost) / 256
        if let lastReport, lastReport.middleNTP == lastSenderReport, lastSenderReport != 0 {
            // DLSR counts 1/65536 s.
            let held = Duration.nanoseconds(Int64((UInt64(delay) * 1_000_000_000) >> 16))
            roundTrip = max(.zero, now - lastReport.sentAt - held)
        }
    }

    var snapshot: SubscriptionSnapshot {
        var snapshot = SubscriptionSnapshot(track: track.id)
        snapshot.packetsForwarded = packetsForwarded
        snapshot.bytesSent = bytesSent
        snapshot.packetsRetransmitted = packetsRetransmitted
        snapshot.nacksReceived = nacksReceived
        snapshot.keyframeRequestsReceived = keyframeRequestsReceived
        snapshot.fractionLost = fractionLost
        snapshot.roundTripSeconds = roundTrip?.seconds
        return snapshot
    }

    /// What the next sender report says, or nil while the publisher has not told its clock or nothing was forwarded.
    func senderReportClock(now: Instant) -> (ntp: UInt64, rtpTimestamp: UInt32)? {
        guard let mapping, let encoding = track.encoding, encoding.generation == mapping.generation,
            let clock = encoding.clock
        else { return nil }
        let (ntp, timestamp) = clock.extrapolated(to: now, clockRate: clockRate)
        lastReport = (UInt32(truncatingIfNeeded: ntp >> 16), now)
        return (ntp, timestamp &+ mapping.timestampOffset)
    }

    /// Puts the first packet of a new encoding directly behind the last one of the old.
    private func start(at record: PacketRecord, of encoding: Encoding, now: Instant) -> Mapping {
        var timestampOffset: UInt32 = 0
        if let lastSentAt {
            let elapsed = now > lastSentAt ? now.nanoseconds - lastSentAt.nanoseconds : 0
            let units = max(1, elapsed / 1_000 * UInt64(clockRate) / 1_000_000)
            timestampOffset = lastTimestamp &+ UInt32(truncatingIfNeeded: units) &- record.timestamp
        }
        let map = Mapping(
            generation: encoding.generation,
            firstSequence: record.sequence,
            sequenceOffset: nextSequence &- record.sequence,
            timestampOffset: timestampOffset
        )
        mapping = map
        return map
    }

    /// Writes and seals one packet in the batch's next slot.
    @inline(__always)
    private func write(
        _ record: UnsafePointer<PacketRecord>,
        bytes: UnsafeRawPointer,
        header: OutgoingHeader,
        sequence: UInt64,
        timestamp: UInt32,
        ssrc: UInt32,
        originalSequenceNumber: UInt16?,
        sealer: SRTPSealer,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        let slot = egress.freeSlot
        let payloadLength = record.pointee.payloadLength
        let isPaddingOnly = payloadLength == 0 && originalSequenceNumber == nil
        let headerLength = header.write(
            to: slot,
            record: record,
            packet: bytes,
            sequenceNumber: UInt16(truncatingIfNeeded: sequence),
            timestamp: timestamp,
            ssrc: ssrc,
            padding: isPaddingOnly,
            // Without RTX a packet may have to be repeated to the bit, so what it says must not depend on when.
            includesMID: !viewerKnowsSource || retransmissionHeader == nil,
            now: now
        )
        var payload = UnsafeRawBufferPointer(start: bytes + Int(record.pointee.payloadOffset), count: payloadLength)
        if let originalSequenceNumber {
            // RFC 4588 §4: the original sequence number precedes the payload. It is sealed with it, so it is moved into the
            // slot and the payload behind it, to be sealed in place.
            let target = slot + headerLength
            target.storeBytes(of: originalSequenceNumber.bigEndian, as: UInt16.self)
            if let base = payload.baseAddress { (target + 2).copyMemory(from: base, byteCount: payloadLength) }
            payload = UnsafeRawBufferPointer(start: target, count: payloadLength + 2)
        } else if isPaddingOnly {
            // The publisher's padding is not worth its bytes, but its sequence number has to be filled.
            let target = slot + headerLength
            target.storeBytes(of: 1, as: UInt8.self)
            payload = UnsafeRawBufferPointer(start: target, count: 1)
        }
        return sealer.seal(
            header: UnsafeRawBufferPointer(start: slot, count: headerLength),
            payload: payload,
            rolloverCounter: UInt32(truncatingIfNeeded: sequence >> 16),
            into: slot
        )
    }
}
