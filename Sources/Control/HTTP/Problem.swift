import Foundation
import HTTPTypes
import Hummingbird
import Negotiation

/// A refusal, as an RFC 9457 problem document. The one place where errors become HTTP statuses.
struct Problem: Error, Equatable {
    let status: HTTPResponse.Status
    /// For people: what was wrong and what would be right. Never holds an id, an address or a token.
    let detail: String
    /// The m-line that it is about, from 1.
    var mediaLine: Int?
    /// The mode of the room that the client asked another of.
    var privacy: PrivacyMode?
    /// Seconds until it is worth to try again.
    var retryAfter: Int?
    var headers: HTTPFields = [:]
    /// Whether a control WebSocket is closed for it, rather than told.
    var closes = false
    /// Whether the connection ends after it was told.
    var ends = false

    init(_ status: HTTPResponse.Status, _ detail: String) {
        self.status = status
        self.detail = detail
    }

    init(_ error: NegotiationError) {
        switch error.kind {
        case .malformed: status = .badRequest
        case .noCommonCodec: status = .notAcceptable
        case .unservable: status = .unprocessableContent
        }
        mediaLine = error.mediaLine
        detail = error.mediaLine.map { "m-line \($0): \(error.reason)" } ?? error.reason
    }

    init(_ refusal: ClientMessage.Refusal) {
        switch refusal {
        case .notUTF8:
            self = Problem.badMessage("Text frames are UTF-8.")
            closes = true
        case .wrong(let text): self = Problem.badMessage(text)
        case .tooLarge(let maximum): self = .tooLarge(maximum: maximum)
        }
    }

    // MARK: The refusals there are

