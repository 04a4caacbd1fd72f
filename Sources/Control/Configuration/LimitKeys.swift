import Commands

/// The keys under `limits`, each with the field that it sets and what is allowed.
enum LimitKeys {
    struct Count {
        let name: String
        let field: any WritableKeyPath<Limits, Int> & Sendable
        let range: ClosedRange<Int>
    }

    struct Time {
        let name: String
        let field: any WritableKeyPath<Limits, Duration> & Sendable
        let range: ClosedRange<Duration>
    }

    static let counts: [Count] = [
        Count(name: "bodyBytes", field: \.bodyBytes, range: 4096...1_048_576),
        Count(name: "mediaSections", field: \.mediaSections, range: 1...64),
        Count(name: "candidates", field: \.candidates, range: 1...1024),
        Count(name: "peersPerAddress", field: \.peersPerAddress, range: 1...1_000_000),
        Count(name: "peers", field: \.peers, range: 1...1_000_000),
        Count(name: "sessionsPerAddressPerMinute", field: \.sessionsPerAddressPerMinute, range: 1...1_000_000),
        Count(
            name: "wrongTokensPerAddressPerMinute",
            field: \.wrongTokensPerAddressPerMinute,
            range: 1...1_000_000
        ),
        Count(name: "httpConnections", field: \.httpConnections, range: 10...100_000),
        Count(name: "rtpPacketBytes", field: \.rtpPacketBytes, range: 576...1460),
        Count(name: "sourcesPerPeer", field: \.sourcesPerPeer, range: 2...1024),
        Count(name: "videoHistoryPackets", field: \.videoHistoryPackets, range: 64...16_384),
        Count(name: "audioHistoryPackets", field: \.audioHistoryPackets, range: 64...4096),
    ]

    static let durations: [Time] = [
        Time(name: "streamLinger", field: \.streamLinger, range: .zero ... .seconds(3600)),
        Time(name: "publisherSilence", field: \.publisherSilence, range: .milliseconds(100) ... .seconds(60)),
        Time(name: "httpIdle", field: \.httpIdle, range: .seconds(5) ... .seconds(3600)),
        Time(name: "drain", field: \.drain, range: .zero ... .seconds(600)),
        Time(name: "controlSilence", field: \.controlSilence, range: .seconds(1) ... .seconds(3600)),
        Time(name: "iceConnect", field: \.iceConnect, range: .seconds(1) ... .seconds(120)),
        Time(name: "consent", field: \.consent, range: .seconds(5) ... .seconds(120)),
        Time(name: "dtlsHandshake", field: \.dtlsHandshake, range: .seconds(1) ... .seconds(120)),
        Time(
            name: "keyframeRequestInterval",
            field: \.keyframeRequestInterval,
            range: .milliseconds(100) ... .seconds(10)
        ),
    ]

    /// `500ms`, `15s`, `2m` or `1h`.
    static func duration(_ text: String) -> Duration? {
        let number = text.prefix { $0.isNumber || $0 == "." }
        guard let value = Double(number), value.isFinite, value < 1e9 else { return nil }
        switch text.dropFirst(number.count) {
        case "ms": return .milliseconds(value)
        case "s": return .seconds(value)
        case "m": return .seconds(value * 60)
        case "h": return .seconds(value * 3600)
        default: return nil
        }
    }
}
