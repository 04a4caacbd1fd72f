import Commands
import Forwarding
import Simulation
import Transport
import Wire

/// What it costs to know what a viewer's network carries: the same simulcast forwarded to viewers that tell what arrives, twenty times a
/// second, and to viewers that do not.
enum FeedbackCosts {
    private static let viewers = 300
    private static let runs = 3
    /// Of the higher encoding, one in each turn of 5 ms: 1.9 Mbit/s. The lower one has a quarter.
    private static let packets: UInt64 = 8_000
    private static let turn = Duration.milliseconds(5)
    private static let turnsPerReport = 10
    private static let turnsPerSecond = 200
    private static let lowerShare: UInt64 = 4
    private static let keyframeInterval: UInt64 = 200
    private static let payloadBytes = 1180
    private static let ssrc: UInt32 = 77
    private static let extensionID: UInt8 = 5
    private static let mostPerReport = 200

    /// Buffers grow now and then, and with each switch.
    private static let mostAllocations = 0.001

    /// Of a packet.
    private struct Cost {
        var nanoseconds: Double
        var allocations: Double
    }

    /// - Returns: Whether nothing was allocated for each packet.
    static func measure() throws -> Bool {
        var with: [Cost] = []
        var without: [Cost] = []
        for _ in 0..<runs {
            without.append(try measure(feedback: false))
            with.append(try measure(feedback: true))
        }
        func median(_ costs: [Cost]) -> Double { costs.map(\.nanoseconds).sorted()[costs.count / 2] }
        let allocations = (with + without).map(\.allocations).max() ?? 0
        print(
            "\(viewers) viewers of simulcast without feedback: \(Int(median(without))) ns of CPU time for each packet; with feedback, "
                + "\(Int(median(with))) ns, \(Double(Int(median(with) / median(without) * 100)) / 100) times as much; at most \(Double(Int(allocations * 1e6)) / 1e6) allocations each"
        )
        return allocations < mostAllocations
    }

    private static func parameters(_ feedback: Bool, sends: Bool) -> MediaParameters {
        MediaParameters(
            mid: "0",
            codec: .vp8,
            payloadType: sends ? 96 : 120,
            retransmissionPayloadType: sends ? nil : 121,
            headerExtensions: feedback && !sends
                ? [HeaderExtensionMapping(id: extensionID, meaning: .transportSequenceNumber)] : [],
            feedback: feedback && !sends
                ? [.nack, .pictureLossIndication, .transportWideCongestionControl] : [.nack, .pictureLossIndication],
            allowsReducedSizeRTCP: true
        )
    }

