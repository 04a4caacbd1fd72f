import HTTPTypes

/// Decides who may do what, by the token that a request carries.
struct Authorizer: Sendable {
    private let mode: ServerConfiguration.Authorization
    private let operatorToken: String?

    init(_ configuration: ServerConfiguration) {
        mode = configuration.authorization
        operatorToken = configuration.operatorToken
    }

    /// Who publishes or watches.
    func owner(_ request: HTTPRequest) throws(Problem) -> Owner {
        if isOperator(request) { return .operatorToken }
        guard mode == .token else { return .anyone }
        throw bearerToken(request) == nil ? .unauthorized : .forbidden
    }

    /// What somebody may do in a room whose `join` has this token.
    func rights(token: String?) throws(Problem) -> RoomRights {
        if let token, let operatorToken, Self.areEqual(token, operatorToken) { return [.publish, .host] }
        guard mode == .token else { return [.publish] }
        throw token == nil ? .unauthorized : .forbidden
    }

    /// Whether the request carries the operator's token.
    func isOperator(_ request: HTTPRequest) -> Bool {
        guard let operatorToken, let token = bearerToken(request) else { return false }
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
