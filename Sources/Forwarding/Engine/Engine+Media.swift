import Commands
public import Transport
import Wire

/// Steps 4 to 6 of the data path: from an SRTP packet to the batches that leave.
extension Engine {
    func receiveSRTP(_ datagram: UnsafeMutableRawBufferPointer, from source: SocketAddress, now: Instant) {
        guard let peer = peersByAddress[source] else { return count(.srtpUnknownSource) }
        guard case .connected(let session) = peer.phase else { return count(.srtpNoKeys) }
        guard datagram.count >= 2 else { return count(.srtpMalformed) }
        if RTCP.isRTCP(secondByte: datagram[1]) {
            switch session.opener.openRTCP(datagram) {
            case .rejected(let rejection): count(DropReason(rejection))
            case .opened(let length, _):
                heard(peer, now: now)
                peer.ice.receivedMedia(from: source, now: now)
                receiveRTCP(UnsafeRawBufferPointer(rebasing: datagram[..<length]), from: peer, now: now)
            }
            return
        }

        let header: RTPHeader
        do throws(RTPError) {
            header = try RTPHeader(parsing: UnsafeRawBufferPointer(datagram).bytes)
        } catch {
            return count(.srtpMalformed)
        }
        switch session.opener.open(datagram, header: header) {
        case .rejected(let rejection): count(DropReason(rejection))
        case .opened(let length, _):
            heard(peer, now: now)
            peer.ice.receivedMedia(from: source, now: now)
            receiveRTP(UnsafeRawBufferPointer(rebasing: datagram[..<length]), header: header, from: peer, now: now)
        }
    }

    /// Step 4: finds the packet's encoding and keeps it there.
    private func receiveRTP(_ packet: UnsafeRawBufferPointer, header: RTPHeader, from peer: Peer, now: Instant) {
        counters.packetsReceived += 1
        guard packet.count <= limits.rtpPacketBytes else { return count(.rtpTooLarge) }
        let bytes = packet.bytes
        var record = PacketRecord()
        var mid: String?
        var rid: String?
        var audioLevel: UInt8?
        let known = peer.incoming.hear(header.ssrc, now: now)
        let isKnown = known != nil
        var elements = HeaderExtensionReader(header)
        while let element = elements.next(in: bytes) {
            guard let meaning = peer.incoming.meaning(of: element.id) else { continue }
            switch meaning {
            case .transportSequenceNumber where element.length == 2:
                let offset = element.offset
                let number = UInt16(packet[offset]) << 8 | UInt16(packet[offset + 1])
                peer.transportFeedback?.record(number, mediaSSRC: header.ssrc, arrivedAt: arrivedAt, now: now)
            case .mid where !isKnown:
                mid = text(of: element, in: packet)
            case .rtpStreamID where !isKnown, .repairedRTPStreamID where !isKnown:
                rid = text(of: element, in: packet)
            case .mid, .rtpStreamID, .repairedRTPStreamID, .transportSequenceNumber, .transmissionTimeOffset,
                .absoluteSendTime:
                continue
            case .audioLevel:
                if element.length == 1 { audioLevel = packet[element.offset] & 0x7F }
                record.append(meaning, offset: element.offset, length: element.length)
            default:
                record.append(meaning, offset: element.offset, length: element.length)
            }
        }
        if peer.transportFeedback != nil { noteDeadline(.transportFeedback, of: peer) }

        guard let source = known ?? peer.incoming.identify(header, mid: mid, rid: rid, now: now),
            let place = source.track
        else { return count(.rtpUnknownSource) }
        keep(
            packet,
            header: header,
            record: record,
            audioLevel: audioLevel,
            of: source,
            at: place,
            from: peer,
            now: now
        )
    }

