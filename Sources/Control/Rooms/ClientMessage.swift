import Foundation

/// A message of a client on the control WebSocket (`Docs/Protocol.md`), as it came: each type checks the fields that it needs.
struct ClientMessage: Decodable, Sendable {
    /// One stream of a `publish`.
    struct Stream: Decodable, Sendable {
        var stream: String
        /// What it shows, such as `camera` or `screen`: passed on.
        var kind: String?
        /// Its m-lines in the offer.
        var mids: [String]
        /// Which kinds of media are muted: passed on.
        var muted: [String]?
    }

    var type: String
    /// Comes back on the reply.
    var id: JSONValue?
    var room: String?
    var token: String?
    var name: String?
    var role: String?
    var privacy: String?
    var resume: String?
    var policy: String?
    var connection: String?
    var sdp: String?
    var offer: UInt64?
    var streams: [Stream]?
    var stream: String?
    var muted: [String]?
    var paused: Bool?
    var peer: String?
    var action: String?
    var to: String?
    var data: JSONValue?

    private enum CodingKeys: String, CodingKey {
        case type, id, room, token, name, role, privacy, resume, policy, connection, sdp, offer, streams, stream, muted,
            paused
        case peer, action, to, data
    }

    /// Parses one text frame.
    ///
    /// - Throws: `Problem` that says which field is wrong.
    init(parsing text: [UInt8]) throws(Problem) {
        do {
            self = try JSONDecoder().decode(ClientMessage.self, from: Data(text))
        } catch let error as DecodingError {
            throw Problem.badMessage(Self.explain(error))
        } catch {
            throw Problem.badMessage("The message is not JSON.")
        }
        if case .string(let text)? = id, text.utf8.count > 64 {
            throw Problem.badMessage("id has at most 64 characters.")
        }
        switch id {
        case nil, .string, .number: break
        default: throw Problem.badMessage("id has to be a string or a number.")
        }
    }

    private static func explain(_ error: DecodingError) -> String {
        func path(_ context: DecodingError.Context) -> String {
            context.codingPath.prefix(4).map { $0.intValue.map(String.init) ?? String($0.stringValue.prefix(32)) }
                .joined(separator: ".")
        }
        switch error {
        case .typeMismatch(let type, let context): return "\(path(context)) has to be \(name(of: type))."
        case .keyNotFound(let key, let context):
            let place = path(context)
            return "\(place.isEmpty ? "" : place + ".")\(key.stringValue) is missing."
        case .valueNotFound(let type, let context): return "\(path(context)) has to be \(name(of: type)), not null."
        default: return "The message is not JSON."
        }
    }

    private static func name(of type: any Any.Type) -> String {
        switch type {
        case is String.Type: "a string"
        case is Bool.Type: "true or false"
        case is [Stream].Type, is [String].Type, is [Any].Type: "an array"
        default: "an object"
        }
    }
}
