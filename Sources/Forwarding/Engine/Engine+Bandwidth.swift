import Commands
import Transport
import Wire

/// Bandwidth: what a viewer's network carries, and what of its tracks it is sent.
extension Engine {
    /// A viewer tells what has arrived.
    ///
    /// - Returns: Whether the peer's allowance lasted.
    func receiveTransportFeedback(offset: Int, length: Int, in bytes: RawSpan, from peer: Peer, now: Instant) -> Bool {
        guard let bandwidth = peer.outlet.bandwidth else { return true }
        // Each of its bytes may tell of several packets, which are looked up.
        for _ in 0...(length / Self.feedbackBytesPerItem) { guard peer.controlAllowance.take() else { return false } }
        guard let feedback = TransportFeedbackReader(offset: offset, length: length, in: bytes) else {
            count(.rtcpMalformed)
            return true
        }
        let hasProbeResult = bandwidth.receive(feedback, in: bytes, now: now)
        // What a full queue drops comes through when less is sent, and not when more is.
        if !bandwidth.isCongested(at: now) {
            peer.outlet.noteLosses(bandwidth.estimator.losses.fraction, hold: limits.lossMemory, now: now)
        }
        if hasProbeResult || bandwidth.isExceeded, now - bandwidth.allocatedAt >= Self.leastAllocationInterval {
            allocate(for: peer, now: now)
        }
        return true
    }

    /// Divides what a viewer's network carries over its tracks.
    func allocate(for peer: Peer, now: Instant) {
        guard let bandwidth = peer.outlet.bandwidth else { return }
        bandwidth.allocatedAt = now
        options.removeAll(keepingCapacity: true)
        items.removeAll(keepingCapacity: true)
        shared.removeAll(keepingCapacity: true)
        var others = 0.0
        var redundancy = 0.0
        for subscription in peer.subscriptions where !subscription.isHeld {
            guard subscription.track.codec.kind == .video else {
                let rate = subscription.track.encoding?.rates.bitsPerSecond(upTo: .none, now: now) ?? 0
                others += rate
                redundancy += rate * subscription.redundancyShare(at: now)
                continue
            }
            let first = options.count
            let current = subscription.appendOptions(to: &options, silence: limits.encodingSilence, now: now)
            guard options.count > first else { continue }
            items.append(
                Allocator.Item(
                    first: first,
                    end: options.count,
                    current: current,
                    isRationed: subscription.ration != nil,
                    chosen: first
                )
            )
            shared.append(subscription)
        }
        guard !items.isEmpty else {
            bandwidth.onlySends(others)
            peer.outlet.redundancyFits = true
            peer.outlet.pacer.limit(to: .infinity, isNarrow: false)
            return
        }
        let least = items.reduce(others) { $0 + options[$1.first].bitsPerSecond }
        peer.outlet.redundancyFits = least + redundancy <= bandwidth.estimator.bitsPerSecond
        if peer.outlet.redundancyFits { others += redundancy }
        var before = others
        for item in items { before += item.current.map { options[$0].bitsPerSecond } ?? 0 }
        // What is far too much is not waited with: a keyframe of less would only stand in the same queue, which is to go away.
        let isUrgent = before > bandwidth.estimator.bitsPerSecond * Self.urgency
        let allocation = Allocator(
            of: (isUrgent ? bandwidth.estimator.target : bandwidth.estimator.bitsPerSecond) - others,
            options: options,
            items: &items,
            allowsMore: bandwidth.mayRaise(now: now)
        )
        var isMore = false
        var isLess = false
        for (place, item) in items.enumerated() {
            shared[place].ration(to: item.ration, now: now)
            if let current = item.current {
                guard item.chosen != current else { continue }
                if item.chosen > current { isMore = true } else { isLess = true }
            }
            let subscription = shared[place]
            subscription.allocate(options[item.chosen])
            // Packets of the lower layers were lost too by now, and a decoder may wait for them for seconds.
            if isUrgent, subscription.encodings.isEmpty {
                requestKeyframe(of: subscription.track, for: subscription, now: now)
            }
            if isUrgent || subscription.awaitsKeyframe, !subscription.encodings.isEmpty {
                resumeEncoding(of: subscription)
            }
        }
        // Some are still waiting for what they were allocated before.
        for subscription in shared {
            requestKeyframe(for: subscription, now: now)
            if subscription.lacksPackets, !bandwidth.estimator.isQueueing {
                requestKeyframe(of: subscription.track, for: subscription, now: now)
            }
        }
        shared.removeAll(keepingCapacity: true)
        if isLess { bandwidth.lowered(now: now) } else if isMore { bandwidth.raised(now: now) }
        bandwidth.allocated = allocation.allocated + others
        peer.outlet.pacer.limit(
            to: max(bandwidth.pacingRate(now: now), allocation.allocated * Self.leastPacing),
            isNarrow: bandwidth.isNarrow(at: now)
        )
        let begins = bandwidth.beginProbe(
            next: allocation.next.map { $0 + others },
            wanted: allocation.wanted + others,
            isUrgent: items.contains { $0.ration != nil },
            now: now
        )
        if begins { noteDeadline(.probe, of: peer) }
    }

    /// Sends the part of a probe that is due.
    func continueProbe(of peer: Peer, now: Instant) {
        guard let bandwidth = peer.outlet.bandwidth else { return }
        var left = bandwidth.continueProbe(now: now)
        guard left > 0, let sealer = peer.outlet.sealer, let destination = peer.outlet.destination,
            let subscription = peer.subscriptions.first(where: \.canSendPadding)
        else { return }
        while left > 0, makeRoom(for: 1) {
            let sent = subscription.sendPadding(sealer: sealer, to: destination, into: egress, now: now)
            guard sent > 0 else { return }
            left -= sent
        }
    }
}