    /// The packet belongs to one of the peer's tracks.
    private func keep(
        _ packet: UnsafeRawBufferPointer,
        header: RTPHeader,
        record: PacketRecord,
        audioLevel: UInt8?,
        of source: IncomingMedia.Source,
        at place: Int,
        from peer: Peer,
        now: Instant
    ) {
        let bytes = packet.bytes
        var record = record
        let incoming = peer.incoming.tracks[place]
        let expectedPayloadType =
            source.isRetransmission
            ? incoming.parameters.retransmissionPayloadType : incoming.parameters.payloadType
        guard header.payloadType == expectedPayloadType else { return count(.rtpUnknownSource) }
        // Somebody else feeds this track by now: the peer was taken over and will end soon.
        guard incoming.track.isFed(by: peer) else { return count(.rtpUnknownSource) }

        let padding: Int
        do throws(RTPError) {
            padding = try header.paddingLength(in: bytes)
        } catch {
            return count(.srtpMalformed)
        }
        var sequenceNumber = header.sequenceNumber
        var payloadOffset = header.payloadOffset
        let payloadEnd = packet.count - padding
        if source.isRetransmission {
            // RFC 4588 §4. Without payload it is padding that probes for bandwidth.
            guard payloadEnd - payloadOffset > 2 else { return }
            sequenceNumber = UInt16(packet[payloadOffset]) << 8 | UInt16(packet[payloadOffset + 1])
            payloadOffset += 2
        }

        let track = incoming.track
        let encoding: Encoding
        let sequence: UInt64
        if source.isRetransmission {
            guard let current = track.encoding, source.original == nil || source.original == current.ssrc else {
                return count(.rtpStraySource)
            }
            encoding = current
            // Where nobody has said whose packets it repeats, they are those that were asked for.
            guard let retransmitted = current.order.placeOfRetransmission(sequenceNumber),
                source.original != nil || current.nacks.isMissing(retransmitted)
            else { return count(.rtpDuplicate) }
            sequence = retransmitted
        } else {
            guard let current = track.encoding(ssrc: header.ssrc, limits: limits, now: now) else {
                return count(.rtpStraySource)
            }
            encoding = current
            guard
                let ordered = current.order.place(
                    sequenceNumber,
                    arrivedAt: arrivedAt,
                    isMissing: { current.nacks.isMissing($0) }
                )
            else {
                return keepOutlier(
                    OutlyingPacket(bytes: Array(packet), header: header, record: record, audioLevel: audioLevel),
                    of: source,
                    at: place,
                    from: peer,
                    now: now
                )
            }
            sequence = ordered
        }

        guard encoding.accepts(sequence) else { return count(.rtpDuplicate) }
        if !source.isRetransmission {
            encoding.statistics.record(
                sequence: sequence,
                timestamp: header.timestamp,
                byteCount: packet.count,
                arrivedAt: arrivedAt,
                now: now
            )
        }
        if incoming.parameters.feedback.contains(.nack) {
            switch encoding.nacks.received(sequence, now: now) {
            case .recovered where source.isRetransmission:
                track.packetsRecovered += 1
                counters.packetsRecovered += 1
            case .afterInterruption where track.codec.kind == .video:
                encoding.keyframeRequests.request()
                noteDeadline(.keyframeRequests, of: peer)
            default: break
            }
            if encoding.nacks.deadline < peer.deadline { noteDeadline(.nacks, of: peer) }
        }

        if let level = audioLevel, level < Self.silence { track.loudestLevel = min(track.loudestLevel ?? level, level) }

        record.sequence = sequence
        record.receivedAt = now
        record.timestamp = header.timestamp
        record.marker = header.marker
        record.payloadOffset = UInt16(payloadOffset)
        record.payloadEnd = UInt16(payloadEnd)
        if payloadEnd > payloadOffset {
            let payload = bytes.extracting(payloadOffset..<payloadEnd)
            noteParameterSets(in: payload, of: track, encoding)
            describe(&record, payload: payload, in: bytes, codec: track.codec, encoding)
        }
        // Numbers go on with the first packet after an interruption, so it has to be the newest: late ones would need numbers that are
        // taken, and leave a gap behind them.
        let isOvertaken =
            encoding.isInterrupted
            && (source.isRetransmission || sequence <= encoding.highestSequence
                || sequence < encoding.order.highest ?? 0)
        let isTooLate = now - arrivedAt > limits.mediaAge
        if isTooLate || isOvertaken || encoding.isInterrupted && track.codec.kind == .video && !record.startsKeyframe {
            // What comes after it is of no use before a keyframe.
            if !source.isRetransmission { encoding.isInterrupted = true }
            if track.codec.kind == .video {
                encoding.keyframeRequests.request()
                noteDeadline(.keyframeRequests, of: peer)
            }
            return count(.rtpTooLate)
        }
        record.followsInterruption = encoding.isInterrupted
        encoding.isInterrupted = false
        if record.startsKeyframe, track.codec.kind == .video {
            encoding.keyframeTimestamp = header.timestamp
            track.keyframesReceived += 1
            encoding.keyframeRequests.keyframeReceived()
        }
        guard track.isWatched else { return encoding.pass(record) }
        // What precedes an interruption has other numbers than what follows it.
        if encoding.pending.count >= Encoding.maximumPending || record.followsInterruption { forward(track, now: now) }
        guard encoding.insert(record, copying: packet) else { return count(.relayFull) }
        queue(track)
    }

