import NIOCore
import Wire

/// Whose limits something counts towards.
enum ClientAddress {
    /// The client's IPv4 address, or the network of its IPv6 address: whoever has one has all of a /64 (RFC 6177 §2), and would
    /// otherwise have a limit for each of them. Never logged.
    static func of(_ channel: any Channel) -> String {
        guard let text = channel.remoteAddress?.ipAddress else { return "" }
        return network(of: text)
    }

    /// - Parameter text: An IP address as text, with a zone or without.
    static func network(of text: String) -> String {
        guard let address = text.split(separator: "%").first.flatMap({ IPAddress(String($0)) }), address.family == .v6
        else {
            return text
        }
        // An IPv4-mapped one is an IPv4 client on a socket for both (RFC 4291 §2.5.5.2).
        if address.high == 0, address.low >> 32 == 0xFFFF { return text }
        return "\(IPAddress(v6High: address.high, low: 0))/64"
    }
}