    private static func measure(feedback: Bool) throws -> Cost {
        var limits = Limits()
        limits.viewerSilence = .seconds(3600)
        let simulation = try Simulation(seed: 1, limits: limits)
        let tracks = [TrackID(rawValue: 1), TrackID(rawValue: 2)]
        let publisher = try simulation.connect(
            1,
            published: tracks.enumerated().map { place, track in
                PublishedTrack(
                    track: track,
                    parameters: parameters(feedback, sends: true),
                    announcedSources: [AnnouncedSource(ssrc: ssrc + UInt32(place))]
                )
            }
        )
        let clients = try (0..<viewers).map { viewer in
            try simulation.connect(
                UInt64(viewer) + 2,
                subscribed: [
                    SubscribedTrack(
                        track: tracks[0],
                        higherEncodings: [tracks[1]],
                        home: WorkerIndex(rawValue: 0),
                        parameters: parameters(feedback, sends: false),
                        ssrc: 1000 + UInt32(viewer) * 2,
                        retransmissionSSRC: 1001 + UInt32(viewer) * 2,
                        cname: "benchmark"
                    )
                ]
            )
        }
        let firstPort = Int(clients[0].address.port)
        let sent = UnsafeMutableBufferPointer<Int>.allocate(capacity: viewers)
        sent.initialize(repeating: 0)
        defer { sent.deallocate() }
        var told = [Int](repeating: 0, count: viewers)
        simulation.discardsSent = true
        simulation.willDiscard = { address, count, bytes in
            guard bytes.count > 1, !RTCP.isRTCP(secondByte: bytes[1]) else { return }
            let place = Int(address.port) - firstPort
            if sent.indices.contains(place) { sent[place] += count }
        }
        let slot = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 64)
        defer { slot.deallocate() }
        let engine = simulation.engines[0]
        var now = simulation.now
        var elapsed: UInt64 = 0
        var allocated: UInt = 0
        var forwardedBefore: UInt64 = 0
        for sequence in 1...packets {
            if sequence == packets / 4 {
                elapsed = 0
                allocated = 0
                forwardedBefore = engine.counters.packetsForwarded
            }
            var datagrams: [([UInt8], SocketAddress)] = []
            for encoding in [UInt64(0), 1] where encoding == 1 || sequence % lowerShare == 0 {
                let number = encoding == 1 ? sequence : sequence / lowerShare
                let isKeyframe = number % keyframeInterval == 1
                publisher.send(
                    sequence: number,
                    timestamp: UInt32(truncatingIfNeeded: sequence * 450),
                    ssrc: ssrc + UInt32(encoding),
                    marker: true,
                    payload: [
                        0x90, 0xC0, 0x80 | UInt8(number >> 8 & 0x7F), UInt8(truncatingIfNeeded: number), 0,
                        isKeyframe ? 0 : 1,
                    ] + [UInt8](repeating: 7, count: payloadBytes)
                )
            }
            datagrams += publisher.takeOutbox().map { ($0, publisher.address) }
            // The viewers' reports do not come all at once.
            for (place, client) in clients.enumerated() where (Int(sequence) + place) % turnsPerReport == 0 {
                if feedback, sent[place] > told[place] {
                    client.send(control: feedbackPacket(first: told[place] + 1, end: sent[place] + 1, now: now))
                    told[place] = sent[place]
                }
                if (Int(sequence) + place) % turnsPerSecond == 0 {
                    client.report(on: 1000 + UInt32(place) * 2, fractionLost: 0)
                }
                datagrams += client.takeOutbox().map { ($0, client.address) }
            }
            let allocationsBefore = ForwardingBenchmark.allocations()
            let startedAt = ForwardingBenchmark.cpuNanoseconds()
            for (datagram, address) in datagrams {
                slot.copyBytes(from: datagram)
                engine.receive(
                    UnsafeMutableRawBufferPointer(rebasing: slot[..<datagram.count]),
                    from: AddressPair(remote: address),
                    now: now
                )
            }
            now = now + turn
            engine.advance(to: now)
            engine.endTurn(now: now)
            elapsed += ForwardingBenchmark.cpuNanoseconds() - startedAt
            allocated += ForwardingBenchmark.allocations() - allocationsBefore
        }
        let forwarded = engine.counters.packetsForwarded - forwardedBefore
        let count = Double(max(1, forwarded))
        return Cost(nanoseconds: Double(elapsed) / count, allocations: Double(allocated) / count)
    }

    /// What a viewer tells of packets that came evenly since its last report.
    private static func feedbackPacket(first: Int, end: Int, now: Instant) -> [UInt8] {
        let count = min(end - first, mostPerReport)
        let span = turn * turnsPerReport
        let arrivals = (0..<count).map { place in
            let arrivedAt = now + .seconds(5) + span * (Double(place + 1) / Double(count))
            return Int64(arrivedAt.nanoseconds / UInt64(TransportFeedback.tickMicroseconds * 1000))
        }
        var bytes: [UInt8] = []
        arrivals.withUnsafeBufferPointer {
            _ = TransportFeedback.write(
                sender: 1,
                media: 2,
                baseSequence: UInt16(truncatingIfNeeded: end - count),
                count: UInt8(truncatingIfNeeded: first),
                arrivals: $0[...],
                to: &bytes
            )
        }
        return bytes
    }
}
