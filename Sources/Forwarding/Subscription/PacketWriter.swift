import Commands
import Transport
import Wire

/// Writes and seals the packets of one subscription into the batch's next slot: with the headers that its viewer negotiated, on the
/// subscription's source or on that of its retransmissions.
struct PacketWriter {
    let ssrc: UInt32
    let retransmissionSSRC: UInt32?
    /// Whether a packet that the viewer lacks is sent again as it was: then nothing in it may depend on when it is sent.
    let repeatsExactly: Bool

    /// The peer's.
    private let outlet: MediaOutlet
    private let header: OutgoingHeader
    private let retransmissionHeader: OutgoingHeader?
    /// Nil where the viewer does not take redundant audio data.
    private let redundancy: AudioRedundancy?

    init(_ description: SubscribedTrack, outlet: MediaOutlet) {
        self.outlet = outlet
        ssrc = description.ssrc
        let parameters = description.parameters
        if let payloadType = parameters.retransmissionPayloadType, let ssrc = description.retransmissionSSRC {
            retransmissionSSRC = ssrc
            retransmissionHeader = OutgoingHeader(parameters, payloadType: payloadType, repeatsExactly: false)
        } else {
            retransmissionSSRC = nil
            retransmissionHeader = nil
        }
        repeatsExactly = retransmissionHeader == nil && parameters.feedback.contains(.nack)
        header = OutgoingHeader(parameters, payloadType: parameters.payloadType, repeatsExactly: repeatsExactly)
        // What was sent with redundancy could not be repeated to the bit: by then there may be none.
        if let payloadType = parameters.redundancyPayloadType, !repeatsExactly {
            redundancy = AudioRedundancy(
                header: OutgoingHeader(parameters, payloadType: payloadType, repeatsExactly: false),
                payloadType: parameters.payloadType
            )
        } else {
            redundancy = nil
        }
    }

    /// Whether a packet that the viewer lacks can be sent again at all.
    var canRepeat: Bool { retransmissionHeader != nil || repeatsExactly }

    /// Whether it can write padding that the viewer's feedback tells of.
    var canWritePadding: Bool { retransmissionHeader?.hasTransportSequence == true }

    /// What redundancy takes, as a multiple of what is sent without, while the viewer loses packets.
    func redundancyShare(at now: Instant) -> Double {
        redundancy != nil && outlet.losesPackets(at: now) ? Double(AudioRedundancy.depth) : 0
    }

    /// In bytes, of what `write` makes of a packet before it is sealed.
    @inline(__always)
    func length(of record: UnsafePointer<PacketRecord>, includesMID: Bool) -> Int {
        header.length(of: record, includesMID: includesMID) + record.pointee.payloadLength
    }

    /// Writes one packet.
    ///
    /// - Parameter padding: Bytes of RTP padding, 0 to 255; a packet without payload gets at least one.
    /// - Returns: Its length in bytes.
    @inline(__always)
    func write(
        _ record: UnsafePointer<PacketRecord>,
        padding: Int = 0,
        sequence: UInt64,
        timestamp: UInt32,
        form: OutgoingForm,
        includesMID: Bool,
        sealer: SRTPSealer,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        write(
            record,
            padding: padding,
            header: header,
            sequence: sequence,
            timestamp: timestamp,
            ssrc: ssrc,
            form: form,
            originalSequenceNumber: nil,
            includesMID: includesMID,
            sealer: sealer,
            into: egress,
            now: now
        )
    }

    /// Writes a packet once more on the source of retransmissions (RFC 4588).
    ///
    /// - Parameters:
    ///   - original: The sequence number that it had.
    ///   - sequence: The next one of that source.
    /// - Returns: Its length in bytes; nil where there is no such source.
    func writeRetransmission(
        of record: UnsafePointer<PacketRecord>,
        original: UInt16,
        sequence: UInt64,
        timestamp: UInt32,
        form: OutgoingForm,
        includesMID: Bool,
        sealer: SRTPSealer,
        into egress: EgressBatch,
        now: Instant
    ) -> Int? {
        guard let retransmissionHeader, let retransmissionSSRC else { return nil }
        return write(
            record,
            padding: 0,
            header: retransmissionHeader,
            sequence: sequence,
            timestamp: timestamp,
            ssrc: retransmissionSSRC,
            form: form,
            originalSequenceNumber: original,
            includesMID: includesMID,
            sealer: sealer,
            into: egress,
            now: now
        )
    }

