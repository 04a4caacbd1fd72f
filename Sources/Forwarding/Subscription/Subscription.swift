import Commands
import Transport
import Wire

/// One track forwarded to one peer: rewrites the publisher's packets into one continuous RTP source of our own.
final class Subscription {
    /// A run of frames ends when another frame would wait for so long.
    private static let longestWait = Duration.milliseconds(700)
    /// Of a packet of video.
    private static let usualBytes = 1200
    /// Later than this nothing is sent. The history has it until then.
    private static let mostWait = Duration.milliseconds(900)

    /// So many packets in a row may be nothing but padding.
    private static let longestPadding = 32

    unowned let peer: Peer
    /// The peer's.
    let outlet: MediaOutlet
    /// The track that it is a subscription to, whichever encoding of it is forwarded.
    let id: TrackID
    /// What is forwarded now: the track, or one encoding of it.
    private(set) unowned var track: Track
    /// The encodings of a simulcast track, the lowest first; empty where there is one. Emptied when the subscription ends.
    var encodings: ContiguousArray<Track> = []
    /// The places of the best encoding that the viewer wants, and of the best that its network seems to carry.
    var highestWanted: Int
    var highestCarried = Int.max
    /// The encoding that is forwarded from its next keyframe on.
    var next: Track?
    var ssrc: UInt32 { writer.ssrc }
    let cname: String
    let clockRate: UInt32

    private let writer: PacketWriter
    private let needsKeyframe: Bool

    private var mapping: Mapping?
    /// Which layers are forwarded, where the encoding has several.
    private(set) var layers = LayerSelector()
    /// Whether the viewer's decoder can make use of the lowest spatial layer only.
    let decodesLowestLayer: Bool
    /// Where it stands on the circle of `Admission`.
    private let place: Double
    /// Whether its peer wants nothing of it for now. Afterwards it goes on without a gap in its numbers, video with a keyframe.
    var isPaused = false {
        didSet { if isPaused { leaveOut() } }
    }
    /// Whether its peer is not heard any more. Audio goes on.
    var isAway = false {
        didSet { if isAway, needsKeyframe { leaveOut() } }
    }
    /// Whether its viewer asked in vain for packets that its decoder may wait for until a keyframe comes.
    private(set) var lacksPackets = false
    /// Whether nothing is forwarded for now.
    var isHeld: Bool { isPaused || (isAway && needsKeyframe) }
    /// Whether it is left out, up to a keyframe, since the worker could not serve all, or its viewer's network could not carry it.
    private(set) var isShed = false
    /// Nil where all of it fits.
    var ration: Ration?
    /// The publisher's timestamp of the frame that the last packet belonged to; nil before the encoding's first.
    private var frameTimestamp: UInt32?
    /// Our next extended sequence number. Its upper bits are SRTP's rollover counter, so it starts below 2^15
    /// (RFC 3711 §3.3.1 wants room before the first wrap).
    private var nextSequence: UInt64
    /// The first of our numbers whose packet waits to be sent; `nextSequence` while none does. What waits is found by these numbers when its
    /// turn comes, and sealed only then.
    private var nextToSend: UInt64
    private var lastTimestamp: UInt32 = 0
    private var lastSentAt: Instant?
    private var nextRetransmissionSequence: UInt64
    private var retransmissions = RetransmissionBudget()
    /// Until the viewer reports on our SSRC, each packet says which m-line it belongs to (RFC 9143 §14).
    private var viewerKnowsSource = false

    private(set) var packetsForwarded: UInt64 = 0
    private(set) var packetsRetransmitted: UInt64 = 0
    private(set) var bytesSent: UInt64 = 0
    private(set) var payloadBytesSent: UInt64 = 0
    var nacksReceived: UInt64 = 0
    var keyframeRequestsReceived: UInt64 = 0
    private(set) var fractionLost: Double = 0
    var reportedLoss = ReportedLoss()
    private(set) var roundTrip: Duration?
    private var sentReports = SentReports()
    /// Whether the viewer has reported in this interval, and what had been sent at its beginning.
    private var hasNewReport = false
    private var bytesAtInterval: UInt64 = 0
    /// Bytes that were sent in the last interval.
    private(set) var recentBytes: UInt64 = 0
    /// Since when a temporal layer is due, and whether it has not come back in time.
    private var dueSince: Instant?
    private(set) var lacksSwitchPoint = false
    /// What is known of the encoding before, until the first packet of the next.
    private var numbersBefore: FrameNumbers?
    private var numbersAtPause: FrameNumbers?
    private var clockBefore: SenderClock?

