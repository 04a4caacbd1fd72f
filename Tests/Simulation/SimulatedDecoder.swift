package import Transport
import Wire

/// What a viewer's client does with a video source, as browsers do: it asks for what is lost, decodes frame by frame what is whole, goes on
/// with the next keyframe where something is missing, and asks for one when it has waited too long.
///
/// Frames are those of `SimulatedCamera`.
package final class SimulatedDecoder {
    private static let firstRequest = Duration.milliseconds(5)
    private static let nextRequest = Duration.milliseconds(100)
    private static let mostRequests = 10
    /// It asks for a keyframe when nothing could be decoded for so long though packets come, and again after as long.
    private static let patience = Duration.seconds(1)
    private static let window: UInt64 = 4096

    private struct Packet {
        let timestamp: UInt32
        let marker: Bool
        /// Nil for nothing but padding.
        let frame: Frame?
    }

    private struct Frame {
        let begins: Bool
        let isKeyframe: Bool
        let encoding: Int
    }

    /// A frame that was decoded.
    package struct Decoded {
        package let at: Instant
        package let encoding: Int
    }

    private let ssrc: UInt32
    private let retransmissionSSRC: UInt32
    private var packets: [UInt64: Packet] = [:]
    private var missing: [UInt64: (due: Instant, requests: Int)] = [:]
    private var highest: UInt64?
    /// The first packet that no decoded frame had, and that was not stepped over.
    private var next: UInt64 = 0
    private var hasPicture = false
    private var askedAt: Instant?
    private var progressAt: Instant?
    private var read = 0
    package private(set) var decoded: [Decoded] = []
    package private(set) var keyframeRequests = 0

    package init(ssrc: UInt32, retransmissionSSRC: UInt32) {
        self.ssrc = ssrc
        self.retransmissionSSRC = retransmissionSSRC
    }

    /// Takes in what has come since it was last called, and asks for what is to be asked for.
    package func advance(_ client: SimulatedClient, now: Instant) {
        while read < client.received.count {
            take(client.received[read], now: now)
            read += 1
        }
        decode(now: now)
        requestLost(by: client, now: now)
        requestKeyframe(by: client, now: now)
    }

    private func take(_ bytes: [UInt8], now: Instant) {
        guard let header = try? RTPHeader(parsing: bytes.span.bytes) else { return }
        let padding = (try? header.paddingLength(in: bytes.span.bytes)) ?? 0
        var payload = bytes[header.payloadOffset..<(bytes.count - padding)]
        var number = header.sequenceNumber
        if header.ssrc == retransmissionSSRC {
            guard payload.count > 2 else { return }
            number = UInt16(payload[payload.startIndex]) << 8 | UInt16(payload[payload.startIndex + 1])
            payload = payload.dropFirst(2)
        } else if header.ssrc != ssrc {
            return
        }
        let sequence = extended(number)
        guard sequence >= next, packets[sequence] == nil else { return }
        var frame: Frame?
        if payload.count > SimulatedCamera.encodingOffset {
            let place = payload.startIndex
            frame = Frame(
                begins: payload[place] & 0x10 != 0,
                isKeyframe: payload[place + 5] & 1 == 0,
                encoding: Int(payload[place + SimulatedCamera.encodingOffset])
            )
        }
        packets[sequence] = Packet(timestamp: header.timestamp, marker: header.marker, frame: frame)
        missing[sequence] = nil
        if let highest, sequence > highest + 1 {
            for lost in max(highest + 1, next)..<sequence { missing[lost] = (now + Self.firstRequest, 0) }
        }
        if highest == nil { next = sequence }
        highest = max(highest ?? 0, sequence)
        if progressAt == nil { progressAt = now }
    }

    private func extended(_ number: UInt16) -> UInt64 {
        guard let highest else { return UInt64(number) + 1 << 16 }
        let difference = Int16(bitPattern: number &- UInt16(truncatingIfNeeded: highest))
        return highest &+ UInt64(bitPattern: Int64(difference))
    }

    private func decode(now: Instant) {
        guard let highest else { return }
        while next <= highest {
            if let packet = packets[next], packet.frame == nil {
                advance(to: next + 1)
            } else if hasPicture, let end = frame(at: next, isKeyframe: nil) {
                finish(at: next, end: end, now: now)
            } else if let (first, end) = wholeKeyframe() {
                hasPicture = true
                finish(at: first, end: end, now: now)
            } else {
                return
            }
        }
    }

    /// Where a frame that is whole ends; nil where it is not.
    private func frame(at first: UInt64, isKeyframe: Bool?) -> UInt64? {
        guard let begin = packets[first], let frame = begin.frame, frame.begins,
            isKeyframe == nil || frame.isKeyframe == isKeyframe
        else { return nil }
        var place = first
        while let packet = packets[place], packet.timestamp == begin.timestamp || packet.frame == nil {
            if packet.marker { return place }
            place += 1
        }
        return nil
    }

    private func wholeKeyframe() -> (first: UInt64, end: UInt64)? {
        guard let highest else { return nil }
        for place in next...highest {
            // Only the first packet of a keyframe says what it is.
            if let packet = packets[place], packet.frame?.begins == true, packet.frame?.isKeyframe == true,
                let end = frame(at: place, isKeyframe: true)
            {
                return (place, end)
            }
        }
        return nil
    }

    private func finish(at first: UInt64, end: UInt64, now: Instant) {
        decoded.append(Decoded(at: now, encoding: packets[first]?.frame?.encoding ?? 0))
        progressAt = now
        askedAt = nil
        advance(to: end + 1)
    }

    private func advance(to sequence: UInt64) {
        for place in next..<sequence {
            packets[place] = nil
            missing[place] = nil
        }
        next = sequence
    }

    private func requestLost(by client: SimulatedClient, now: Instant) {
        var lost: [UInt64] = []
        for (sequence, state) in missing where state.due <= now {
            guard state.requests < Self.mostRequests else { continue }
            missing[sequence] = (now + Self.nextRequest, state.requests + 1)
            lost.append(sequence)
        }
        guard !lost.isEmpty else { return }
        var packet: [UInt8] = []
        let numbers = lost.sorted().prefix(200).map { UInt16(truncatingIfNeeded: $0) }
        RTCPWriter.nack(sender: 9, media: ssrc, lost: numbers[...], to: &packet)
        client.send(control: packet)
    }

    private func requestKeyframe(by client: SimulatedClient, now: Instant) {
        guard let progressAt, now - progressAt > Self.patience, now - (askedAt ?? progressAt) > Self.patience else {
            return
        }
        askedAt = now
        keyframeRequests += 1
        var packet: [UInt8] = []
        RTCPWriter.pictureLossIndication(sender: 9, media: ssrc, to: &packet)
        client.send(control: packet)
    }
}