    /// Writes a packet that is nothing but padding on the source of retransmissions, where decoders don't miss anything.
    ///
    /// - Returns: Its length in bytes; 0 where that can't be.
    func writePadding(
        sequence: UInt64,
        timestamp: UInt32,
        includesMID: Bool,
        sealer: SRTPSealer,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        guard let retransmissionHeader, let retransmissionSSRC, let bandwidth = outlet.bandwidth, sequence < 1 << 48
        else { return 0 }
        let slot = egress.freeSlot
        let length = withUnsafePointer(to: PacketRecord()) { record in
            let headerLength = retransmissionHeader.write(
                to: slot,
                record: record,
                packet: UnsafeRawPointer(slot),
                sequenceNumber: UInt16(truncatingIfNeeded: sequence),
                timestamp: timestamp,
                ssrc: retransmissionSSRC,
                marker: false,
                padding: true,
                includesMID: includesMID,
                transportSequence: bandwidth.nextNumber,
                frameNumberOffset: 0,
                now: now
            )
            return sealer.seal(
                header: UnsafeRawBufferPointer(start: slot, count: headerLength),
                payload: UnsafeRawBufferPointer(start: nil, count: 0),
                padding: 255,
                rolloverCounter: UInt32(truncatingIfNeeded: sequence >> 16),
                into: slot
            )
        }
        if length > 0 { bandwidth.noteSent(byteCount: length, now: now) }
        return length
    }

    /// Writes one packet with the frames of those before it, where the viewer takes that and loses packets.
    ///
    /// - Parameters:
    ///   - first: The viewer was sent none before this one.
    ///   - history: Where the packet and those before it lie.
    /// - Returns: Its length; 0 where there is nothing to carry, and nothing was written.
    @inline(__always)
    func writeRedundant(
        _ record: UnsafePointer<PacketRecord>,
        after first: UInt64,
        in history: PacketHistory,
        sequence: UInt64,
        timestamp: UInt32,
        includesMID: Bool,
        sealer: SRTPSealer,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        guard let redundancy, outlet.usesRedundancy(at: now), let bytes = record.pointee.bytes, sequence < 1 << 48
        else {
            return 0
        }
        let slot = egress.freeSlot
        let bandwidth = redundancy.header.hasTransportSequence ? outlet.bandwidth : nil
        let headerLength = redundancy.header.write(
            to: slot,
            record: record,
            packet: bytes,
            sequenceNumber: UInt16(truncatingIfNeeded: sequence),
            timestamp: timestamp,
            ssrc: ssrc,
            marker: record.pointee.marker,
            padding: false,
            includesMID: includesMID,
            transportSequence: bandwidth?.nextNumber ?? 0,
            frameNumberOffset: 0,
            now: now
        )
        let payload = slot + headerLength
        let payloadLength = redundancy.writePayload(of: record, after: first, in: history, to: payload)
        guard payloadLength > 0 else { return 0 }
        let length = sealer.seal(
            header: UnsafeRawBufferPointer(start: slot, count: headerLength),
            payload: UnsafeRawBufferPointer(start: payload, count: payloadLength),
            padding: 0,
            rolloverCounter: UInt32(truncatingIfNeeded: sequence >> 16),
            into: slot
        )
        bandwidth?.noteSent(byteCount: length, now: now)
        return length
    }

    @inline(__always)
    private func write(
        _ record: UnsafePointer<PacketRecord>,
        padding: Int,
        header: OutgoingHeader,
        sequence: UInt64,
        timestamp: UInt32,
        ssrc: UInt32,
        form: OutgoingForm,
        originalSequenceNumber: UInt16?,
        includesMID: Bool,
        sealer: SRTPSealer,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        // RFC 3711 §9.2: 2^48 packets end the keys' life.
        guard let bytes = record.pointee.bytes, sequence < 1 << 48 else { return 0 }
        let slot = egress.freeSlot
        let payloadLength = form.payloadLength
        let numbering = form.numbering
        // The publisher's padding is not worth its bytes, but its sequence number has to be filled.
        let isPaddingOnly = payloadLength == 0 && originalSequenceNumber == nil
        let padding = isPaddingOnly ? max(padding, 1) : padding
        let bandwidth = header.hasTransportSequence ? outlet.bandwidth : nil
        let headerLength = header.write(
            to: slot,
            record: record,
            packet: bytes,
            sequenceNumber: UInt16(truncatingIfNeeded: sequence),
            timestamp: timestamp,
            ssrc: ssrc,
            marker: form.marker,
            padding: padding > 0,
            includesMID: includesMID,
            transportSequence: bandwidth?.nextNumber ?? 0,
            frameNumberOffset: numbering.frame,
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
            if numbering.changesPayloads {
                numbering.apply(
                    to: UnsafeMutableRawBufferPointer(start: target + 2, count: payloadLength),
                    layer: record.pointee.layer
                )
            }
        } else if numbering.changesPayloads, let base = payload.baseAddress {
            let target = UnsafeMutableRawBufferPointer(start: slot + headerLength, count: payloadLength)
            target.baseAddress?.copyMemory(from: base, byteCount: payloadLength)
            numbering.apply(to: target, layer: record.pointee.layer)
            payload = UnsafeRawBufferPointer(target)
        }
        let length = sealer.seal(
            header: UnsafeRawBufferPointer(start: slot, count: headerLength),
            payload: payload,
            padding: padding,
            rolloverCounter: UInt32(truncatingIfNeeded: sequence >> 16),
            into: slot
        )
        bandwidth?.noteSent(byteCount: length, now: now)
        return length
    }
}
