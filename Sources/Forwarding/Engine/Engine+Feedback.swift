import Commands
import Transport
import Wire

/// RTCP: what peers report and ask for, and what we report to them and ask of them.
extension Engine {
    /// Takes in a decrypted RTCP compound packet.
    func receiveRTCP(_ packet: UnsafeRawBufferPointer, from peer: Peer, now: Instant) {
        let bytes = packet.bytes
        var reader = RTCPReader()
        peer.controlAllowance.begin(now: now, limits: limits)
        do throws(RTCPError) {
            while let item = try reader.next(in: bytes) {
                guard peer.controlAllowance.take(), receive(item, in: bytes, from: peer, now: now) else {
                    return count(.rtcpExcess)
                }
            }
        } catch {
            count(.rtcpMalformed)
        }
    }

    /// Every list is stepped through with the peer's allowance in hand.
    ///
    /// - Returns: Whether the allowance lasted.
    private func receive(_ item: RTCPPacket, in bytes: RawSpan, from peer: Peer, now: Instant) -> Bool {
        switch item {
        case .senderReport(let report):
            receive(report, from: peer, now: now)
            return receive(report.reports, in: bytes, from: peer, now: now)
        case .receiverReport(_, let reports):
            return receive(reports, in: bytes, from: peer, now: now)
        case .nack(_, let media, let lost):
            guard let subscription = peer.subscription(sending: media) else { return true }
            subscription.nacksReceived += 1
            counters.nacksReceived += 1
            return answer(lost, in: bytes, of: subscription, to: peer, now: now)
        case .pictureLossIndication(_, let media):
            receiveKeyframeRequest(for: media, from: peer, now: now)
        case .fullIntraRequest(_, let requests):
            for index in 0..<requests.count {
                guard peer.controlAllowance.take() else { return false }
                receiveKeyframeRequest(for: requests.request(at: index, in: bytes).ssrc, from: peer, now: now)
            }
        case .goodbye(let sources):
            for index in 0..<sources.count {
                guard peer.controlAllowance.take() else { return false }
                receiveGoodbye(of: sources.ssrc(at: index, in: bytes), from: peer, now: now)
            }
        case .transportFeedback(_, _, let offset, let length):
            return receiveTransportFeedback(offset: offset, length: length, in: bytes, from: peer, now: now)
        case .sourceDescription, .receiverEstimatedMaximumBitrate, .extendedReport, .other: break
        }
        return true
    }

    private func receiveKeyframeRequest(for media: UInt32, from peer: Peer, now: Instant) {
        guard let subscription = peer.subscription(sending: media) else { return }
        subscription.keyframeRequestsReceived += 1
        counters.keyframeRequestsReceived += 1
        requestKeyframe(of: subscription.track, for: subscription, now: now)
    }

    /// RFC 3550 §6.6: another source may take the track over at once.
    private func receiveGoodbye(of ssrc: UInt32, from peer: Peer, now: Instant) {
        guard let source = peer.incoming.source(ssrc), let place = source.track else { return }
        let track = peer.incoming.tracks[place].track
        guard track.isFed(by: peer), let encoding = track.encoding, encoding.ssrc == ssrc else { return }
        encoding.endedAt = now
    }

    /// Answers a viewer's NACK from the history, as far as it may have packets sent again.
    ///
    /// - Returns: Whether the peer's allowance lasted.
    private func answer(
        _ lost: RTCPPacket.NackList,
        in bytes: RawSpan,
        of subscription: Subscription,
        to peer: Peer,
        now: Instant
    ) -> Bool {
        guard let session = peer.session, let destination = peer.ice.selected else { return true }
        let isCongested = peer.outlet.bandwidth?.isCongested(at: now) ?? (subscription.ration != nil)
        // What is sent again may be lost like anything else, and a picture waits for it. Into a full queue it would only be more.
        let isLossy = peer.outlet.losesPackets(at: now) && peer.outlet.bandwidth != nil && !isCongested
        let copies = isLossy ? 2 : 1
        var isTooLate = false
        // Only a keyframe helps a decoder that lacks what is too old to be sent again.
        defer { if isTooLate { requestKeyframe(of: subscription.track, for: subscription, now: now) } }
        for index in 0..<lost.count {
            let (first, mask) = lost.item(at: index, in: bytes)
            var number = first
            var wanted = UInt32(mask) << 1 | 1
            while wanted != 0 {
                if wanted & 1 != 0 {
                    guard peer.controlAllowance.take() else { return false }
                    for _ in 0..<copies {
                        guard makeRoom(for: 1) else {
                            count(.egressFull)
                            return true
                        }
                        let result = subscription.retransmit(
                            number,
                            sealer: session.sealer,
                            to: destination,
                            into: egress,
                            oldest: limits.retransmissionAge,
                            isCongested: isCongested,
                            now: now
                        )
                        if result == .refused { return true }
                        if result == .tooOld { isTooLate = true }
                        guard result == .sent else { break }
                        counters.packetsRetransmitted += 1
                    }
                }
                wanted >>= 1
                number &+= 1
            }
        }
        return true
    }

