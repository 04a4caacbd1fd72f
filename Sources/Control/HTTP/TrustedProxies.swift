import Wire

/// A network of IP addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
public struct IPNetwork: Sendable, Equatable {
    private let address: IPAddress
    private let prefixLength: Int

    /// - Parameter text: An address, with the length of its prefix or without.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress(String($0)) })?.unmapped else { return nil }
        let width = address.family == .v4 ? 32 : 128
        self.address = address
        guard parts.count == 2 else {
            prefixLength = width
            return
        }
        guard parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let length = Int(parts[1]), length <= width
        else {
            return nil
        }
        prefixLength = length
    }

    func contains(_ other: IPAddress) -> Bool {
        guard other.family == address.family else { return false }
        if address.family == .v4 { return Self.agree(address.low << 32, other.low << 32, prefixLength) }
        return Self.agree(address.high, other.high, min(prefixLength, 64))
            && Self.agree(address.low, other.low, max(0, prefixLength - 64))
    }

    /// Whether the most significant bits are the same.
    private static func agree(_ left: UInt64, _ right: UInt64, _ count: Int) -> Bool {
        count == 0 || (left ^ right) >> UInt64(64 - count) == 0
    }
}

extension IPAddress {
    /// An IPv4-mapped IPv6 address as the IPv4 address that it is (RFC 4291 §2.5.5.2).
    var unmapped: IPAddress {
        guard family == .v6, high == 0, low >> 32 == 0xFFFF else { return self }
        return IPAddress(v4: UInt32(truncatingIfNeeded: low))
    }
}

/// The proxies whose word is taken for whom they speak for (`http.trustedProxies`).
///
/// Each proxy adds, at the right, the address that it was asked from; what stands further left came to it from there. So lists are read
/// from the right: as long as an address is a trusted proxy's, what it added is believed, and the first that isn't is the client's.
/// Nothing that a client itself wrote is ever believed.
struct TrustedProxies: Sendable {
    private let networks: [IPNetwork]

    init(_ networks: [IPNetwork]) { self.networks = networks }

    var isEmpty: Bool { networks.isEmpty }

    /// - Parameter address: An IP address as text, with a zone or without.
    func contains(_ address: String) -> Bool {
        guard !networks.isEmpty, let parsed = Self.parse(Substring(address)) else { return false }
        return contains(parsed)
    }

    private func contains(_ address: IPAddress) -> Bool { networks.contains { $0.contains(address) } }

    /// Whom a request's limits are of: the client's IP address, or, where a proxy's word can't be understood, a name that stands for all
    /// such clients of that proxy. That is never the proxy's own address: whoever asks at the proxy's host without it would share the
    /// limits of strangers.
    ///
    /// - Parameters:
    ///   - peer: The address that the connection is from.
    ///   - forwardedFor: The values of `X-Forwarded-For`, in their order.
    ///   - forwarded: The values of `Forwarded` (RFC 7239), in their order.
    func client(peer: String, forwardedFor: [String], forwarded: [String]) -> String {
        guard let proxy = Self.parse(Substring(peer)), contains(proxy) else { return peer }
        switch (forwardedFor.isEmpty, forwarded.isEmpty) {
        case (true, true): return peer
        case (false, true): return walk(from: proxy, forwardedFor.flatMap(Self.list))
        case (true, false): return walk(from: proxy, forwarded.flatMap(Self.elements))
        case (false, false):
            // A proxy writes one of them, and passes on what a client wrote in the other: which is which nobody tells. Where they
            // disagree nothing is believed of either.
            let one = walk(from: proxy, forwardedFor.flatMap(Self.list))
            return one == walk(from: proxy, forwarded.flatMap(Self.elements)) ? one : Self.unclear(behind: proxy)
        }
    }

    /// - Parameter hops: Who asked whom, from the client to the last proxy; nil where that is hidden, or no address.
    private func walk(from proxy: IPAddress, _ hops: [IPAddress?]) -> String {
        var last = proxy
        for hop in hops.reversed() {
            guard let hop else { return Self.unclear(behind: last) }
            last = hop
            if !contains(hop) { break }
        }
        return "\(last)"
    }

