/// Every limit, timeout and default of the server, in one place. `Docs/Operations.md` documents each; the configuration
/// overrides those that it names under `limits`.
public struct Limits: Sendable {
    // MARK: Signalling

    /// Largest request body in bytes: an SDP offer or a trickle fragment.
    public var bodyBytes = 64 * 1024
    /// Most m-lines in an offer.
    public var mediaSections = 16
    /// Most lines of a description, and most attributes of its session and of each of its m-lines: several times what browsers write.
    public var descriptionLines = 10_000
    public var descriptionAttributes = 1024
    /// Most candidates in an offer or a trickle fragment; more are ignored.
    public var candidates = 64
    /// Most peers from one IP address.
    public var peersPerAddress = 100
    /// Most peers in all.
    public var peers = 10_000
    /// Most new sessions that one IP address may ask for in a minute.
    public var sessionsPerAddressPerMinute = 600
    /// Wrong tokens that one IP address may present in a minute; after that none of its tokens is looked at.
    public var wrongTokensPerAddressPerMinute = 30
    /// HTTP connections that such an address may open in a second; further ones are closed at once, unread.
    public var unwelcomeConnectionsPerSecond = 20
    /// Most tracks of a stream that are audio, and as many that are video.
    public var tracksPerStreamAndKind = 4
    /// How long a stream whose publisher is gone keeps its viewers, waiting for the publisher's return.
    public var streamLinger = Duration.seconds(15)
    /// A publisher from which nothing authentic came for so long has lost its connection: its stream id may be taken over.
    public var publisherSilence = Duration.milliseconds(1500)
    /// Between two looks at the clock for a token whose expiry ends what it began.
    public var expiryInterval = Duration.seconds(10)
    /// Most HTTP connections at a time; further ones wait. Never more than the limit of open files has room for.
    public var httpConnections = 2000
    /// Most HTTP connections of one IP address at a time, for each of the peers that it may have; further ones are closed at once.
    public var httpConnectionsPerPeer = 4
    /// An HTTP connection on which nothing comes for so long is closed.
    public var httpIdle = Duration.seconds(60)
    /// How long a stop waits for requests in flight.
    public var drain = Duration.seconds(5)

    // MARK: Rooms

    /// Most peers in one room.
    public var peersPerRoom = 1000
    /// Most streams that one of them publishes.
    public var streamsPerRoomPeer = 8
    /// Most m-lines on which one of them receives: two for each stream that he watches at a time.
    public var roomMediaSections = 200
    /// Most of them for the tracks of one publisher.
    public var roomMediaSectionsPerPublisher = 16
    /// A peer whose control WebSocket is gone keeps his place, and his media, for so long.
    public var roomResume = Duration.seconds(30)
    /// Who comes and goes within this time is told at once.
    public var presenceInterval = Duration.milliseconds(200)
    /// Messages a second, to all of a room together, that tell no more than how many watch: many are told less often.
    public var viewerCountMessagesPerSecond = 250.0
    /// Between two looks at who speaks, and how many are told.
    public var speakerInterval = Duration.milliseconds(300)
    public var speakers = 5
    /// Between two looks at how well streams get through.
    public var qualityInterval = Duration.seconds(2)
    /// A stream is fair, or poor, from this fraction of lost packets on. Those that were sent again and came count as lost.
    public var qualityFairLoss = 0.04
    public var qualityPoorLoss = 0.12
    /// It is better again after so many intervals with less than half of that.
    public var qualityRecoveryIntervals = 2
    /// Fewer packets of a publisher's say nothing: they count with the next interval's.
    public var qualityPackets = 20
    /// A publisher from whom nothing came for so long is poor. Clients send something every 6 s even when all is muted (RFC 7675 §5.1).
    public var qualitySilence = Duration.seconds(7)
    /// Longest message of the control WebSocket in bytes: those that hold a description, those that don't or come before a `join`, and
    /// what peers send each other.
    public var controlMessageBytes = 256 * 1024
    public var controlRequestBytes = 32 * 1024
    public var peerMessageBytes = 16 * 1024
    /// How deep a message's objects and arrays may be nested, and most entries of each of its lists.
    public var controlMessageDepth = 32
    public var controlListEntries = 64
    /// Messages, and bytes of them, that wait for a client to read them; one that is further behind has to come back.
    public var controlQueue = 2000
    public var controlQueueBytes = 4 << 20
    /// Bytes that wait for all clients together; when they are more, those for whom much waits have to come back.
    public var controlBacklogBytes = 256 << 20
    /// Messages that a client may send in a second, and at once.
    public var controlMessagesPerSecond = 20.0
    public var controlMessageBurst = 100.0
    /// So many bytes of what peers send each other count as one message: what all of a room are told costs most.
    public var peerMessageUnitBytes = 4096
    /// Bytes of messages longer than `controlRequestBytes` that are read of a client in a second, and at once; more wait. An answer of 200
    /// m-lines has 213 KB: five are read at once. Whoever sends all that is read takes 1 % of a processor.
    public var longMessageBytesPerSecond = 256.0 * 1024
    public var longMessageBytesBurst = 1280.0 * 1024
    /// A WebSocket that has not joined within this time, or from which nothing came for twice this time, is closed; it is asked for a
    /// sign of life at this interval.
    public var controlSilence = Duration.seconds(20)

    // MARK: ICE and DTLS