    init(_ description: SubscribedTrack, peer: Peer, track: Track) {
        self.peer = peer
        outlet = peer.outlet
        self.track = track
        id = description.track
        highestWanted = description.highestEncoding
        place = track.nextPlace
        cname = description.cname
        let parameters = description.parameters
        clockRate = parameters.codec.clockRate
        needsKeyframe = parameters.codec.kind == .video
        // Without the dependency descriptor an AV1 receiver can't tell the spatial layers of a picture apart.
        decodesLowestLayer =
            parameters.codec == .av1 && !parameters.headerExtensions.contains { $0.meaning == .dependencyDescriptor }
        writer = PacketWriter(description, outlet: peer.outlet)
        // Both depend on random SSRCs, so they are as unpredictable as RFC 3550 §5.1 wants them.
        nextSequence = UInt64(description.ssrc & 0x3FFF) + 1
        nextToSend = nextSequence
        nextRetransmissionSequence = UInt64((description.ssrc >> 14) & 0x3FFF) + 1
    }

    /// Whether the viewer waits for a keyframe of the encoding that is forwarded now.
    var awaitsKeyframe: Bool {
        needsKeyframe && !isHeld && (isShed || mapping == nil || mapping?.generation != track.encoding?.generation)
    }

    /// Whether a keyframe has to be asked for. While some are left out because the worker can't serve all, their turn comes with
    /// the next keyframe, which is not worth asking for at once: it makes the work more.
    func awaitsKeyframe(from encoding: Encoding, now: Instant, afterShedding interval: Duration) -> Bool {
        guard awaitsKeyframe, mayBeginRun(now: now) else { return false }
        guard isShed, ration == nil, mapping?.generation == encoding.generation, let last = encoding.keyframeReceivedAt
        else {
            return true
        }
        return now - last >= interval
    }

    /// Whether packets wait for their turn.
    @inline(__always)
    var waits: Bool { nextToSend < nextSequence }

    /// What waits is not sent any more: its numbers are free, and nobody sees a gap.
    private func dropWaiting() { nextSequence = nextToSend }

    /// Goes on with another encoding of the same track, from its next keyframe on.
    func change(to encoding: Track) {
        dropWaiting()
        if let mapping, mapping.generation == track.encoding?.generation {
            numbersBefore = lastFrameNumbers ?? numbersAtPause
            clockBefore = track.encoding?.clock
        }
        // No encoding has this one.
        mapping?.generation = 0
        track = encoding
        next = nil
    }

    /// Forwards the packets of `encoding` that came in this turn: step 6 of the data path.
    ///
    /// The batch must have room for all of them.
    ///
    /// - Parameter run: Whatever it holds is forgotten.
    /// - Returns: How many packets were forwarded. Others precede the packet that the viewer started with, or the keyframe that
    ///   its decoder waits for.
    func forward(
        _ encoding: Encoding,
        run: PacketRun,
        sealer: SRTPSealer,
        to destination: AddressPair,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        run.removeAll()
        guard !isHeld else { return 0 }
        var forwarded = 0
        if decodesLowestLayer, encoding.highestLayer.spatial > 0 { limit(to: layers.target) }
        // Nil before its first packet.
        var firstSequence: UInt64?
        if mapping?.generation == encoding.generation {
            firstSequence = mapping?.firstSequence
        } else {
            frameTimestamp = nil
        }
        for sequence in encoding.pending {
            guard let record = encoding.history.record(of: sequence) else { continue }
            if needsKeyframe, isShed || ration != nil || !track.admission.isWhole, isLeftOut(record, now: now) {
                if !track.admission.contains(place) { run.shedCount += 1 }
                continue
            }
            if record.pointee.startsKeyframe { lacksPackets = false }
            if let firstSequence, !isShed, !record.pointee.followsInterruption {
                guard sequence >= firstSequence, layers.isIdle || selects(record) else { continue }
            } else {
                guard !needsKeyframe || record.pointee.startsKeyframe else { continue }
                // What came before it in this turn has its numbers by the mapping of before.
                forwarded += send(run, of: encoding, sealer: sealer, to: destination, into: egress, now: now)
                run.removePackets()
                dropWaiting()
                mapping = start(at: record, of: encoding, now: now)
                firstSequence = sequence
                isShed = false
                forwarded += sendPreamble(sealer: sealer, to: destination, into: egress, now: now)
            }
            frameTimestamp = record.pointee.timestamp
            run.append(record, length: writer.length(of: record, includesMID: includesMID))
        }
        return forwarded + send(run, of: encoding, sealer: sealer, to: destination, into: egress, now: now)
    }

