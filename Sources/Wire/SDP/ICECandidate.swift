/// `a=candidate` (RFC 8839 §5.1).
public struct ICECandidate: Sendable, Hashable {
    public enum Kind: String, Sendable {
        case host
        case serverReflexive = "srflx"
        case peerReflexive = "prflx"
        case relayed = "relay"
    }

    public var foundation: String
    /// 1 for RTP; with rtcp-mux the only one.
    public var component: Int
    /// `udp` or `tcp`, in lower case.
    public var transport: String
    public var priority: UInt32
    public var address: SocketAddress
    public var kind: Kind

    public init(
        foundation: String,
        component: Int,
        transport: String,
        priority: UInt32,
        address: SocketAddress,
        kind: Kind
    ) {
        self.foundation = foundation
        self.component = component
        self.transport = transport
        self.priority = priority
        self.address = address
        self.kind = kind
    }

    /// Nil when the text is not a candidate, or its address is a name: mDNS names (RFC 8828) are common, and an ICE-lite
    /// agent has no use for a candidate that it can't resolve.
    public init?(_ value: String) {
        let fields = value.words(atMost: 65)
        guard fields.count >= 8, fields.count <= 64, fields[6] == "typ", fields[0].utf8.count <= 32,
            let component = Int(fields[1]), (1...256).contains(component),
            let priority = UInt32(fields[3]),
            let ip = IPAddress(String(fields[4])),
            let port = UInt16(fields[5]),
            let kind = Kind(rawValue: String(fields[7]))
        else { return nil }
        self.init(
            foundation: String(fields[0]),
            component: component,
            transport: fields[2].lowercased(),
            priority: priority,
            address: SocketAddress(ip: ip, port: port),
            kind: kind
        )
    }

    /// The value of its `a=candidate` line.
    public var text: String {
        "\(foundation) \(component) \(transport) \(priority) \(address.ip) \(address.port) typ \(kind.rawValue)"
    }
}
