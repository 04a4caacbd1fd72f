import Commands
import Foundation
import HTTPTypes
import Negotiation

/// What a request's token allows.
struct Access: Sendable {
    var role: AccessRole
    /// The one room and the one stream that it is for.
    var room: String?
    var stream: String?
    /// The mode that the room has to be in.
    var privacy: PrivacyMode?
    var owner: Owner
    /// When what it began ends; nil when its expiry ends nothing.
    var ends: Date?
    /// The token itself; nil where none was presented.
    var token: String?

    /// Everybody, in open mode.
    static let open = Access(role: .publish, owner: .anyone)

    /// Whether it is for this stream, to publish or to watch it.
    func check(_ key: StreamKey, publishes: Bool) throws(Problem) {
        if publishes, !role.mayPublish { throw .tokenForWatching }
        try check(room: key.room)
        if let stream, stream != key.stream.text { throw .tokenForOther("stream") }
    }

    func check(room id: ResourceIdentifier) throws(Problem) {
        if let room, room != id.text { throw .tokenForOther("room") }
    }

    /// Whether two tokens allow the same to the same.
    func isAlike(_ other: Access) -> Bool {
        guard role == other.role, room == other.room, stream == other.stream, privacy == other.privacy else {
            return false
        }
        switch (owner, other.owner) {
        // Tokens without a subject stand for everybody who holds a token like it.
        case (.token, .token): return true
        default: return owner == other.owner
        }
    }

    var isOperatorOfAll: Bool { role == .operator && room == nil && stream == nil }

    /// Whether somebody who joins with it may do all that a room's peer does.
    func covers(_ peer: RoomPeer) -> Bool {
        rights.isSuperset(of: peer.rights) && (stream == nil || stream == peer.onlyStream)
    }

    var rights: RoomRights {
        switch role {
        case .view: []
        case .publish: [.publish]
        case .host, .operator: [.publish, .host]
        }
    }
}

/// Decides who may do what, by the token that a request carries.
struct Authorizer: Sendable {
    private let mode: ServerConfiguration.Authorization
    private let operatorToken: String?
    private let keys: TokenKeys?
    /// Counts wrong tokens: an address that guesses is soon not listened to any more.
    private let wrong: RateLimiter

    /// - Parameter keys: Nil when no signed tokens are accepted.
    init(_ configuration: ServerConfiguration, keys: TokenKeys?) {
        mode = configuration.authorization
        operatorToken = configuration.operatorToken
        self.keys = keys
        wrong = RateLimiter(limit: configuration.limits.wrongTokensPerAddressPerMinute)
    }

    /// What a request may do.
    func access(_ request: HTTPRequest, address: String) async throws(Problem) -> Access {
        try await access(token: bearerToken(request), address: address)
    }

    /// What a token allows.
    ///
    /// - Parameter forgivesExpiry: Whether one that has expired is no guess: where it was a good one before.
    func access(token: String?, address: String, forgivesExpiry: Bool = false) async throws(Problem) -> Access {
        guard let token else {
            guard mode == .token else { return .open }
            throw .unauthorized
        }
        // Before anything is compared or computed: guessing costs those who guess, not us.
        if refusesTokens(of: address) { throw .tooManyWrongTokens }
        if isOperator(token) { return Access(role: .operator, owner: .operatorToken, token: token) }
        guard let keys else {
            guard mode == .token else { return .open }
            try note(address)
            throw .forbidden
        }
        let claims: AccessToken
        do throws(TokenKeys.Refusal) {
            claims = try await keys.verify(token)
        } catch {
            if error != .expired || !forgivesExpiry { try note(address) }
            switch error {
            case .foreign: throw .tokenForeign
            case .expired: throw .tokenExpired
            case .notYet: throw .tokenNotYet
            case .incomplete: throw .tokenIncomplete
            case .otherAudience: throw .tokenForOtherAudience
            case .unsupported: throw .tokenUnsupported
            }
        }
        return Access(
            role: claims.role,
            room: claims.room,
            stream: claims.stream,
            privacy: claims.privacy,
            owner: claims.subject.map { .subject($0) } ?? .token(token),
            ends: claims.endsCalls ? claims.expires : nil,
            token: token
        )
    }

    /// Lets a request change or end a session: with the token that began it, whether or not that has expired since, with another that
    /// allows the same, or with the operator's (RFC 9725 §4.7 has each request of a client authorized).
    ///
    /// - Parameter beginning: What the request that began the session was allowed; nil when there is no such session.
    func check(_ request: HTTPRequest, controls beginning: Access?, address: String) async throws(Problem) {
        guard mode == .token else { return }
        guard let token = bearerToken(request) else { throw .unauthorized }
        if refusesTokens(of: address) { throw .tooManyWrongTokens }
        if let first = beginning?.token, Self.areEqual(token, first) { return }
        let access = try await access(token: token, address: address)
        guard !access.isOperatorOfAll, let beginning else { return }
        guard access.isAlike(beginning) else { throw .forbidden }
    }

    /// Whether an address has presented so many wrong tokens that none of its tokens is looked at.
    func refusesTokens(of address: String) -> Bool {
        (mode == .token || keys != nil) && !wrong.isWithinLimit(address)
    }

    /// Whether a connection is closed after this request's answer: it came with a token that wasn't looked at.
    func closes(after request: HTTPRequest, from address: String) -> Bool {
        refusesTokens(of: address) && request.headerFields[.authorization] != nil
    }

    /// Whether the request may see what only the operator does: of all rooms, so a token for one is not enough.
    func isOperator(_ request: HTTPRequest, address: String) async -> Bool {
        guard bearerToken(request) != nil, let access = try? await access(request, address: address) else {
            return false
        }
        return access.isOperatorOfAll
    }

    private func note(_ address: String) throws(Problem) {
        guard wrong.admits(address) else { throw .tooManyWrongTokens }
    }

    private func isOperator(_ token: String) -> Bool {
        guard let operatorToken else { return false }
        return Self.areEqual(token, operatorToken)
    }

    private func bearerToken(_ request: HTTPRequest) -> String? {
        guard let value = request.headerFields[.authorization] else { return nil }
        let parts = value.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return String(parts[1])
    }

    /// Takes as long for a token that is wrong at its end as for one that is wrong at its beginning.
    private static func areEqual(_ left: String, _ right: String) -> Bool {
        let left = Array(left.utf8)
        let right = Array(right.utf8)
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