    /// Limits the layers that are forwarded, from the next picture on; what is above the limit before is taken up with a keyframe.
    func limit(to limit: LayerLimit) {
        var limit = limit
        if decodesLowestLayer, let highest = track.encoding?.highestLayer, highest.spatial > 0 { limit.spatial = 0 }
        guard limit != layers.target else { return }
        if layers.isIdle, let map = mapping?.map {
            // So far none was left out.
            mapping?.latestSequence = nextSequence &- 1 &- map.current.offset
        }
        layers.target = limit
    }

    /// Whether a packet is sent, if only as padding: of some layers it is not.
    private func selects(_ record: UnsafePointer<PacketRecord>) -> Bool {
        guard let latest = mapping?.latestSequence else { return false }
        let sequence = record.pointee.sequence
        // What comes late has its place already, or has none.
        guard sequence > latest else { return mapping?.map.span(of: sequence) != nil }
        mapping?.latestSequence = sequence
        let layer = record.pointee.layer
        let timestamp = record.pointee.timestamp
        layers.observe(layer, timestamp: timestamp, startsKeyframe: record.pointee.startsKeyframe)
        mapping?.map.change(to: layers.current, at: sequence)
        // A packet without a payload is of no layer.
        guard record.pointee.payloadLength > 0, !layers.current.includes(layer) else { return true }
        mapping?.map.omit(sequence, timestamp: timestamp, countsFrames: track.codec == .vp8)
        return false
    }

    /// Sends the packets of a run, or those that may leave now where they are many.
    ///
    /// - Returns: How many were sent.
    @inline(__always)
    private func send(
        _ run: PacketRun,
        of encoding: Encoding,
        sealer: SRTPSealer,
        to destination: AddressPair,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        guard run.count > 0 else { return 0 }
        if !needsKeyframe || (!waits && outlet.pacer.takes(run.byteCount, now: now)) {
            return write(run, of: encoding, sealer: sealer, to: destination, into: egress, now: now)
        }
        return number(run, of: encoding, sealer: sealer, to: destination, into: egress, now: now)
            + sendWaiting(run, sealer: sealer, to: destination, into: egress, now: now)
    }

    /// Gives the packets of a run their numbers, which are sent when their turn comes. One that comes late, and whose turn has been, is sent at once.
    ///
    /// - Returns: How many were sent.
    private func number(
        _ run: PacketRun,
        of encoding: Encoding,
        sealer: SRTPSealer,
        to destination: AddressPair,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        guard let mapping else { return 0 }
        var end = nextSequence
        run.removePackets { record in
            // What was left out meanwhile has none.
            guard let span = mapping.map.span(of: record.pointee.sequence) else { return true }
            let outgoing = record.pointee.sequence &+ span.offset
            if outgoing >= end {
                end = outgoing + 1
                lastTimestamp = record.pointee.timestamp &+ mapping.timestampOffset
            }
            return outgoing >= nextToSend
        }
        let sent = write(run, of: encoding, sealer: sealer, to: destination, into: egress, now: now)
        nextSequence = end
        return sent
    }