    /// A publisher's clock: kept, and handed to each worker that relays the track.
    private func receive(_ report: RTCPPacket.SenderReport, from peer: Peer, now: Instant) {
        guard let source = peer.incoming.source(report.ssrc), !source.isRetransmission, let place = source.track else {
            return
        }
        peer.incoming.tracks[place].lastSenderReport = (UInt32(truncatingIfNeeded: report.ntp >> 16), arrivedAt)
        let track = peer.incoming.tracks[place].track
        guard track.isFed(by: peer), let encoding = track.encoding, encoding.ssrc == report.ssrc else { return }
        let told = SenderClock(ntp: report.ntp, rtpTimestamp: report.rtpTimestamp, receivedAt: arrivedAt)
        guard encoding.clockGauge.observe(told, clockRate: track.codec.clockRate, interval: Self.clockInterval) else {
            return
        }
        encoding.clock = encoding.clockGauge.clock
        let clock = encoding.clock ?? .none
        var head = RelayRecord.Head(kind: .clock, track: track.id, generation: encoding.generation)
        head.clock = clock
        for worker in outgoingRelays.indices where track.relayTargets & (1 << UInt64(worker)) != 0 {
            relayClock(head, to: worker)
        }
    }

    /// A viewer's reception of what we send.
    ///
    /// - Returns: Whether the peer's allowance lasted.
    private func receive(_ reports: RTCPPacket.ReportBlockList, in bytes: RawSpan, from peer: Peer, now: Instant)
        -> Bool
    {
        for index in 0..<reports.count {
            guard peer.controlAllowance.take() else { return false }
            let block = reports.block(at: index, in: bytes)
            guard let subscription = peer.subscription(sending: block.ssrc) else { continue }
            subscription.received(
                fractionLost: block.fractionLost,
                lastSenderReport: block.lastSenderReport,
                delay: block.delaySinceLastSenderReport,
                now: arrivedAt
            )
            if peer.outlet.bandwidth?.isKnown(at: now) != true {
                peer.outlet.noteLosses(subscription.fractionLost, hold: limits.lossMemory, now: now)
            }
            beginChoosing(for: peer, reporting: subscription, now: now)
            if subscription.reportedLoss.add(subscription.fractionLost, in: qualityInterval) {
                lossySubscriptions.append(LossySubscription(peer: peer.id, subscription: subscription))
            }
        }
        return true
    }

    // MARK: What we send

    /// Sends the reports that are due.
    func sendReports(to peer: Peer, now: Instant) {
        if !peer.incoming.tracks.isEmpty { sendReceiverReport(to: peer, now: now) }
        if !peer.subscriptions.isEmpty { sendSenderReports(to: peer, now: now) }
        peer.nextReport = now + limits.reportInterval
    }

    /// Sends the PLI or FIR that viewers wait for, for each encoding of a publisher that may be asked again.
    func sendDueKeyframeRequests(to peer: Peer, now: Instant) {
        for incoming in peer.incoming.tracks where incoming.track.isFed(by: peer) {
            sendDueKeyframeRequest(of: incoming, to: peer, now: now)
        }
    }

    /// The same for one of them.
    func sendDueKeyframeRequest(of incoming: IncomingMedia.IncomingTrack, to peer: Peer, now: Instant) {
        let track = incoming.track
        guard peer.session != nil, let encoding = track.encoding, encoding.keyframeRequests.takeDue(now: now) else {
            return
        }
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

    func sendDueNacks(to peer: Peer, now: Instant) {
        for incoming in peer.incoming.tracks {
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

    func sendTransportFeedback(to peer: Peer) {
        let parameters = peer.incoming.tracks.first?.parameters
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
            guard let encoding = incoming.track.encoding, incoming.track.isFed(by: peer),
                peer.incoming.source(encoding.ssrc)?.track == index
            else {
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
        // As many blocks as a report holds, and a datagram as many of these as a path carries.
        var next = 0
        while next < reportBlocks.count {
            let blocks = reportBlocks[next..<min(next + RTCPWriter.blocksPerReport, reportBlocks.count)]
            next = blocks.endIndex
            rtcpBuffer.removeAll(keepingCapacity: true)
            RTCPWriter.receiverReport(sender: Self.reportingSSRC, blocks: blocks, to: &rtcpBuffer)
            RTCPWriter.sourceDescription(ssrc: Self.reportingSSRC, cname: "sluice", to: &rtcpBuffer)
            if next == reportBlocks.count { appendCeiling(sumOfCeilings) }
            sendRTCP(to: peer)
        }
    }

    /// The ceiling is of all a publisher's sources together; few take notice of which they are.
    private func appendCeiling(_ sumOfCeilings: UInt64) {
        guard !ceilingSources.isEmpty else { return }
        ceilingSources.removeLast(max(0, ceilingSources.count - Self.sourcesPerCeiling))
        RTCPWriter.receiverEstimatedMaximumBitrate(
            sender: Self.reportingSSRC,
            bitsPerSecond: min(sumOfCeilings, limits.receiveBitsPerSecond),
            media: ceilingSources,
            to: &rtcpBuffer
        )
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
    private func beginFeedback(_ parameters: MediaParameters?) {
        rtcpBuffer.removeAll(keepingCapacity: true)
        if parameters?.allowsReducedSizeRTCP != true {
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
