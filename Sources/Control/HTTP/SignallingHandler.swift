import Commands
import HTTPTypes
import Hummingbird
import Negotiation

/// WHIP (RFC 9725) and WHEP: what a client asks over HTTP becomes sessions in the directory.
struct SignallingHandler: Sendable {
    private static let offerType = "application/sdp"
    private static let fragmentType = "application/trickle-ice-sdpfrag"
    /// How long browsers may remember a preflight, in seconds.
    private static let preflightSeconds = 86_400

    private let configuration: ServerConfiguration
    private let directory: StreamDirectory
    private let authorizer: Authorizer
    private let limiter: RateLimiter

    init(
        configuration: ServerConfiguration,
        directory: StreamDirectory,
        authorizer: Authorizer,
        limiter: RateLimiter
    ) {
        self.configuration = configuration
        self.directory = directory
        self.authorizer = authorizer
        self.limiter = limiter
    }

    func respond(
        to request: Request,
        route: Route,
        context: ClientContext,
        address: String
    ) async throws(Problem) -> Response {
        switch route {
        case .endpoint(let kind, let key):
            return try await create(kind, key, request: request, context: context, address: address)
        case .session(let kind, let key, let id):
            let beginning = await directory.access(of: id, key: key, role: kind.role)
            try await authorizer.check(request.head, controls: beginning, address: address)
            if request.method == .patch {
                return try await patch(kind, key, id: id, request: request, context: context)
            }
            _ = try await directory.delete(id, key: key, role: kind.role)
            return Response(status: .ok)
        default:
            throw .notFound
        }
    }

    /// `OPTIONS`: what is allowed here, and which ICE servers to use. Those have credentials, so they are told to whoever may
    /// publish and watch only: a browser's preflight, which carries no token, does without.
    func preflight(_ route: Route, _ request: HTTPRequest, address: String) async -> Response {
        let methods = route.methods.map(\.rawValue).joined(separator: ", ")
        var headers: HTTPFields = [.allow: methods]
        headers[.accessControlAllowMethods] = methods
        headers[.accessControlAllowHeaders] = "Authorization, Content-Type, If-Match, Sluice-Privacy"
        headers[.accessControlMaxAge] = "\(Self.preflightSeconds)"
        switch route {
        case .endpoint:
            headers[.acceptPost] = Self.offerType
            if (try? await authorizer.access(request, address: address)) != nil { addICEServers(to: &headers) }
        case .session:
            headers[.acceptPatch] = Self.fragmentType
        default: break
        }
        return Response(status: .noContent, headers: headers)
    }

    /// Every answer about a stream says which privacy mode its room is in.
    func addPrivacy(to response: inout Response, route: Route) async {
        switch route {
        case .endpoint(_, let key), .session(_, let key, _):
            if response.headers[.sluicePrivacy] == nil {
                response.headers[.sluicePrivacy] = await directory.announcedPrivacy(of: key).rawValue
            }
        default: break
        }
    }

    // MARK: POST

    private func create(
        _ kind: Route.Kind,
        _ key: StreamKey,
        request: Request,
        context: ClientContext,
        address: String
    ) async throws(Problem) -> Response {
        let access = try await authorizer.access(request.head, address: address)
        try access.check(key, publishes: kind == .whip)
        // Viewers that come before their publisher poll for ever: they are told so before anything is parsed or counted.
        if kind == .whep, await !directory.isLive(key) { throw .noSuchStream }
        guard limiter.admits(address) else { throw .tooManyRequests }
        let requested = try privacy(of: request.head)
        let body = try await body(of: request, type: Self.offerType, context)
        let offer: Offer
        do throws(NegotiationError) {
            offer = try Offer(parsing: body, limits: configuration.limits)
        } catch {
            throw Problem(error)
        }
        let created =
            switch kind {
            case .whip:
                try await directory.publish(
                    key,
                    offer: offer,
                    privacy: requested,
                    access: access,
                    address: address
                )
            case .whep:
                try await directory.watch(key, offer: offer, privacy: requested, access: access, address: address)
            }

        if let ends = access.ends { await directory.end(created.id, at: ends) }
        var path = request.uri.path
        while path.hasSuffix("/") { path.removeLast() }
        var headers: HTTPFields = [
            .contentType: Self.offerType,
            .location: "\(path)/\(created.id)",
            .eTag: created.tag,
            .cacheControl: "no-store",
        ]
        headers[.acceptPatch] = Self.fragmentType
        headers[.sluicePrivacy] = created.privacy.rawValue
        addICEServers(to: &headers)
        if kind == .whip {
            let viewPath = path.dropLast(Route.Kind.whip.rawValue.count) + Route.Kind.whep.rawValue
            headers[.whep] = baseURL(request.head) + viewPath
        }
        return Response(
            status: .created,
            headers: headers,
            body: ResponseBody(byteBuffer: ByteBuffer(string: created.answer))
        )
    }