    /// Sends of what waits as much as may leave now.
    ///
    /// - Parameter run: Whatever it holds is forgotten.
    /// - Returns: How many packets were sent.
    func sendWaiting(
        _ run: PacketRun,
        sealer: SRTPSealer,
        to destination: AddressPair,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        guard waits else { return 0 }
        guard let mapping, let encoding = track.encoding, mapping.generation == encoding.generation else {
            dropWaiting()
            return 0
        }
        run.removePackets()
        let allowance = outlet.pacer.allowance(now: now)
        while waits, run.byteCount < allowance, run.count < Encoding.maximumPending {
            let span = mapping.map.span(ofOutgoing: nextToSend)
            let record = span.flatMap { encoding.history.record(of: nextToSend &- $0.offset) }
            // Behind a network that has become much slower.
            if span == nil || record.map({ now - $0.pointee.receivedAt > Self.mostWait }) ?? false {
                leaveOut()
                break
            }
            // What is missing comes late, or never.
            if let record {
                run.append(record, length: writer.length(of: record, includesMID: includesMID))
            }
            nextToSend += 1
        }
        outlet.pacer.took(run.byteCount)
        return write(run, of: encoding, sealer: sealer, to: destination, into: egress, now: now)
    }

    /// Writes the packets of a run by the mapping.
    ///
    /// - Returns: How many they are.
    @inline(__always)
    private func write(
        _ run: PacketRun,
        of encoding: Encoding,
        sealer: SRTPSealer,
        to destination: AddressPair,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        // Nearly all packets are of the current span; the map itself is not copied for them.
        guard run.count > 0, let current = mapping?.map.current, let timestampOffset = mapping?.timestampOffset,
            let firstSequence = mapping?.firstSequence
        else { return 0 }
        // Without RTX a packet may have to be repeated to the bit, so it is not changed to suit its neighbours.
        if !writer.repeatsExactly { run.equalizeLengths() }

        for index in 0..<run.count {
            let packet = run[index]
            let sequence = packet.record.pointee.sequence
            guard let span = sequence >= current.first ? current : mapping?.map.span(of: sequence) else { continue }
            let outgoing = sequence &+ span.offset
            let form = OutgoingForm(of: packet.record, in: span)
            let timestamp = packet.record.pointee.timestamp &+ timestampOffset
            var length = 0
            if !needsKeyframe {
                length = writer.writeRedundant(
                    packet.record,
                    after: firstSequence,
                    in: encoding.history,
                    sequence: outgoing,
                    timestamp: timestamp,
                    includesMID: includesMID,
                    sealer: sealer,
                    into: egress,
                    now: now
                )
            }
            if length == 0 {
                length = writer.write(
                    packet.record,
                    padding: packet.padding,
                    sequence: outgoing,
                    timestamp: timestamp,
                    form: form,
                    includesMID: includesMID,
                    sealer: sealer,
                    into: egress,
                    now: now
                )
            }
            egress.commit(length: length, to: destination)
            if outgoing >= nextSequence {
                nextSequence = outgoing + 1
                nextToSend = nextSequence
                lastTimestamp = timestamp
            }
            bytesSent += UInt64(length)
            ration?.take(length)
            payloadBytesSent += UInt64(form.payloadLength)
        }
        lastSentAt = now
        packetsForwarded += UInt64(run.count)
        retransmissions.earn(run.count)
        return run.count
    }

    /// Sends what has to go before the first packet of a mapping.
    private func sendPreamble(
        sealer: SRTPSealer,
        to destination: AddressPair,
        into egress: EgressBatch,
        now: Instant
    ) -> Int {
        guard let mapping, let preamble = mapping.preamble else { return 0 }
        for index in 0..<preamble.packetCount {
            let record = preamble.packet(at: index)
            let length = writer.write(
                record,
                sequence: nextSequence,
                timestamp: mapping.startTimestamp,
                form: OutgoingForm(of: record, in: nil),
                includesMID: includesMID,
                sealer: sealer,
                into: egress,
                now: now
            )
            egress.commit(length: length, to: destination)
            nextSequence += 1
            nextToSend = nextSequence
            bytesSent += UInt64(length)
            payloadBytesSent += UInt64(record.pointee.payloadLength)
        }
        packetsForwarded += UInt64(preamble.packetCount)
        return preamble.packetCount
    }

    /// Whether it can send padding that the viewer's feedback tells of.
    var canSendPadding: Bool { writer.canWritePadding }

