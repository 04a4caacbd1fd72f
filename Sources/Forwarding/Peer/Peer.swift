import Commands
import Transport
import Wire

/// One remote endpoint: its transport (ICE, DTLS, SRTP), the tracks it publishes and those it is subscribed to.
final class Peer {
    /// How far the peer's transport has come.
    enum Phase {
        /// No address is validated yet.
        case checking
        /// ICE has a path; DTLS is at work on it.
        case handshaking(DTLSEndpoint)
        /// Media flows.
        case connected(SecureSession)
    }

    /// An established DTLS session and the SRTP keys that came of it.
    struct SecureSession {
        let dtls: DTLSEndpoint
        let profile: SRTPProfile
        let sealer: SRTPSealer
        let opener: SRTPOpener
    }

    let id: PeerID
    let description: PeerDescription
    var ice: ICEAgent
    var phase = Phase.checking
    /// Has what `ice` and `phase` say: `updateOutlet` is called when either may have changed.
    let outlet = MediaOutlet()
    /// Local ufrags under which the engine finds this peer: one, or two during an ICE restart.
    var usernameKeys: [UsernameKey]
    /// Addresses under which the engine finds this peer.
    var addresses: [SocketAddress] = []

    /// What the peer sends: its m-lines and the RTP sources seen on them.
    var incoming: IncomingMedia
    /// The network that its memory counts with, once it is connected.
    var network: IPAddress?
    /// What the histories of that may take.
    let historyBudget: HistoryBudget
    /// What the peer receives.
    var subscriptions: [Subscription] = [] {
        didSet { subscriptionSSRCs = subscriptions.map(\.ssrc) }
    }
    /// What they send with, close together: RTCP names them, and a list of it many.
    private var subscriptionSSRCs: [UInt32] = []
    /// What the peer may still ask for.
    var controlAllowance = ControlAllowance()
    var keyframeAllowance = KeyframeAllowance()
    /// Transport-wide congestion control of what the peer sends, when negotiated.
    var transportFeedback: TransportFeedbackRecorder?

    /// Whether what the peer is sent is too much for his network.
    var congestion = CongestionGauge()
    /// When the encodings that he is sent are looked at again.
    var nextEncodingChoice = Instant.distantFuture

    /// Handshake datagrams that wait for a turn with room for them, the oldest first.
    var waitingHandshake: [[UInt8]] = []
    /// When anything authentic came last.
    var lastHeard: Instant?
    /// Whether that was too long ago for video to be sent.
    var isAway = false
    /// The next receiver report to a publisher, or sender reports to a viewer.
    var nextReport = Instant.distantFuture
    /// Whether the deadline below has to be computed anew.
    var deadline = Instant.distantFuture

    init(
        _ description: PeerDescription,
        usernameKey: UsernameKey,
        ice: ICEAgent,
        incoming: IncomingMedia,
        historyBudget: HistoryBudget
    ) {
        id = description.id
        self.description = description
        self.ice = ice
        self.incoming = incoming
        self.historyBudget = historyBudget
        usernameKeys = [usernameKey]
        if incoming.usesTransportFeedback { transportFeedback = TransportFeedbackRecorder() }
    }

    func updateOutlet() {
        outlet.sealer = session?.sealer
        outlet.destination = ice.selected
    }

    /// The session, once media can flow.
    var session: SecureSession? {
        if case .connected(let session) = phase { session } else { nil }
    }

    /// The subscription that sends with this SSRC.
    func subscription(sending ssrc: UInt32) -> Subscription? {
        subscriptionSSRCs.firstIndex(of: ssrc).map { subscriptions[$0] }
    }
}