    /// A peer whose first valid connectivity check does not come within this time ends.
    public var iceConnect = Duration.seconds(30)
    /// A peer that sends neither a valid connectivity check nor authentic media on the selected path for so long ends. RFC 7675 §5.1
    /// has it for full agents.
    public var consent = Duration.seconds(30)
    /// A DTLS handshake that takes longer fails.
    public var dtlsHandshake = Duration.seconds(30)
    /// First retransmission of a DTLS flight; doubles each time (RFC 6347 §4.2.4.1).
    public var dtlsRetransmission = Duration.milliseconds(50)
    /// Handshake datagrams that a worker looks at in one turn of its loop; more wait for the next one. They cost a hundred times
    /// what a packet does, and media that flows already shall not wait for a thousand who join.
    public var handshakesPerTurn = 8
    /// Handshake datagrams that wait at most, in all and of one peer; more are dropped, and sent again by their clients.
    public var waitingHandshakes = 4096
    public var waitingHandshakesPerPeer = 16
    /// Largest DTLS datagram in bytes of UDP payload.
    public var dtlsDatagramBytes = 1200

    // MARK: Media

    /// Largest RTP packet that is forwarded, in bytes, before encryption.
    public var rtpPacketBytes = 1460
    /// Media that waited longer to be read, as the process was stopped or had too much to do, is let go, and a keyframe asked for.
    public var mediaAge = Duration.seconds(1)
    /// Most RTP sources (SSRCs) that one peer may send at a time, the longest silent gives way to another: eight streams of four encodings and audio, with their retransmissions.
    public var sourcesPerPeer = 80
    /// Most encodings that a simulcast track may have; more are declined.
    public var encodingsPerTrack = 4
    /// Between two looks at which encoding of each simulcast track a peer is sent.
    public var encodingInterval = Duration.seconds(1)
    /// The same for peers whose feedback tells what their network carries.
    public var allocationInterval = Duration.milliseconds(200)
    /// An encoding of which nothing came for so long has stopped: those who are sent it get another one.
    public var encodingSilence = Duration.milliseconds(700)
    /// A viewer is congested when it loses this fraction of packets, or when its round trip takes so much longer than its fastest:
    /// then it gets a lower encoding.
    public var congestionLoss = 0.1
    public var congestionDelay = Duration.milliseconds(300)
    /// A congested viewer for which there is no lower one gets runs of frames when its round trip takes so much longer than its fastest, or
    /// when it loses three times that fraction.
    public var rationDelay = Duration.milliseconds(100)
    /// It gets a higher one again when it was not congested for so long. That is doubled each time that it was too much.
    public var encodingRecovery = Duration.seconds(5)
    public var encodingRecoveryMaximum = Duration.seconds(120)
    /// Packets kept of each video encoding to answer NACKs; a power of two.
    public var videoHistoryPackets = 1024
    /// Packets kept of each audio encoding; a power of two.
    public var audioHistoryPackets = 128
    /// Bytes that the histories of one publisher, of all from one address, and of all on one worker may take. Each worker counts for
    /// itself: an address has its share on each. Where they have no more, fewer packets are kept; but each encoding that is watched may
    /// take about 96 KB of records beyond them.
    public var historyBytesPerPeer = 32 << 20
    public var historyBytesPerAddress = 128 << 20
    public var historyBytesPerWorker = 1 << 30
    /// At most one keyframe request goes to a publisher per encoding in this time.
    public var keyframeRequestInterval = Duration.milliseconds(500)
    /// Keyframes of one encoding that one viewer may ask for at once, and after what time for one more: each costs all who watch.
    public var keyframeRequestsPerViewer = 5.0
    public var keyframeRequestRecovery = Duration.seconds(3)
    /// What is looked at of one peer's RTCP in one datagram, and in a second: packets of a compound and entries of their lists.
    public var rtcpItemsPerDatagram = 1024
    public var rtcpItemsPerSecond = 4096.0
    /// A packet that came longer ago is not sent again to a viewer that lacks it: what it would mend has been shown.
    public var retransmissionAge = Duration.seconds(1)
    /// A viewer that lost packets is sent audio with redundancy for so long after the last of them.
    public var lossMemory = Duration.seconds(20)
    /// A viewer from which nothing came for so long is sent no video until it is heard again. Clients send a check every 6 s at least.
    public var viewerSilence = Duration.seconds(7)
    /// The same for a viewer that has sent no connectivity check for `viewerCheckSilence`: some clients send none while media flows.
    /// Only their RTCP is heard then, up to 6.2 s apart, and one report may be lost.
    public var uncheckedViewerSilence = Duration.seconds(15)
    public var viewerCheckSilence = Duration.seconds(30)
    /// When datagrams wait longer than this before a worker reads them, it has more to do than it can, and leaves video frames
    /// out, whole ones and evenly over viewers, until they wait less.
    public var overloadLag = Duration.milliseconds(40)
    /// While frames are left out, those left out have their turn with the next keyframe; one is asked for when the last is this old.
    public var overloadKeyframeInterval = Duration.seconds(2)
    /// Time between two transport-wide congestion control feedback packets.
    public var transportFeedbackInterval = Duration.milliseconds(50)
    /// Time between two receiver reports to a publisher, and two sender reports to a viewer.
    public var reportInterval = Duration.seconds(1)
    /// The ceiling told by REMB to publishers that lack transport-wide congestion control, in bits per second.
    public var receiveBitsPerSecond: UInt64 = 20_000_000

    public init() {}
}