    // MARK: PATCH

    private func patch(
        _ kind: Route.Kind,
        _ key: StreamKey,
        id: String,
        request: Request,
        context: ClientContext
    ) async throws(Problem) -> Response {
        let credentials = try await directory.credentials(of: id, key: key, role: kind.role)
        let body = try await body(of: request, type: Self.fragmentType, context)
        let patch: PatchRequest
        do throws(NegotiationError) {
            patch = try PatchRequest(
                parsing: body,
                local: credentials.local,
                remote: credentials.remote,
                limits: configuration.limits
            )
        } catch {
            throw Problem(error)
        }
        let patched = try await directory.patch(
            id,
            key: key,
            role: kind.role,
            patch,
            ifMatch: request.headers[.ifMatch]
        )
        switch patched {
        case .trickled(let privacy):
            return Response(status: .noContent, headers: [.sluicePrivacy: privacy.rawValue])
        case .restarted(let fragment, let tag, let privacy):
            return Response(
                status: .ok,
                headers: [.contentType: Self.fragmentType, .eTag: tag, .sluicePrivacy: privacy.rawValue],
                body: ResponseBody(byteBuffer: ByteBuffer(string: fragment))
            )
        }
    }

    // MARK: Parts

    private func body(
        of request: Request,
        type expected: String,
        _ context: ClientContext
    ) async throws(Problem) -> [UInt8] {
        let type = request.headers[.contentType]?.split(separator: ";").first?.lowercased()
        guard type?.filter({ !$0.isWhitespace }) == expected else { throw .mediaType(expected: expected) }
        let maximum = configuration.limits.bodyBytes
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > maximum {
            throw .tooLarge(maximum: maximum)
        }
        context.wantBody()
        do {
            let buffer = try await request.body.collect(upTo: maximum)
            return Array(buffer.readableBytesView)
        } catch {
            throw .tooLarge(maximum: maximum)
        }
    }

    /// What a client declares in the header.
    private func privacy(of request: HTTPRequest) throws(Problem) -> PrivacyMode? {
        guard let text = request.headerFields[.sluicePrivacy] else { return nil }
        guard let mode = PrivacyMode(rawValue: text.lowercased()) else {
            throw Problem(.badRequest, "Sluice-Privacy has to be transport or e2ee.")
        }
        return mode
    }

    private func addICEServers(to headers: inout HTTPFields) {
        for server in configuration.iceServers {
            var link = "<\(server.url)>; rel=\"ice-server\""
            if let username = server.username { link += "; username=\"\(username)\"" }
            if let credential = server.credential {
                link += "; credential=\"\(credential)\"; credential-type=\"password\""
            }
            headers.append(HTTPField(name: .link, value: link))
        }
    }

    /// What clients reach us by: the configured URL, else what the request says.
    private func baseURL(_ request: HTTPRequest) -> String {
        if let url = configuration.publicURL { return url }
        let scheme = configuration.tls == nil ? "http" : "https"
        return "\(scheme)://\(request.authority ?? "\(configuration.httpHost):\(configuration.httpPort)")"
    }
}

extension Route.Kind {
    var role: Session.Role { self == .whip ? .publisher : .viewer }
}
