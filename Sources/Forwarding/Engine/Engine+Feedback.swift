import Commands
import Transport
import Wire

/// RTCP: what peers report and ask for, and what we report to them and ask of them.
extension Engine {
    /// Takes in a decrypted RTCP compound packet.
    func receiveRTCP(_ packet: UnsafeRawBufferPointer, from peer: Peer, now: Instant) {
        let bytes = packet.bytes
        var reader = RTCPReader()
        do throws(RTCPError) {
            while let item = try reader.next(in: bytes) { receive(item, in: bytes, from: peer, now: now) }
        } catch {
            count(.rtcpMalformed)
        }
    }

    private func receive(_ item: RTCPPacket, in bytes: RawSpan, from peer: Peer, now: Instant) {
        switch item {
        case .senderReport(let report):
            receive(report, from: peer, now: now)
            receive(report.reports, in: bytes, from: peer, now: now)
        case .receiverReport(_, let reports):
            receive(reports, in: bytes, from: peer, now: now)
        case .nack(_, let media, let lost):
            guard let subscription = peer.subscription(sending: media) else { return }
            subscription.nacksReceived += 1
            counters.nacksReceived += 1
            for index in 0..<lost.count {
                let (packet, mask) = lost.item(at: index, in: bytes)
                retransmit(packet, of: subscription, to: peer, now: now)
                for bit in 0..<16 where mask & 1 << UInt16(bit) != 0 {
                    retransmit(packet &+ UInt16(bit) &+ 1, of: subscription, to: peer, now: now)
                }
            }
        case .pictureLossIndication(_, let media):
            receiveKeyframeRequest(for: media, from: peer, now: now)
        case .fullIntraRequest(_, let requests):
            for index in 0..<requests.count {
                receiveKeyframeRequest(for: requests.request(at: index, in: bytes).ssrc, from: peer, now: now)
            }
        case .sourceDescription, .goodbye, .receiverEstimatedMaximumBitrate, .transportFeedback, .extendedReport,
            .other:
            break
        }
    }

    private func receiveKeyframeRequest(for media: UInt32, from peer: Peer, now: Instant) {
        guard let subscription = peer.subscription(sending: media) else { return }
        subscription.keyframeRequestsReceived += 1
        counters.keyframeRequestsReceived += 1
        requestKeyframe(of: subscription.track, now: now)
    }

    /// Answers a viewer's NACK from the history.
    private func retransmit(_ sequenceNumber: UInt16, of subscription: Subscription, to peer: Peer, now: Instant) {
        guard let session = peer.session, let destination = peer.ice.selected else { return }
        guard makeRoom(for: 1) else { return count(.egressFull) }
        if subscription.retransmit(sequenceNumber, sealer: session.sealer, to: destination, into: egress, now: now) {
            counters.packetsRetransmitted += 1
        }
    }

    /// A publisher's clock: kept, and handed to each worker that relays the track.
    private func receive(_ report: RTCPPacket.SenderReport, from peer: Peer, now: Instant) {
        guard let source = peer.incoming.source(report.ssrc), !source.isRetransmission else { return }
        peer.incoming.tracks[source.track].lastSenderReport = (UInt32(truncatingIfNeeded: report.ntp >> 16), now)
        let track = peer.incoming.tracks[source.track].track
        guard let encoding = track.encoding, encoding.ssrc == report.ssrc else { return }
        let clock = SenderClock(ntp: report.ntp, rtpTimestamp: report.rtpTimestamp, receivedAt: now)
        if let last = encoding.clock, now - last.receivedAt < Self.clockInterval { return }
        encoding.clock = clock
        var head = RelayRecord.Head(kind: .clock, track: track.id, generation: encoding.generation)
        head.clock = clock
        for worker in outgoingRelays.indices where track.relayTargets & (1 << UInt64(worker)) != 0 {
            relayClock(head, to: worker)
        }
    }