    /// Sends a packet that is nothing but padding.
    ///
    /// - Returns: Its length in bytes; 0 when none was sent. The batch must not be full.
    func sendPadding(sealer: SRTPSealer, to destination: AddressPair, into egress: EgressBatch, now: Instant) -> Int {
        let length = writer.writePadding(
            sequence: nextRetransmissionSequence,
            timestamp: lastTimestamp,
            includesMID: includesMID,
            sealer: sealer,
            into: egress,
            now: now
        )
        guard length > 0 else { return 0 }
        nextRetransmissionSequence += 1
        egress.commit(length: length, to: destination)
        bytesSent += UInt64(length)
        return length
    }

    /// Answers a viewer's NACK for one packet from the history: over RTX (RFC 4588) where negotiated, else by the same
    /// packet again.
    ///
    /// - Parameters:
    ///   - oldest: A packet that came longer ago is not sent again: it would only make the picture late.
    ///   - isCongested: Whether too much was sent: layers that are left out since are not sent again.
    /// - Returns: What became of it. The batch must not be full.
    func retransmit(
        _ sequenceNumber: UInt16,
        sealer: SRTPSealer,
        to destination: AddressPair,
        into egress: EgressBatch,
        oldest: Duration,
        isCongested: Bool,
        now: Instant
    ) -> Retransmission {
        // What was never agreed on is not repeated: the same number would be sealed with another header.
        guard let mapping, let encoding = track.encoding, mapping.generation == encoding.generation,
            retransmissions.isLeft, writer.canRepeat
        else { return .refused }
        if isCongested, !retransmissions.isLeftWhileCongested {
            lacksPackets = true
            return .refused
        }
        // The asked-for packet is the latest one sent with these 16 bits.
        let behind = UInt16(truncatingIfNeeded: nextToSend &- 1) &- sequenceNumber
        let outgoing = nextToSend &- 1 &- UInt64(behind)
        let record: UnsafePointer<PacketRecord>
        let timestamp: UInt32
        let span = outgoing < mapping.firstOutgoing ? nil : mapping.map.span(ofOutgoing: outgoing)
        let sequence = span.map { outgoing &- $0.offset }
        // What goes before the viewer's first packet belongs to the keyframe that this begins.
        let isMended = (sequence ?? mapping.firstSequence) < encoding.keyframeSequence
        let late = isMended ? Retransmission.unknown : .tooOld
        if outgoing >= mapping.firstOutgoing {
            guard let sequence else { return late }
            guard sequence <= encoding.highestSequence else { return .unknown }
            guard let kept = encoding.history.record(of: sequence) else {
                return encoding.history.isPast(sequence) ? late : .unknown
            }
            guard now - kept.pointee.receivedAt <= oldest else { return late }
            if isCongested, !layers.target.includes(kept.pointee.layer) {
                lacksPackets = true
                return .unknown
            }
            record = kept
            timestamp = kept.pointee.timestamp &+ mapping.timestampOffset
        } else {
            let before = mapping.firstOutgoing - outgoing
            guard let preamble = mapping.preamble, before <= UInt64(preamble.packetCount) else { return .unknown }
            guard now - mapping.startedAt <= oldest else { return late }
            record = preamble.packet(at: preamble.packetCount - Int(before))
            timestamp = mapping.startTimestamp
        }

        let length: Int
        let form = OutgoingForm(of: record, in: span)
        if let again = writer.writeRetransmission(
            of: record,
            original: sequenceNumber,
            sequence: nextRetransmissionSequence,
            timestamp: timestamp,
            form: form,
            includesMID: includesMID,
            sealer: sealer,
            into: egress,
            now: now
        ) {
            length = again
            nextRetransmissionSequence += 1
        } else {
            length = writer.write(
                record,
                sequence: outgoing,
                timestamp: timestamp,
                form: form,
                includesMID: includesMID,
                sealer: sealer,
                into: egress,
                now: now
            )
        }
        egress.commit(length: length, to: destination)
        retransmissions.take(isCongested: isCongested)
        packetsRetransmitted += 1
        bytesSent += UInt64(length)
        return .sent
    }