    /// Which layer a packet is of; and whether, and with what, a decoder can start with it.
    private func describe(
        _ record: inout PacketRecord,
        payload: RawSpan,
        in packet: RawSpan,
        codec: Codec,
        _ encoding: Encoding
    ) {
        record.layer = LayerInfo(parsing: payload, codec: codec, marker: record.marker)
        if record.layer.flags.contains(.isContinuation) {
            record.layer.spatial = encoding.latestLayer.spatial
            record.layer.temporal = encoding.latestLayer.temporal
        }
        let descriptorPlace = record.place(of: .dependencyDescriptor)
        if let place = descriptorPlace, let descriptor = DependencyDescriptor(parsing: packet.extracting(place)) {
            if let structure = descriptor.structure { encoding.dependencyStructure = structure }
            record.layer.take(descriptor, known: encoding.dependencyStructure)
        }
        // Parameter sets and each slice look like a beginning: only the first of them is the picture's.
        guard encoding.keyframeTimestamp != record.timestamp || codec.kind == .audio else { return }
        record.startsKeyframe = record.layer.startsKeyframe
        // What a dependency descriptor describes can't have a packet put before it.
        guard encoding.parameterSets != nil, descriptorPlace == nil,
            ParameterSetReader.isBareKeyframe(payload, codec: codec)
        else { return }
        record.startsKeyframe = true
        record.isBare = true
    }

    private func noteParameterSets(in payload: RawSpan, of track: Track, _ encoding: Encoding) {
        guard let sets = ParameterSets.noting(payload, codec: track.codec, known: encoding.parameterSets) else {
            return
        }
        encoding.parameterSets = sets
        encoding.hasUnrelayedParameterSets = true
    }

    /// Other workers' viewers may come when the parameter sets have long passed.
    private func relayParameterSets(of track: Track, to worker: Int) {
        guard let encoding = track.encoding, let sets = encoding.parameterSets else { return }
        var head = RelayRecord.Head(kind: .parameterSets, track: track.id, generation: encoding.generation)
        head.ssrc = encoding.ssrc
        head.chunk = sets.handOver()
        relay(head, to: worker)
    }

    /// A packet came that does not belong to the sequence of its source. When it is the second in a row, both begin a new one
    /// (RFC 3550 A.1): an encoding of its own, so that viewers go on without a gap.
    private func keepOutlier(
        _ packet: OutlyingPacket,
        of source: IncomingMedia.Source,
        at place: Int,
        from peer: Peer,
        now: Instant
    ) {
        let track = peer.incoming.tracks[place].track
        guard let before = track.encoding else { return }
        guard let first = before.outlier, first.isFollowed(by: packet.header.sequenceNumber) else {
            if before.outlier != nil { count(.rtpOutOfSequence) }
            before.outlier = packet
            return
        }
        // What came before in this turn precedes it.
        forward(track, now: now)
        guard let encoding = track.beginEncoding(ssrc: before.ssrc, limits: limits, now: now) else {
            count(.rtpOutOfSequence)
            before.outlier = packet
            return
        }
        encoding.hasUnrelayedParameterSets = true
        for packet in [first, packet] {
            packet.bytes.withUnsafeBytes { bytes in
                keep(
                    bytes,
                    header: packet.header,
                    record: packet.record,
                    audioLevel: packet.audioLevel,
                    of: source,
                    at: place,
                    from: peer,
                    now: now
                )
            }
        }
    }

    private func text(of element: HeaderExtensionElement, in packet: UnsafeRawBufferPointer) -> String? {
        String(validating: packet[element.offset..<(element.offset + element.length)], as: UTF8.self)
    }

    /// Queues a track for the end of the turn.
    private func queue(_ track: Track) {
        guard !track.isQueued else { return }
        track.isQueued = true
        queuedTracks.append(track)
    }

    /// Audio goes first: it is little, and missed the most. Before that other workers are lent what they need, so that they work on
    /// it while this one does.
    func forwardQueuedTracks(now: Instant) {
        for track in queuedTracks where track.relayTargets != 0 { relayPending(of: track) }
        wakeRelayReaders()
        for track in queuedTracks where track.codec.kind == .audio { forward(track, now: now) }
        for track in queuedTracks {
            forward(track, now: now)
            track.isQueued = false
        }
        queuedTracks.removeAll(keepingCapacity: true)
    }

