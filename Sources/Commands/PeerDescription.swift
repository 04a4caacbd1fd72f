public import Wire

/// Everything a worker needs to serve one remote endpoint.
public struct PeerDescription: Sendable {
    public var id: PeerID
    public var localCredentials: ICECredentials
    public var remoteCredentials: ICECredentials
    public var dtlsRole: DTLSRole
    /// The fingerprints that the peer's certificate has to match one of; never empty.
    public var remoteFingerprints: [CertificateFingerprint]
    /// Tracks that the peer sends to us.
    public var published: [PublishedTrack]
    /// Tracks that we send to the peer.
    public var subscribed: [SubscribedTrack]

    public init(
        id: PeerID,
        localCredentials: ICECredentials,
        remoteCredentials: ICECredentials,
        dtlsRole: DTLSRole,
        remoteFingerprints: [CertificateFingerprint],
        published: [PublishedTrack] = [],
        subscribed: [SubscribedTrack] = []
    ) {
        self.id = id
        self.localCredentials = localCredentials
        self.remoteCredentials = remoteCredentials
        self.dtlsRole = dtlsRole
        self.remoteFingerprints = remoteFingerprints
        self.published = published
        self.subscribed = subscribed
    }
}
