/// The text form of addresses: dotted decimal for IPv4, RFC 4291 §2.2 for IPv6, written as RFC 5952 recommends.
extension IPAddress: LosslessStringConvertible {
    /// Parses an address without brackets, port, prefix length or zone.
    public init?(_ text: String) {
        guard text.utf8.count <= 45 else { return nil }
        if text.utf8.contains(UInt8(ascii: ":")) {
            guard let groups = Self.groups(text) else { return nil }
            let high = groups[0..<4].reduce(UInt64(0)) { $0 << 16 | UInt64($1) }
            let low = groups[4..<8].reduce(UInt64(0)) { $0 << 16 | UInt64($1) }
            self.init(v6High: high, low: low)
        } else {
            guard let bits = Self.dottedDecimal(text[...]) else { return nil }
            self.init(v4: bits)
        }
    }

    public var description: String {
        switch family {
        case .v4:
            return "\(low >> 24 & 255).\(low >> 16 & 255).\(low >> 8 & 255).\(low & 255)"
        case .v6:
            let groups = (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> UInt64(48 - $0 % 4 * 16)) }
            guard let zeros = Self.longestZeros(groups) else { return Self.hex(groups[...]) }
            return "\(Self.hex(groups[..<zeros.lowerBound]))::\(Self.hex(groups[zeros.upperBound...]))"
        }
    }

    /// Four numbers from 0 to 255 without leading zeros.
    private static func dottedDecimal(_ text: Substring) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bits: UInt32 = 0
        for part in parts {
            guard part.utf8.count <= 3, part.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
                part == "0" || !part.hasPrefix("0"), let octet = UInt8(part)
            else { return nil }
            bits = bits << 8 | UInt32(octet)
        }
        return bits
    }

    /// The eight groups of an IPv6 address.
    private static func groups(_ text: String) -> [UInt16]? {
        if let gap = text.firstRange(of: "::") {
            guard let before = groupList(text[..<gap.lowerBound], mayEndInV4: false),
                let after = groupList(text[gap.upperBound...], mayEndInV4: true), before.count + after.count <= 7
            else { return nil }
            return before + Array(repeating: 0, count: 8 - before.count - after.count) + after
        }
        guard let all = groupList(text[...], mayEndInV4: true), all.count == 8 else { return nil }
        return all
    }

    private static func groupList(_ text: Substring, mayEndInV4: Bool) -> [UInt16]? {
        if text.isEmpty { return [] }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        var groups: [UInt16] = []
        for (index, part) in parts.enumerated() {
            if mayEndInV4, index == parts.count - 1, part.utf8.contains(UInt8(ascii: ".")) {
                guard let bits = dottedDecimal(part) else { return nil }
                groups.append(UInt16(bits >> 16))
                groups.append(UInt16(truncatingIfNeeded: bits))
            } else {
                guard part.utf8.count <= 4, !part.hasPrefix("+"), let group = UInt16(part, radix: 16) else {
                    return nil
                }
                groups.append(group)
            }
        }
        return groups
    }

    /// The first of the longest runs of at least two zero groups (RFC 5952 §4.2).
    private static func longestZeros(_ groups: [UInt16]) -> Range<Int>? {
        var best: Range<Int>?
        var start = 0
        while start < groups.count {
            var end = start
            while end < groups.count, groups[end] == 0 { end += 1 }
            if end - start >= 2, end - start > (best?.count ?? 0) { best = start..<end }
            start = end + 1
        }
        return best
    }

    private static func hex(_ groups: ArraySlice<UInt16>) -> String {
        groups.map { String($0, radix: 16) }.joined(separator: ":")
    }
}

extension SocketAddress: CustomStringConvertible {
    /// `192.0.2.1:40000` or `[2001:db8::1]:40000`.
    public var description: String {
        ip.family == .v6 ? "[\(ip)]:\(port)" : "\(ip):\(port)"
    }
}