    /// A viewer's reception of what we send.
    private func receive(_ reports: RTCPPacket.ReportBlockList, in bytes: RawSpan, from peer: Peer, now: Instant) {
        for index in 0..<reports.count {
            let block = reports.block(at: index, in: bytes)
            guard let subscription = peer.subscription(sending: block.ssrc) else { continue }
            subscription.received(
                fractionLost: block.fractionLost,
                lastSenderReport: block.lastSenderReport,
                delay: block.delaySinceLastSenderReport,
                now: now
            )
            if subscription.reportedLoss.add(subscription.fractionLost, in: qualityInterval) {
                lossySubscriptions.append(LossySubscription(peer: peer.id, subscription: subscription))
            }
        }
    }

    // MARK: What we send

    /// Sends whatever RTCP is due for a connected peer.
    func sendDueFeedback(to peer: Peer, now: Instant) {
        if let due = peer.transportFeedback?.deadline(interval: limits.transportFeedbackInterval), due <= now {
            sendTransportFeedback(to: peer)
        }
        sendDueNacks(to: peer, now: now)
        sendDueKeyframeRequests(to: peer, now: now)
        if peer.nextReport <= now {
            if !peer.incoming.tracks.isEmpty { sendReceiverReport(to: peer, now: now) }
            if !peer.subscriptions.isEmpty { sendSenderReports(to: peer, now: now) }
            peer.nextReport = now + limits.reportInterval
        }
    }

    /// Sends the PLI or FIR that viewers wait for, for each encoding of a publisher that may be asked again.
    func sendDueKeyframeRequests(to peer: Peer, now: Instant) {
        guard peer.session != nil else { return }
        for incoming in peer.incoming.tracks where incoming.track.isFed(by: peer) {
            let track = incoming.track
            guard incoming.parameters.codec.kind == .video, let encoding = track.encoding,
                encoding.keyframeRequests.takeDue(now: now)
            else { continue }
            beginFeedback(incoming.parameters)
            let feedback = incoming.parameters.feedback
            if feedback.contains(.fullIntraRequest), !feedback.contains(.pictureLossIndication) {
                RTCPWriter.fullIntraRequest(
                    sender: Self.reportingSSRC,
                    media: encoding.ssrc,
                    number: UInt8(truncatingIfNeeded: track.keyframeRequestsSent),
                    to: &rtcpBuffer
                )
            } else {
                RTCPWriter.pictureLossIndication(sender: Self.reportingSSRC, media: encoding.ssrc, to: &rtcpBuffer)
            }
            sendRTCP(to: peer)
            track.keyframeRequestsSent += 1
            counters.keyframeRequestsSent += 1
        }
    }

    private func sendDueNacks(to peer: Peer, now: Instant) {
        for incoming in peer.incoming.tracks where incoming.parameters.feedback.contains(.nack) {
            guard incoming.track.isFed(by: peer), let encoding = incoming.track.encoding,
                encoding.nacks.deadline <= now
            else { continue }
            sequenceNumbers.removeAll(keepingCapacity: true)
            encoding.nacks.takeDue(now: now, into: &sequenceNumbers)
            // In the worst case each number takes four bytes.
            var rest = sequenceNumbers[...]
            while !rest.isEmpty {
                let part = rest.prefix(256)
                rest = rest.dropFirst(256)
                beginFeedback(incoming.parameters)
                RTCPWriter.nack(sender: Self.reportingSSRC, media: encoding.ssrc, lost: part, to: &rtcpBuffer)
                sendRTCP(to: peer)
                incoming.track.nacksSent += 1
                counters.nacksSent += 1
            }
        }
    }

    private func sendTransportFeedback(to peer: Peer) {
        guard let parameters = peer.incoming.tracks.first?.parameters else { return }
        while true {
            beginFeedback(parameters)
            guard peer.transportFeedback?.writeNext(sender: Self.reportingSSRC, to: &rtcpBuffer) == true else { return }
            sendRTCP(to: peer)
        }
    }

