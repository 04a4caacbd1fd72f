import HTTPTypes
import NIOCore
import NIOHTTP1
import Wire

/// Whose limits something counts towards.
struct ClientAddress: Sendable {
    let connections: ClientConnections
    let proxies: TrustedProxies

    /// The client behind trusted proxies: its IPv4 address, or the network of its IPv6 address. Never logged.
    func of(_ request: HTTPRequest, on channel: any Channel) -> String {
        of(
            channel,
            forwardedFor: request.headerFields[values: .forwardedFor],
            forwarded: request.headerFields[values: .forwarded]
        )
    }

    /// The same of a request that becomes a WebSocket.
    func of(_ request: HTTPRequestHead, on channel: any Channel) -> String {
        of(
            channel,
            forwardedFor: request.headers["X-Forwarded-For"],
            forwarded: request.headers["Forwarded"]
        )
    }

    private func of(_ channel: any Channel, forwardedFor: [String], forwarded: [String]) -> String {
        let peer = connections.peer(of: channel)
        return Self.network(of: proxies.client(peer: peer, forwardedFor: forwardedFor, forwarded: forwarded))
    }

    /// The client's IPv4 address, or the network of its IPv6 address: whoever has one has all of a /64 (RFC 6177 §2), and would
    /// otherwise have a limit for each of them.
    ///
    /// - Parameter text: An IP address as text, with a zone or without.
    static func network(of text: String) -> String {
        guard let address = text.split(separator: "%").first.flatMap({ IPAddress(String($0)) }) else { return text }
        // An IPv4-mapped one is an IPv4 client on a socket for both (RFC 4291 §2.5.5.2).
        let unmapped = address.unmapped
        guard unmapped.family == .v6 else { return "\(unmapped)" }
        return "\(IPAddress(v6High: address.high, low: 0))/64"
    }
}

extension HTTPField.Name {
    static let forwardedFor = Self("X-Forwarded-For")!
    static let forwarded = Self("Forwarded")!
}