    /// Step 5: walks a track's subscriptions once with all packets of the batch in hand.
    private func forward(_ track: Track, now: Instant) {
        guard let encoding = track.encoding, !encoding.pending.isEmpty else { return }
        if encoding.keyframeIsPending, !track.candidates.isEmpty { admitCandidates(of: track, now: now) }
        if shedder.share < 1 || !track.admission.isWhole {
            if encoding.keyframeIsPending {
                track.admission.advance(to: shedder.share)
            } else {
                track.admission.shrink(to: shedder.share)
            }
        }
        var needsKeyframe = false
        for subscription in track.subscriptions {
            if forward(encoding, to: subscription, now: now), mayRequestKeyframe(of: track, for: subscription, now: now)
            {
                needsKeyframe = true
            }
        }
        if track.relayTargets != 0 { relayPending(of: track) }
        encoding.removePending()
        if needsKeyframe { requestKeyframe(of: track, now: now) }
    }

    /// - Returns: Whether the viewer has to have a keyframe.
    @inline(__always)
    func forward(_ encoding: Encoding, to subscription: Subscription, now: Instant) -> Bool {
        guard let sealer = subscription.outlet.sealer, let destination = subscription.outlet.destination else {
            return false
        }
        // What does not fit is left out whole, so that nobody gets half a frame.
        let waiting = subscription.waits ? Encoding.maximumPending : 0
        guard makeRoom(for: encoding.pending.count + (encoding.parameterSets?.packetCount ?? 0) + waiting) else {
            counters.drops[DropReason.egressFull.rawValue] += UInt64(encoding.pending.count)
            return false
        }
        let forwarded = subscription.forward(
            encoding,
            run: run,
            sealer: sealer,
            to: destination,
            into: egress,
            now: now
        )
        if subscription.waits { wait(for: subscription, now: now) }
        counters.packetsForwarded += UInt64(forwarded)
        counters.drops[DropReason.overload.rawValue] += UInt64(run.shedCount)
        return subscription.awaitsKeyframe(from: encoding, now: now, afterShedding: limits.overloadKeyframeInterval)
    }

    /// What of a subscription could not leave at once leaves in a moment.
    private func wait(for subscription: Subscription, now: Instant) {
        subscription.outlet.pacer.wait(now: now)
        noteDeadline(.pacing, of: subscription.peer)
    }

    /// Sends the part that is due of what waits for one viewer.
    func sendWaiting(to peer: Peer, now: Instant) {
        peer.outlet.pacer.resume()
        for subscription in peer.subscriptions where subscription.waits {
            guard let sealer = peer.outlet.sealer, let destination = peer.outlet.destination else {
                // Its path is gone.
                subscription.leaveOut()
                continue
            }
            if makeRoom(for: Encoding.maximumPending) {
                counters.packetsForwarded += UInt64(
                    subscription.sendWaiting(run, sealer: sealer, to: destination, into: egress, now: now)
                )
            }
            if subscription.waits { peer.outlet.pacer.wait(now: now) }
        }
    }

    /// Lends a batch to each worker that has subscribers for it, once: in two parts where it lies in two chunks.
    private func relayPending(of track: Track) {
        guard let encoding = track.encoding, !encoding.pendingIsRelayed else { return }
        encoding.pendingIsRelayed = true
        // Before the packets that may need them, and once a batch, however often they change.
        if encoding.hasUnrelayedParameterSets {
            encoding.hasUnrelayedParameterSets = false
            for worker in outgoingRelays.indices where track.relayTargets & (1 << UInt64(worker)) != 0 {
                relayParameterSets(of: track, to: worker)
            }
        }
        for (index, part) in encoding.pendingChunks.enumerated() {
            let isLast = index + 1 == encoding.pendingChunks.count
            let end = isLast ? encoding.pending.count : encoding.pendingChunks[index + 1].first
            relayBuffer.removeAll(keepingCapacity: true)
            for sequence in encoding.pending[part.first..<end] {
                if let record = encoding.history.record(of: sequence) { relayBuffer.append(record.pointee) }
            }
            guard !relayBuffer.isEmpty else { continue }
            relayBuffer.withUnsafeBufferPointer { packets in
                for worker in outgoingRelays.indices where track.relayTargets & (1 << UInt64(worker)) != 0 {
                    relay(packets, in: part.chunk, of: encoding, track: track.id, to: worker)
                }
            }
        }
    }

    // MARK: Relays