    static let notFound = Problem(.notFound, "There is nothing at this address.")
    static let badIdentifier = Problem(
        .badRequest,
        "Room and stream ids have 1 to 128 letters, digits, - or _, and are no names of fixed paths such as room or watch."
    )
    static let draining = Problem(
        .serviceUnavailable,
        "The server is stopping and takes no new sessions.",
        retryAfter: 5
    )
    static let full = Problem(.serviceUnavailable, "The server is full.", retryAfter: 5)
    static let tooManyPeers = Problem(.tooManyRequests, "Too many sessions come from this address.", retryAfter: 10)
    static let tooManyRequests = Problem(.tooManyRequests, "Too many requests come from this address.", retryAfter: 10)
    static let noSuchStream = Problem(.notFound, "Nobody publishes this stream now.", retryAfter: 1)
    static let noSuchSession = Problem(.notFound, "There is no such session.")
    static let roomLocked = Problem(.forbidden, "The room is locked.")
    static let notInRoom = Problem(.conflict, "Join a room first.")
    static let noSuchPeer = Problem(.notFound, "There is no such peer in the room.")
    static let streamTaken = Problem(.conflict, "Somebody publishes under this stream id.", retryAfter: 1)
    static let differentETag = Problem(.preconditionFailed, "If-Match is not the session's current ETag.")
    static let missingETag = Problem(
        .preconditionRequired,
        "An ICE restart has to carry If-Match with the session's ETag."
    )
    static let unauthorized = Problem(
        .unauthorized,
        "A token is required: Authorization: Bearer ….",
        headers: [.wwwAuthenticate: "Bearer"]
    )
    static let foreignOrigin = Problem(.forbidden, "Pages of this origin are not in http.allowedOrigins.")
    static let noWebSocket = Problem(
        .upgradeRequired,
        "Here is a WebSocket with the subprotocol \(ControlChannel.subprotocol).",
        headers: [.upgrade: "websocket"]
    )
    static let tokenForeign = Problem(
        .unauthorized,
        "The token's signature is wrong, or it is none of ours.",
        headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""]
    )
    static let tokenExpired = Problem(
        .unauthorized,
        "The token has expired: ask for a new one.",
        headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""]
    )
    static let tokenNotYet = Problem(
        .unauthorized,
        "The token is not valid yet.",
        headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""]
    )
    static let tokenIncomplete = Problem(
        .unauthorized,
        "The token needs role (view, publish, host or operator) and exp; room, stream, privacy and nbf have to make sense.",
        headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""]
    )
    static let tokenForOtherAudience = Problem(
        .unauthorized,
        "The token is for another audience (aud), or for none.",
        headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""]
    )
    static let tokenUnsupported = Problem(
        .unauthorized,
        "The token's header asks for what this server doesn't do: crit, b64, cty or another typ.",
        headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""]
    )
    static let tokenForWatching = Problem(.forbidden, "The token is for watching only.")
    static let tooManyWrongTokens = Problem(
        .tooManyRequests,
        "Too many wrong tokens come from this address.",
        retryAfter: 60,
        headers: [.connection: "close"],
        ends: true
    )

    static func tokenForOther(_ what: String) -> Problem { Problem(.forbidden, "The token is for another \(what).") }

    static let forbidden = Problem(.forbidden, "This token does not allow it.")

    /// A message of the control WebSocket that is wrong, or comes at the wrong time.
    static func badMessage(_ detail: String) -> Problem { Problem(.badRequest, detail) }
    static func conflicting(_ detail: String) -> Problem { Problem(.conflict, detail) }

    static func tooLarge(maximum: Int) -> Problem {
        Problem(.contentTooLarge, "That is longer than \(maximum) bytes.")
    }

    static func mediaType(expected: String) -> Problem {
        Problem(.unsupportedMediaType, "The Content-Type has to be \(expected).")
    }

    static func methodNotAllowed(_ route: Route) -> Problem {
        let allowed = route.methods.map(\.rawValue).joined(separator: ", ")
        return Problem(.methodNotAllowed, "The methods here are \(allowed).", headers: [.allow: allowed])
    }

    static let privacyTwice = Problem(
        .badRequest,
        "Two privacy modes are declared: Sluice-Privacy, or the message's privacy, and a=x-sluice-privacy differ."
    )

    static func privacy(_ mode: PrivacyMode) -> Problem {
        let detail =
            switch mode {
            case .transport:
                "The room is in the privacy mode transport, not end-to-end encrypted; changing the mode means a new room."
            case .endToEnd:
                """
                The room is end-to-end encrypted (privacy mode e2ee): only clients that encrypt media themselves, and declare \
                it, can take part; changing the mode means a new room.
                """
            }
        var problem = Problem(.conflict, detail)
        problem.privacy = mode
        return problem
    }

    private init(
        _ status: HTTPResponse.Status,
        _ detail: String,
        retryAfter: Int? = nil,
        headers: HTTPFields = [:],
        ends: Bool = false
    ) {
        self.status = status
        self.detail = detail
        self.retryAfter = retryAfter
        self.headers = headers
        self.ends = ends
    }

    // MARK: As a message

    /// The `code` of an `error` message: stable, for programs.
    var code: String {
        if privacy != nil { return "privacy" }
        switch status {
        case .badRequest: return "bad-request"
        case .unauthorized: return "unauthorized"
        case .forbidden: return "forbidden"
        case .notFound: return "not-found"
        case .notAcceptable: return "no-common-codec"
        case .conflict: return "conflict"
        case .contentTooLarge: return "too-large"
        case .unprocessableContent: return "unservable"
        case .tooManyRequests: return "rate-limited"
        case .serviceUnavailable: return "unavailable"
        default: return "internal"
        }
    }

    /// The `error` message of the control WebSocket.
    ///
    /// - Parameters:
    ///   - id: The id of the message that it answers, if it answers one.
    ///   - stream: The stream that it is about.
    func json(replyingTo id: JSONValue?, stream: StreamKey? = nil) -> JSONValue {
        var object: [String: JSONValue] = ["type": "error", "code": .string(code), "message": .string(detail)]
        if let id { object["id"] = id }
        if let privacy { object["privacy"] = privacy.json }
        if let mediaLine { object["mediaLine"] = .number(Double(mediaLine)) }
        if let retryAfter { object["retryAfter"] = .number(Double(retryAfter)) }
        if let stream { object["stream"] = .string(stream.stream.text) }
        return .object(object)
    }

    // MARK: As a response

    private struct Document: Encodable {
        let type = "about:blank"
        let title: String
        let status: Int
        let detail: String
        let mediaLine: Int?
        let privacy: String?
    }

    var response: Response {
        let document = Document(
            title: status.reasonPhrase,
            status: status.code,
            detail: detail,
            mediaLine: mediaLine,
            privacy: privacy?.rawValue
        )
        var headers = headers
        headers[.contentType] = "application/problem+json"
        headers[.cacheControl] = "no-store"
        if let retryAfter { headers[.retryAfter] = "\(retryAfter)" }
        let body = (try? JSONEncoder().encode(document)) ?? Data()
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
    }
}
