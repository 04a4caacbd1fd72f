import Foundation

/// What a token has to look like before its signature means anything (RFC 7515, RFC 7519, RFC 8725).
enum TokenShape {
    private static let maximumDepth = 8

    /// The algorithm that a token's header names.
    static func algorithm(of text: String) throws(TokenKeys.Refusal) -> String {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        // RFC 7515 §7.1: three parts; an unsigned token's last is empty.
        guard parts.count == 3, !parts[2].isEmpty, decoded(parts[2]) != nil else { throw .foreign }
        let header = try members(of: parts[0])
        // Readers that disagree on which of two counts could be shown two different tokens in one (RFC 7519 §4).
        _ = try members(of: parts[1])
        // RFC 7515 §4.1.11: what is listed there has to be understood, and none of it is. RFC 7797's `b64` changes what is signed.
        guard header["crit"] == nil, header["b64"] == nil else { throw .unsupported }
        if let type = header["typ"] {
            // RFC 8725 §3.11: a token that was made for something else is none of ours.
            guard ["jwt", "at+jwt", "application/at+jwt"].contains(string(type)?.lowercased()) else {
                throw .unsupported
            }
        }
        // Nested tokens (RFC 7519 §5.2) are none that is looked into.
        guard header["cty"] == nil else { throw .unsupported }
        guard let algorithm = header["alg"].flatMap(string) else { throw .foreign }
        return algorithm
    }

    /// An object's members, each as it was written.
    private static func members(of part: Substring) throws(TokenKeys.Refusal) -> [String: String] {
        guard let bytes = decoded(part) else { throw .foreign }
        var members: [String: String] = [:]
        do throws(JSONReader.Malformed) {
            var reader = try JSONReader(bytes, maximumDepth: maximumDepth)
            try reader.readObject { name, reader throws(JSONReader.Malformed) in
                guard members[name] == nil else { throw reader.malformed(.other("is there twice")) }
                members[name] = try reader.readText()
            }
            try reader.finish()
        } catch {
            throw .foreign
        }
        return members
    }

    private static func string(_ json: String) -> String? {
        do throws(JSONReader.Malformed) {
            var reader = try JSONReader(Array(json.utf8), maximumDepth: maximumDepth)
            return try reader.readString()
        } catch {
            return nil
        }
    }

    /// Base64url without padding (RFC 7515 §2), and in the one form that a text has.
    private static func decoded(_ part: Substring) -> [UInt8]? {
        guard part.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "=") })
        else {
            return nil
        }
        var base64 = String(part.map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
        base64 += String(repeating: "=", count: (4 - base64.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: base64), data.base64EncodedString() == base64 else { return nil }
        return Array(data)
    }
}
