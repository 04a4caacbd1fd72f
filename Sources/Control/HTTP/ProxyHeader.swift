import Wire

/// The header of the PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): whom a connection is from that a proxy passes on.
enum ProxyHeader: Equatable {
    /// What the bytes until now are.
    enum Parsed: Equatable {
        /// The first bytes belong to no such header.
        case none
        /// There may come more of one.
        case incomplete
        /// - Parameters:
        ///   - client: Nil where the proxy speaks for itself, or of what is no IP address.
        ///   - length: Its bytes.
        case header(client: IPAddress?, length: Int)
        case malformed
    }

    /// §2.1: the longest of version 1, with CRLF.
    private static let longestText = 107
    /// Version 2's addresses and further fields; certificates are the longest of them.
    private static let longestBinary = 4096
    private static let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10]
    private static let word = Array("PROXY ".utf8)

    static func parse(_ bytes: some Collection<UInt8>) -> Parsed {
        let bytes = Array(bytes.prefix(16 + longestBinary))
        for (start, parse) in [(word, text), (signature, binary)] {
            if bytes.count < start.count {
                if start.starts(with: bytes) { return .incomplete }
            } else if bytes.starts(with: start) {
                return parse(bytes)
            }
        }
        return .none
    }

    /// `PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n`.
    private static func text(_ bytes: [UInt8]) -> Parsed {
        guard let end = bytes.prefix(longestText).firstIndex(of: 10) else {
            return bytes.count < longestText ? .incomplete : .malformed
        }
        guard bytes[end - 1] == 13, let line = String(validating: bytes[..<(end - 1)], as: UTF8.self) else {
            return .malformed
        }
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        if words.count >= 2, words[1] == "UNKNOWN" { return .header(client: nil, length: end + 1) }
        guard words.count == 6, let source = IPAddress(String(words[2])), let destination = IPAddress(String(words[3])),
            UInt16(words[4]) != nil, UInt16(words[5]) != nil, source.family == destination.family,
            words[1] == (source.family == .v4 ? "TCP4" : "TCP6")
        else { return .malformed }
        return .header(client: source.unmapped, length: end + 1)
    }

    private static func binary(_ bytes: [UInt8]) -> Parsed {
        guard bytes.count >= 16 else { return .incomplete }
        let count = Int(bytes[14]) << 8 | Int(bytes[15])
        guard bytes[12] >> 4 == 2, count <= longestBinary else { return .malformed }
        guard bytes.count >= 16 + count else { return .incomplete }
        let address = bytes[16..<(16 + count)]
        switch (bytes[12] & 15, bytes[13] >> 4) {
        // LOCAL: the proxy's own, such as a health check. AF_UNSPEC and AF_UNIX have no address.
        case (0, _), (1, 0), (1, 3): return .header(client: nil, length: 16 + count)
        case (1, 1) where count >= 12:
            let bits = address.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            return .header(client: IPAddress(v4: bits), length: 16 + count)
        case (1, 2) where count >= 36:
            let high = address.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let low = address.dropFirst(8).prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            return .header(client: IPAddress(v6High: high, low: low).unmapped, length: 16 + count)
        default: return .malformed
        }
    }
}