    /// One name for each proxy, in which nothing is that a client wrote, and which is no address.
    private static func unclear(behind proxy: IPAddress) -> String { "unclear, behind \(proxy)" }

    /// `203.0.113.7, 10.0.0.1:4711, [2001:db8::1]:80`.
    private static func list(_ value: String) -> [IPAddress?] {
        value.split(separator: ",", omittingEmptySubsequences: false).map { node(trimmed($0)) }
    }

    /// `for=192.0.2.43;proto=https, for="[2001:db8::1]:4711"` (RFC 7239 §4).
    private static func elements(_ value: String) -> [IPAddress?] {
        split(value[...], at: UInt8(ascii: ",")).map { element in
            var found: IPAddress?
            var isThere = false
            for pair in split(element, at: UInt8(ascii: ";")) {
                guard let equals = pair.firstIndex(of: "=") else { continue }
                guard trimmed(pair[..<equals]).lowercased() == "for" else { continue }
                // §4: each parameter is there once.
                if isThere { return nil }
                isThere = true
                found = unquoted(trimmed(pair[pair.index(after: equals)...])).flatMap { node($0[...]) }
            }
            return found
        }
    }

    /// Splits where a separator isn't quoted (RFC 9110 §5.6.4).
    private static func split(_ text: Substring, at separator: UInt8) -> [Substring] {
        var parts: [Substring] = []
        var start = text.startIndex
        var isQuoted = false
        var isEscaped = false
        for index in text.utf8.indices {
            let byte = text.utf8[index]
            if isEscaped {
                isEscaped = false
            } else if isQuoted, byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isQuoted.toggle()
            } else if byte == separator, !isQuoted {
                parts.append(text[start..<index])
                start = text.utf8.index(after: index)
            }
        }
        return parts + [text[start...]]
    }

    private static func unquoted(_ text: Substring) -> String? {
        guard text.hasPrefix("\"") else { return text.contains("\"") ? nil : String(text) }
        guard text.count >= 2, text.hasSuffix("\"") else { return nil }
        let inner = text.dropFirst().dropLast()
        // No address has a character to escape.
        return inner.contains(where: { $0 == "\\" || $0 == "\"" }) ? nil : String(inner)
    }

    /// An address with a port or without; nil for `unknown`, for `_hidden`, and for what is none.
    private static func node(_ text: Substring) -> IPAddress? {
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            let rest = text[text.index(after: end)...]
            guard rest.isEmpty || isPort(rest), let address = parse(text[text.index(after: text.startIndex)..<end]),
                address.family == .v6 || text.contains(":")
            else { return nil }
            return address
        }
        if let address = parse(text) { return address }
        guard let colon = text.firstIndex(of: ":"), isPort(text[colon...]) else { return nil }
        let address = parse(text[..<colon])
        return address?.family == .v4 ? address : nil
    }

    /// `:4711`, or an obfuscated one (RFC 7239 §6.2).
    private static func isPort(_ text: Substring) -> Bool {
        guard text.hasPrefix(":") else { return false }
        let port = text.dropFirst()
        if port.hasPrefix("_") {
            return port.utf8.allSatisfy { $0 < 0x80 && $0 > 0x20 }
        }
        return (1...5).contains(port.utf8.count) && port.utf8.allSatisfy { (0x30...0x39).contains($0) }
    }

    /// - Parameter text: With a zone or without.
    static func parse(_ text: Substring) -> IPAddress? {
        guard text.utf8.count <= 64 else { return nil }
        return text.split(separator: "%", maxSplits: 1).first.flatMap { IPAddress(String($0)) }?.unmapped
    }

    /// Without blanks and tabs around it (OWS, RFC 9110 §5.6.3).
    private static func trimmed(_ text: Substring) -> Substring {
        var text = text
        while let first = text.utf8.first, first == 0x20 || first == 0x09 { text = text.dropFirst() }
        while let last = text.utf8.last, last == 0x20 || last == 0x09 { text = text.dropLast() }
        return text
    }
}
