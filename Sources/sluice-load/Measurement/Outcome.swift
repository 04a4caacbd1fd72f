import Transport

/// What a run measured.
struct Outcome: Sendable {
    /// The measured window: from its beginning until what its publishers sent had time to arrive.
    struct Window: Sendable {
        var startedAt = Instant(nanoseconds: 0)
        /// RTP packets of all publishers, and their video frames.
        var packetsSent: UInt64 = 0
        var framesSent: UInt64 = 0
        var latency = LatencyByKind()
    }

    struct PublisherResult: Sendable {
        var packetsSent: UInt64
        var keyframesSent: UInt64
        var keyframeRequests: UInt64
        var nacksReceived: UInt64
        var packetsRetransmitted: UInt64
    }

    struct ViewerResult: Sendable {
        var index: Int
        var isConnected: Bool
        var isVerified: Bool
        /// From asking for its first stream to the end of the DTLS handshake.
        var timeToConnection: Duration?
        var timeToPicture: Duration?
        var streamsReceived: Int
        var lastWholeFrame: Instant?
        var lostWhileOthersJoined: UInt64
        var surge: Viewer.Counts
        var window: Viewer.Counts
    }

    var window: Window
    /// Keyframe requests before all but the first viewers began to join.
    var keyframeRequestsBefore: UInt64
    /// Video frames of all publishers in the surge.
    var surgeFrames: UInt64
    /// What the viewers negotiated.
    var profile: SRTPProfile?
    var publishers: [PublisherResult]
    var viewers: [ViewerResult]
    var handshakesFailed: Int
}