    /// What became of a packet that a viewer asked for again.
    enum Retransmission {
        case sent
        /// It never was, or is not here yet, or a keyframe that came since has made up for it.
        case unknown
        /// Only a keyframe helps.
        case tooOld
        /// The viewer had as many sent again as it may.
        case refused
    }

    /// A report block of the viewer on our SSRC (RFC 3550 §6.4.1).
    func received(fractionLost: UInt8, lastSenderReport: UInt32, delay: UInt32, now: Instant) {
        viewerKnowsSource = true
        hasNewReport = true
        self.fractionLost = Double(fractionLost) / 256
        if let sentAt = sentReports.sentAt(lastSenderReport) {
            // DLSR counts 1/65536 s.
            let held = Duration.nanoseconds(Int64((UInt64(delay) * 1_000_000_000) >> 16))
            roundTrip = max(.zero, now - sentAt - held)
        }
    }

    /// Whether it is among those that a track serves while the worker can't serve all.
    func isAdmitted(to track: Track) -> Bool { track.admission.isWhole || track.admission.contains(place) }

    /// The first interval begins.
    func beginInterval() { bytesAtInterval = bytesSent }

    /// Looks at whether a temporal layer has been due for too long: some encoders mark no switch point.
    func noteSwitchPoint(patience: Duration, now: Instant) {
        dueSince = awaitsSwitchPoint ? dueSince ?? now : nil
        lacksSwitchPoint = dueSince.map { now - $0 >= patience } ?? false
    }

    /// Ends an interval, whose bytes `recentBytes` has then.
    ///
    /// - Returns: Whether the viewer has reported in it.
    func endInterval() -> Bool {
        recentBytes = bytesSent - bytesAtInterval
        bytesAtInterval = bytesSent
        defer { hasNewReport = false }
        return hasNewReport
    }

    /// What the next sender report says, or nil while the publisher has not told its clock or nothing was forwarded.
    func senderReportClock(now: Instant) -> (ntp: UInt64, rtpTimestamp: UInt32)? {
        guard let mapping, let encoding = track.encoding, encoding.generation == mapping.generation,
            let clock = encoding.clock
        else { return nil }
        let (ntp, timestamp) = clock.extrapolated(to: now, clockRate: clockRate)
        sentReports.note(middleNTP: UInt32(truncatingIfNeeded: ntp >> 16), sentAt: now)
        return (ntp, timestamp &+ mapping.timestampOffset)
    }

    /// What does not fit whole is sent in runs of frames from now on.
    ///
    /// - Parameter bitsPerSecond: What it may take; nil where all of it fits.
    func ration(to bitsPerSecond: Double?, now: Instant) {
        guard let bitsPerSecond else {
            ration = nil
            return
        }
        if ration == nil { ration = Ration(bitsPerSecond: bitsPerSecond, now: now) }
        ration?.change(to: bitsPerSecond, now: now)
    }

    /// Whether a keyframe would be sent.
    func mayBeginRun(now: Instant) -> Bool { !isShed || ration?.mayBegin(now: now) ?? true }

    /// Nothing is forwarded from now on, up to a keyframe.
    func leaveOut() {
        dropWaiting()
        stop()
    }

    /// What comes from now on is not forwarded, up to a keyframe.
    private func stop() {
        isShed = true
        // By then the packet may have left the history.
        numbersAtPause = lastFrameNumbers ?? numbersAtPause
    }

    /// How long it takes until what waits has left.
    private var expectedWait: Duration { outlet.pacer.time(of: Int(nextSequence - nextToSend) * Self.usualBytes) }

    /// Whether a packet is left out while the worker can't serve all, or the viewer's network can't carry all: from the beginning of a frame
    /// on, until a keyframe begins while it is this subscription's turn and a run may begin.
    private func isLeftOut(_ record: UnsafePointer<PacketRecord>, now: Instant) -> Bool {
        let isAdmitted = track.admission.contains(place)
        if isShed { return !(isAdmitted && record.pointee.startsKeyframe && mayBeginRun(now: now)) }
        // A late packet belongs to a frame that has begun.
        let isNewFrame = frameTimestamp.map { Int32(bitPattern: record.pointee.timestamp &- $0) > 0 } ?? true
        let goesOn = ration == nil || (ration?.goesOn(now: now) == true && expectedWait <= Self.longestWait)
        if isAdmitted && goesOn || !isNewFrame { return false }
        stop()
        return true
    }

