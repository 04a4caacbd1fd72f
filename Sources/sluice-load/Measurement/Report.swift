import Foundation
import Transport

/// The figures of a run, for people and for programs.
struct Report: Encodable, Sendable {
    struct Latency: Encodable, Sendable {
        var p50 = 0.0
        var p99 = 0.0
        var maximum = 0.0

        init(_ histogram: LatencyHistogram) {
            p50 = histogram.milliseconds(at: 0.5)
            p99 = histogram.milliseconds(at: 0.99)
            maximum = Double(histogram.maximum) / 1e6
        }
    }

    var publishers: Int
    /// Viewers' sessions that were asked for, that connected, and that ever had a whole picture.
    var viewers: Int
    var connected: Int
    var withPicture: Int
    /// Those without a whole frame in the last two seconds before the publishers stopped.
    var withoutPictureAtEnd: Int
    var profile: String
    var seconds: Double

    var packetsSent: UInt64
    var packetsReceived: UInt64
    /// Sequence numbers that viewers missed, per cent.
    var lossPercent: Double
    /// Packets that viewers received of those that were sent for them, per cent; lower than 100 when the server shed some.
    var deliveredPercent: Double
    /// The viewer that got the fewest, and the one that got the most.
    var leastDeliveredPercent: Double
    var mostDeliveredPercent: Double
    var wholeFrames: UInt64
    var brokenFrames: UInt64
    var halfFrames: UInt64
    var retransmissions: UInt64
    var payloadsVerified: UInt64
    var payloadsCorrupt: UInt64

    /// Milliseconds.
    var videoLatency: Latency
    var audioLatency: Latency
    /// Milliseconds from asking for a stream to its first whole frame.
    var timeToPicture: Latency
    /// Milliseconds from asking for a stream, or from opening the WebSocket, to the end of the DTLS handshake.
    var timeToConnection: Latency
    /// Streams whose video came, of the viewer with the fewest.
    var leastStreams: Int
    /// How long all viewers' signalling took.
    var joinSeconds = 0.0
    var joinCosts: JoinCosts?
    /// What came over WebSockets until the end of the measurement, by type of message.
    var messages: [String: MessageTally.Traffic]?
    var handshakesFailed: Int
    /// Since the first viewers were there.
    var keyframeRequests: UInt64
    var keyframes: UInt64
    /// What the first viewers missed from the moment that the others began to join until the window.
    var lostByFirstViewers: UInt64

    /// What viewers got of the surge's frames, per cent: the one that got the fewest, the mean, and the one that got the most;
    /// frames that were cut short; and audio packets, per cent.
    struct Surge: Encodable, Sendable {
        var leastFramesPercent: Double
        var framesPercent: Double
        var mostFramesPercent: Double
        var brokenFrames: UInt64
        var halfFrames: UInt64
        var leastAudioPercent: Double
    }
    var surge: Surge?

    var serverCPUSeconds: Double?
    /// Of the server's threads, by name.
    var serverThreadSeconds: [String: Double]?
    var serverResidentMegabytes: Double?
    var loadCPUSeconds = 0.0
    /// The server's `utime + stime` over the packets that viewers received, in microseconds.
    var serverMicrosecondsPerPacket: Double? {
        guard let serverCPUSeconds, packetsReceived > 0 else { return nil }
        return serverCPUSeconds / Double(packetsReceived) * 1e6
    }
    var loadMicrosecondsPerPacket: Double { packetsReceived > 0 ? loadCPUSeconds / Double(packetsReceived) * 1e6 : 0 }

    init(_ outcome: Outcome, plan: LoadPlan) {
        let window = outcome.window
        publishers = plan.publishers
        viewers = plan.viewers * plan.sessionsPerViewer
        connected = outcome.viewers.count(where: \.isConnected)
        withPicture = outcome.viewers.count { $0.timeToPicture != nil }
        let end = window.startedAt + plan.duration
        withoutPictureAtEnd = outcome.viewers.count { viewer in
            viewer.lastWholeFrame.map { $0 + .seconds(2) < end } ?? true
        }
        profile = outcome.profile?.name ?? "none"
        seconds = plan.duration.seconds

        packetsSent = window.packetsSent
        packetsReceived = outcome.viewers.reduce(0) { $0 + $1.window.packets }
        let lost = outcome.viewers.reduce(0) { $0 + $1.window.lost }
        lossPercent = lost > 0 ? Double(lost) / Double(packetsReceived + lost) * 100 : 0
        let perSession = Double(window.packetsSent) / Double(max(plan.publishers, 1)) * Double(plan.streamsPerSession)
        func part(_ packets: UInt64) -> Double { perSession > 0 ? Double(packets) / perSession * 100 : 0 }
        deliveredPercent = part(packetsReceived) / Double(max(viewers, 1))
        let delivered = outcome.viewers.map { part($0.window.packets) }
        leastDeliveredPercent = delivered.min() ?? 0
        mostDeliveredPercent = delivered.max() ?? 0
        wholeFrames = outcome.viewers.reduce(0) { $0 + $1.window.wholeFrames }
        brokenFrames = outcome.viewers.reduce(0) { $0 + $1.window.brokenFrames }
        halfFrames = outcome.viewers.reduce(0) { $0 + $1.window.halfFrames }
        retransmissions = outcome.viewers.reduce(0) { $0 + $1.window.retransmissions }
        payloadsVerified = outcome.viewers.reduce(0) { $0 + $1.window.verified }
        payloadsCorrupt = outcome.viewers.reduce(0) { $0 + $1.window.corrupt }

        videoLatency = Latency(window.latency.video)
        audioLatency = Latency(window.latency.audio)
        timeToPicture = Self.latency(outcome.viewers.compactMap(\.timeToPicture))
        timeToConnection = Self.latency(outcome.viewers.compactMap(\.timeToConnection))
        leastStreams = outcome.viewers.map(\.streamsReceived).min() ?? 0
        handshakesFailed = outcome.handshakesFailed
        keyframeRequests = outcome.publishers.reduce(0) { $0 + $1.keyframeRequests } - outcome.keyframeRequestsBefore
        if plan.surge > 1 {
            let sent = Double(outcome.surgeFrames) / Double(plan.publishers) * Double(plan.streamsPerSession)
            let frames = outcome.viewers.map { Double($0.surge.wholeFrames) / max(sent, 1) * 100 }
            let audio = plan.audioPacketsPerSecond * plan.surgeDuration.seconds * Double(plan.streamsPerSession)
            surge = Surge(
                leastFramesPercent: frames.min() ?? 0,
                framesPercent: frames.reduce(0, +) / Double(max(frames.count, 1)),
                mostFramesPercent: frames.max() ?? 0,
                brokenFrames: outcome.viewers.reduce(0) { $0 + $1.surge.brokenFrames },
                halfFrames: outcome.viewers.reduce(0) { $0 + $1.surge.halfFrames },
                leastAudioPercent: (outcome.viewers.map { Double($0.surge.audioPackets) }.min() ?? 0) / audio * 100
            )
        }
        keyframes = outcome.publishers.reduce(0) { $0 + $1.keyframesSent }
        lostByFirstViewers = outcome.viewers.reduce(0) { sum, viewer in
            sum + (viewer.index < plan.firstViewers ? viewer.lostWhileOthersJoined : 0)
        }
    }