    /// Takes in what other workers relayed to this one, no more of each than a turn's worth: a worker that can't keep up would
    /// otherwise read for ever, and never come to look at its own peers.
    ///
    /// - Returns: Whether more may be waiting.
    public func receiveRelayed(now: Instant) -> Bool {
        var hasMore = false
        for (worker, ring) in incomingRelays.enumerated() {
            guard let ring else { continue }
            var records = 0
            while records < Self.relayRecordsPerTurn,
                ring.read({ receive($0, packets: $1, from: worker, now: now) })
            {
                records += 1
            }
            if records == Self.relayRecordsPerTurn { hasMore = true }
        }
        return hasMore
    }

    private func receive(
        _ head: RelayRecord.Head,
        packets: UnsafeBufferPointer<PacketRecord>,
        from worker: Int,
        now: Instant
    ) {
        if head.kind == .parameterSets {
            let sets = ParameterSets.takenOver(head.chunk)
            guard let track = tracks[head.track], case .relay = track.feed else { return }
            track.relayedEncoding(ssrc: head.ssrc, generation: head.generation, limits: limits, now: now)
                .parameterSets = sets
            return
        }
        let chunk = PacketChunk.borrowed(head.chunk)
        guard let track = tracks[head.track] else {
            chunk?.giveBack()
            return
        }
        switch head.kind {
        case .packets:
            guard let chunk else { return }
            guard case .relay = track.feed else { return chunk.giveBack() }
            let encoding = track.relayedEncoding(
                ssrc: head.ssrc,
                generation: head.generation,
                limits: limits,
                now: now
            )
            var highest: UInt64 = 0
            for record in packets {
                if encoding.pending.count >= Encoding.maximumPending || record.followsInterruption {
                    forward(track, now: now)
                }
                encoding.insert(record)
                if record.startsKeyframe { track.relayedRequests.keyframeReceived() }
                highest = max(highest, record.sequence)
                relayLag = max(relayLag ?? .zero, now - record.receivedAt)
            }
            encoding.history.hold(chunk, highestSequence: highest, isTight: head.isTight, now: now)
            queue(track)
        case .parameterSets: break
        case .clock:
            guard let encoding = track.encoding, encoding.generation == head.generation else { return }
            encoding.clock = head.clock.ntp == 0 ? nil : head.clock
        case .ended:
            if case .relay = track.feed { track.endEncoding() }
        case .attach:
            track.relayTargets |= 1 << UInt64(worker)
            relayParameterSets(of: track, to: worker)
        case .detach:
            track.relayTargets &= ~(1 << UInt64(worker))
            forgetIfUnused(track)
        case .keyframeRequest:
            requestKeyframe(of: track, now: now)
        }
    }

    // MARK: Keyframes

    /// A viewer needs a keyframe of a track, which is asked for as often as that viewer may have it.
    func requestKeyframe(of track: Track, for subscription: Subscription, now: Instant) {
        guard track.codec.kind == .video, subscription.mayBeginRun(now: now),
            mayRequestKeyframe(of: track, for: subscription, now: now)
        else { return }
        requestKeyframe(of: track, now: now)
    }

    func mayRequestKeyframe(of track: Track, for subscription: Subscription, now: Instant) -> Bool {
        subscription.peer.keyframeAllowance.take(
            track.id,
            keyframeReceivedAt: track.encoding?.keyframeReceivedAt,
            // When there is room for all of it, the picture is not to wait for its keyframe.
            keepsOne: subscription.ration != nil,
            now: now,
            limits: limits
        )
    }

    /// Somebody needs a keyframe of a track: asks its publisher, or its home, at most once per interval.
    func requestKeyframe(of track: Track, now: Instant) {
        guard track.codec.kind == .video else { return }
        switch track.feed {
        case .none: break
        case .relay:
            track.relayedRequests.request()
            sendDueRequest(ofRelayed: track, now: now)
        case .publisher(let peer):
            guard let encoding = track.encoding else {
                // The publisher's first packets begin with a keyframe.
                return
            }
            encoding.keyframeRequests.request()
            guard let due = encoding.keyframeRequests.deadline else { return }
            if due <= now, let incoming = peer.incoming.tracks.first(where: { $0.track === track }) {
                sendDueKeyframeRequest(of: incoming, to: peer, now: now)
            }
            noteDeadline(.keyframeRequests, of: peer)
        }
    }
}

extension DropReason {
    init(_ rejection: SRTPRejection) {
        switch rejection {
        case .malformed: self = .srtpMalformed
        case .authentication: self = .srtpAuthentication
        case .replay: self = .srtpReplay
        case .tooManySources: self = .srtpTooManySources
        }
    }
}