    /// Without RTX a packet may have to be repeated to the bit, so what it says must not depend on when.
    private var includesMID: Bool { !viewerKnowsSource || writer.repeatsExactly }

    /// Puts the first packet of a new encoding directly behind the last one of the old.
    private func start(at record: UnsafePointer<PacketRecord>, of encoding: Encoding, now: Instant) -> Mapping {
        let first = record.pointee
        var timestampOffset: UInt32 = 0
        var numbering = mapping?.map.current.numbering ?? FrameNumbering()
        if let mapping, mapping.generation == encoding.generation {
            // The same source after a pause: its clock has gone on.
            timestampOffset = mapping.timestampOffset
            if let before = lastFrameNumbers ?? numbersAtPause, let numbers = FrameNumbers(of: record) {
                numbering = FrameNumbering(from: numbers, continuing: before)
            }
        } else {
            if let lastSentAt {
                timestampOffset = timestamp(following: lastSentAt, at: first, of: encoding, now: now) &- first.timestamp
            }
            if let numbersBefore, let numbers = FrameNumbers(of: record) {
                numbering = FrameNumbering(from: numbers, continuing: numbersBefore)
            }
        }
        numbersBefore = nil
        clockBefore = nil
        let preamble = first.isBare ? encoding.parameterSets : nil
        let firstOutgoing = nextSequence &+ UInt64(preamble?.packetCount ?? 0)
        layers.observe(first.layer, timestamp: first.timestamp, startsKeyframe: true)
        return Mapping(
            generation: encoding.generation,
            firstSequence: first.sequence,
            firstOutgoing: firstOutgoing,
            latestSequence: first.sequence,
            map: SequenceMap(
                first: first.sequence,
                offset: firstOutgoing &- first.sequence,
                numbering: numbering,
                limit: layers.current
            ),
            timestampOffset: timestampOffset,
            preamble: preamble,
            startTimestamp: first.timestamp &+ timestampOffset,
            startedAt: now
        )
    }

    /// Our timestamp for the first packet of an encoding: as much later than the last one as the publisher's clocks say, where both
    /// are encodings of one track, and else as the time that has passed.
    private func timestamp(
        following lastSentAt: Instant,
        at first: PacketRecord,
        of encoding: Encoding,
        now: Instant
    ) -> UInt32 {
        if let mapping, let clockBefore, let clock = encoding.clock {
            let inOld = clockBefore.timestamp(at: first.timestamp, of: clock, clockRate: clockRate)
            let later = Int32(bitPattern: inOld &+ mapping.timestampOffset &- lastTimestamp)
            // Both may have the same picture; anything else is no clock.
            if abs(Int64(later)) < Int64(clockRate) { return lastTimestamp &+ UInt32(max(1, later)) }
        }
        let elapsed = now > lastSentAt ? now.nanoseconds - lastSentAt.nanoseconds : 0
        let units = max(1, elapsed / 1_000 * UInt64(clockRate) / 1_000_000)
        return lastTimestamp &+ UInt32(truncatingIfNeeded: units)
    }

    /// The numbers of the last frame that was sent, as the viewer has them.
    private var lastFrameNumbers: FrameNumbers? {
        guard let mapping, let encoding = track.encoding, mapping.generation == encoding.generation else { return nil }
        // Packets that are nothing but padding carry none.
        for back in 1...UInt64(Self.longestPadding) {
            guard let span = mapping.map.span(ofOutgoing: nextSequence &- back),
                let record = encoding.history.record(of: nextSequence &- back &- span.offset)
            else { continue }
            if record.pointee.payloadLength > 0, span.limit.includes(record.pointee.layer) {
                return FrameNumbers(of: record).map(span.numbering.applied)
            }
        }
        return nil
    }

    /// What redundancy takes, as a multiple of what is sent without, while the viewer loses packets.
    func redundancyShare(at now: Instant) -> Double { writer.redundancyShare(at: now) }
}