    private static func latency(_ times: [Duration]) -> Latency {
        var histogram = LatencyHistogram()
        for time in times { histogram.record(UInt64(clamping: time.wholeNanoseconds)) }
        return Latency(histogram)
    }

    /// One JSON object, with `serverMicrosecondsPerPacket` and `loadMicrosecondsPerPacket` in it.
    func json() throws -> String {
        struct Document: Encodable {
            let report: Report

            enum Keys: String, CodingKey { case serverMicrosecondsPerPacket, loadMicrosecondsPerPacket }

            func encode(to encoder: any Encoder) throws {
                try report.encode(to: encoder)
                var derived = encoder.container(keyedBy: Keys.self)
                try derived.encode(report.serverMicrosecondsPerPacket, forKey: .serverMicrosecondsPerPacket)
                try derived.encode(report.loadMicrosecondsPerPacket, forKey: .loadMicrosecondsPerPacket)
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return String(decoding: try encoder.encode(Document(report: self)), as: UTF8.self)
    }

    /// A table for people.
    func table() -> String {
        func number(_ value: Double, _ digits: Int = 2) -> String {
            value.formatted(.number.precision(.fractionLength(digits)).grouping(.never))
        }
        func latency(_ value: Latency) -> String {
            "p50 \(number(value.p50)) ms, p99 \(number(value.p99)) ms, longest \(number(value.maximum)) ms"
        }
        var rows: [(String, String)] = [
            ("viewers", "\(connected) of \(viewers) connected, \(withPicture) had a picture"),
            ("without one in the last 2 s", "\(withoutPictureAtEnd)"),
            ("encryption", profile),
            ("packets in \(number(seconds, 0)) s", "\(packetsSent) published, \(packetsReceived) received by viewers"),
            ("lost", "\(number(lossPercent, 3)) %"),
            (
                "delivered",
                "\(number(deliveredPercent)) % (viewers from \(number(leastDeliveredPercent)) to "
                    + "\(number(mostDeliveredPercent)) %)"
            ),
            ("frames", "\(wholeFrames) whole, \(brokenFrames) with a gap, \(halfFrames) cut short"),
            ("payloads checked", "\(payloadsVerified) right, \(payloadsCorrupt) wrong"),
            ("latency of video", latency(videoLatency)),
            ("latency of audio", latency(audioLatency)),
            ("time to a connection", latency(timeToConnection)),
            ("time to a picture", latency(timeToPicture)),
            ("joining", "\(number(joinSeconds)) s of signalling, \(handshakesFailed) handshakes failed"),
            ("keyframes", "\(keyframes) sent, \(keyframeRequests) asked for"),
            ("lost by the first viewers", "\(lostByFirstViewers) while others joined"),
            ("load generator's CPU", "\(number(loadMicrosecondsPerPacket, 3)) µs a packet received"),
        ]
        if let surge {
            rows.append(
                (
                    "frames in the surge",
                    "\(number(surge.framesPercent, 1)) % (viewers from \(number(surge.leastFramesPercent, 1)) to "
                        + "\(number(surge.mostFramesPercent, 1)) %), \(surge.brokenFrames) with a gap, "
                        + "\(surge.halfFrames) cut short; audio at least \(number(surge.leastAudioPercent, 1)) %"
                )
            )
        }
        rows += joinCosts?.rows(number) ?? []
        if let messages { rows += Self.rows(messages) }
        if let cost = serverMicrosecondsPerPacket, let used = serverCPUSeconds, let memory = serverResidentMegabytes {
            rows.append(("server's CPU", "\(number(cost, 3)) µs a packet received (\(number(used)) s in all)"))
            rows.append(("server's memory", "\(number(memory, 1)) MB"))
        }
        let width = rows.map(\.0.count).max() ?? 0
        return "\n"
            + rows.map { $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 }.joined(separator: "\n")
    }
}