    /// RFC 3550 §6.4.2, and REMB for publishers that have nothing better.
    private func sendReceiverReport(to peer: Peer, now: Instant) {
        reportBlocks.removeAll(keepingCapacity: true)
        ceilingSources.removeAll(keepingCapacity: true)
        var sumOfCeilings: UInt64 = 0
        for index in peer.incoming.tracks.indices {
            let incoming = peer.incoming.tracks[index]
            guard let encoding = incoming.track.encoding, peer.incoming.source(encoding.ssrc)?.track == index else {
                continue
            }
            let fractionLost = encoding.statistics.takeFractionLost()
            let lastReport = incoming.lastSenderReport
            reportBlocks.append(
                RTCPPacket.ReportBlock(
                    ssrc: encoding.ssrc,
                    fractionLost: fractionLost,
                    packetsLost: Int32(clamping: encoding.statistics.lost),
                    highestSequence: encoding.statistics.extendedHighestSequence,
                    jitter: encoding.statistics.jitterUnits,
                    lastSenderReport: lastReport?.middleNTP ?? 0,
                    delaySinceLastSenderReport: lastReport.map { Self.compactDuration(now - $0.receivedAt) } ?? 0
                )
            )
            let feedback = incoming.parameters.feedback
            if incoming.parameters.codec.kind == .video, feedback.contains(.receiverEstimatedMaximumBitrate),
                !feedback.contains(.transportWideCongestionControl)
            {
                let ceiling = peer.incoming.tracks[index].bitrateCeiling.update(
                    fractionLost: Double(fractionLost) / 256,
                    receivedBitsPerSecond: encoding.statistics.bitsPerSecond
                )
                ceilingSources.append(encoding.ssrc)
                sumOfCeilings += ceiling
            }
        }
        guard !reportBlocks.isEmpty else { return }
        rtcpBuffer.removeAll(keepingCapacity: true)
        RTCPWriter.receiverReport(sender: Self.reportingSSRC, blocks: reportBlocks, to: &rtcpBuffer)
        RTCPWriter.sourceDescription(ssrc: Self.reportingSSRC, cname: "sluice", to: &rtcpBuffer)
        if !ceilingSources.isEmpty {
            RTCPWriter.receiverEstimatedMaximumBitrate(
                sender: Self.reportingSSRC,
                bitsPerSecond: min(sumOfCeilings, limits.receiveBitsPerSecond),
                media: ceilingSources,
                to: &rtcpBuffer
            )
        }
        sendRTCP(to: peer)
    }

    /// RFC 3550 §6.4.1: the publisher's clock in our sources' timestamps, so that the viewer plays them in sync.
    private func sendSenderReports(to peer: Peer, now: Instant) {
        rtcpBuffer.removeAll(keepingCapacity: true)
        for subscription in peer.subscriptions {
            guard let clock = subscription.senderReportClock(now: now) else { continue }
            let report = RTCPPacket.SenderReport(
                ssrc: subscription.ssrc,
                ntp: clock.ntp,
                rtpTimestamp: clock.rtpTimestamp,
                packetCount: UInt32(truncatingIfNeeded: subscription.packetsForwarded),
                octetCount: UInt32(truncatingIfNeeded: subscription.payloadBytesSent)
            )
            RTCPWriter.senderReport(report, to: &rtcpBuffer)
            RTCPWriter.sourceDescription(ssrc: subscription.ssrc, cname: subscription.cname, to: &rtcpBuffer)
            if rtcpBuffer.count > Self.compoundBytes {
                sendRTCP(to: peer)
                rtcpBuffer.removeAll(keepingCapacity: true)
            }
        }
        sendRTCP(to: peer)
    }

    /// Empties the buffer, and begins a compound packet where the peer doesn't take reduced-size RTCP (RFC 5506 §3.4.2).
    private func beginFeedback(_ parameters: MediaParameters) {
        rtcpBuffer.removeAll(keepingCapacity: true)
        if !parameters.allowsReducedSizeRTCP {
            RTCPWriter.receiverReport(sender: Self.reportingSSRC, blocks: [], to: &rtcpBuffer)
            RTCPWriter.sourceDescription(ssrc: Self.reportingSSRC, cname: "sluice", to: &rtcpBuffer)
        }
    }

    /// A duration in 1/65536 s, as DLSR wants it.
    private static func compactDuration(_ duration: Duration) -> UInt32 {
        let nanoseconds = UInt64(clamping: duration.wholeNanoseconds)
        return UInt32(clamping: nanoseconds / 1_000 * 65_536 / 1_000_000)
    }
}
