import Transport

/// What is to be sent, watched and measured: the command line's values, checked.
struct LoadPlan: Sendable {
    enum VideoCodec: String, CaseIterable, Sendable {
        case vp8 = "VP8"
        case h264 = "H264"
    }

    var publishers: Int
    var viewers: Int
    /// Streams that each viewer watches.
    var streamsPerViewer: Int
    /// Streams that come over one session: all of a viewer's with Janus and in a room, one with WHEP.
    var streamsPerSession: Int

    var codec: VideoCodec
    /// Video frames a second.
    var framesPerSecond: Double
    /// Of RTP packets, without SRTP's tag, in bits per second.
    var bitrate: Double
    /// Longest RTP packet in bytes, without SRTP's tag.
    var packetBytes: Int
    /// How many times as long as other frames a keyframe is.
    var keyframeFactor: Double
    /// How long a publisher takes to send a frame, as a pacer does; zero sends its packets as one burst.
    var spread: Duration
    /// Whether each publisher sends audio too.
    var hasAudio: Bool
    var audioPacketsPerSecond: Double

    var profiles: [SRTPProfile]
    /// Viewers that join in a second; 0 is as fast as the server answers.
    var joinsPerSecond: Double
    /// Viewers whose signalling is under way at a time.
    var parallelJoins: Int
    /// Viewers at the beginning and at the end of joining whose cost to the server is looked at; 0 is none.
    var measuredJoins: Int
    /// Viewers that join before all others and have a picture before those begin.
    var firstViewers: Int
    /// Viewers that decrypt and check all that they receive, spread evenly over the order of joining.
    var verifiedViewers: Int
    /// The part of datagrams that each viewer throws away on arrival, 0 to 1.
    var loss: Double
    /// Whether viewers ask for what they miss.
    var sendsNacks: Bool
    /// How many times their length all frames have during a surge before the measurement; 1 is no surge.
    var surge: Double
    var surgeDuration: Duration
    /// How long is measured.
    var duration: Duration
    /// How long everything runs before that.
    var warmUp: Duration
    /// How long viewers may take to get a picture.
    var patience: Duration
    /// The server's process, whose CPU time is read from `/proc`.
    var serverProcess: Int32?

    var sessionsPerViewer: Int { streamsPerViewer / streamsPerSession }

    /// RTP packets of one frame: as many as its bytes need, cut as evenly as libwebrtc cuts them, so that their lengths differ
    /// by a byte at most.
    ///
    /// - Returns: Payload lengths in bytes.
    func payloadLengths(isKeyframe: Bool, surge: Double) -> [Int] {
        let header = 12
        let frameBytes = Int((bitrate / 8 / framesPerSecond * (isKeyframe ? keyframeFactor : 1) * surge).rounded())
        let count = max(1, (frameBytes + packetBytes - 1) / packetBytes)
        let payload = max(frameBytes - count * header, count * TestPicture.minimumBytes)
        let (each, larger) = payload.quotientAndRemainder(dividingBy: count)
        return (0..<count).map { $0 < count - larger ? each : each + 1 }
    }
}
