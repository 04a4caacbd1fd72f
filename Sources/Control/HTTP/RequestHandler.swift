import Commands
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Negotiation
import Worker

/// Answers every HTTP request.
struct RequestHandler: HTTPResponder {
    typealias Context = ClientContext

    let configuration: ServerConfiguration
    let directory: StreamDirectory
    let workers: [WorkerHandle]
    let assets: WebAssets
    private let addresses: ClientAddress
    private let authorizer: Authorizer
    private let signalling: SignallingHandler
    private let openRequests: OpenRequests

    init(
        configuration: ServerConfiguration,
        directory: StreamDirectory,
        workers: [WorkerHandle],
        assets: WebAssets,
        addresses: ClientAddress,
        authorizer: Authorizer,
        limiter: RateLimiter,
        openRequests: OpenRequests
    ) {
        self.configuration = configuration
        self.directory = directory
        self.workers = workers
        self.assets = assets
        self.addresses = addresses
        self.authorizer = authorizer
        self.openRequests = openRequests
        signalling = SignallingHandler(
            configuration: configuration,
            directory: directory,
            authorizer: authorizer,
            limiter: limiter
        )
    }

    func respond(to request: Request, context: ClientContext) async throws -> Response {
        let route = Route(path: request.uri.path)
        openRequests.begin()
        defer { openRequests.end() }
        var response: Response
        do throws(Problem) {
            response = try await respond(to: request, route: route, context: context)
        } catch {
            response = error.response
        }
        await signalling.addPrivacy(to: &response, route: route)
        // Whoever guesses has to come again for each guess.
        if authorizer.closes(after: request.head, from: addresses.of(request.head, on: context.channel)) {
            response.headers[.connection] = "close"
        }
        CrossOrigin.allow(request.head, in: &response, origins: configuration.allowedOrigins)
        return request.method == .head ? response.createHeadResponse() : response
    }

    private func respond(to request: Request, route: Route, context: ClientContext) async throws(Problem) -> Response {
        if route == .unknown { throw .notFound }
        if route == .badIdentifier { throw .badIdentifier }
        guard route.methods.contains(request.method) else { throw .methodNotAllowed(route) }
        let address = addresses.of(request.head, on: context.channel)
        if request.method == .options {
            return await signalling.preflight(route, request.head, address: address)
        }
        switch route {
        case .endpoint, .session:
            return try await signalling.respond(to: request, route: route, context: context, address: address)
        case .page(let name):
            guard let page = assets.response("\(name).html", ifNoneMatch: request.headers[.ifNoneMatch]) else {
                throw .notFound
            }
            return page
        case .asset(let name):
            guard let asset = assets.response(name, ifNoneMatch: request.headers[.ifNoneMatch]) else { throw .notFound }
            return asset
        case .health:
            return Self.text("ok\n")
        case .readiness:
            guard await !directory.isDraining else { throw .draining }
            return Self.text("ready\n")
        case .statistics:
            return await statistics(isOperator: await authorizer.isOperator(request.head, address: address))
        case .control:
            if let origin = request.headers[.origin], !CrossOrigin.isAllowed(origin, configuration.allowedOrigins) {
                throw .foreignOrigin
            }
            throw .noWebSocket
        case .metrics:
            let metrics = MetricsText(
                census: await directory.census,
                workers: await snapshots(includingPeers: false),
                process: .current
            )
            return Self.text(metrics.text, type: "text/plain; version=0.0.4; charset=utf-8")
        case .badIdentifier, .unknown:
            throw .notFound
        }
    }

    private func statistics(isOperator: Bool) async -> Response {
        let document = StatisticsDocument(
            defaultPrivacy: configuration.defaultPrivacy,
            census: await directory.census,
            workers: await snapshots(includingPeers: isOperator),
            roster: isOperator ? await directory.roster : nil
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let body = (try? encoder.encode(document)) ?? Data()
        return Response(
            status: .ok,
            headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: body))
        )
    }

    private func snapshots(includingPeers: Bool) async -> [WorkerSnapshot] {
        var snapshots: [WorkerSnapshot] = []
        for worker in workers {
            snapshots.append(
                await withCheckedContinuation { continuation in
                    worker.send(.snapshot(includingPeers: includingPeers) { continuation.resume(returning: $0) })
                }
            )
        }
        return snapshots
    }

    private static func text(_ text: String, type: String = "text/plain; charset=utf-8") -> Response {
        Response(
            status: .ok,
            headers: [.contentType: type, .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text))
        )
    }
}

/// What is known of a request besides its content: the connection that it came on.
struct ClientContext: InitializableFromSource, Sendable {
    let channel: any Channel

    init(source: ApplicationRequestContextSource) { channel = source.channel }

    /// The request's body is wanted: a client that waits for the word may send it.
    func wantBody() { channel.triggerUserOutboundEvent(ConnectionGate.Continue(), promise: nil) }
}

/// Requests that are being answered: a stop waits for them.
final class OpenRequests: Sendable {
    private let count = Locked(0)

    func begin() { count.withLock { $0 += 1 } }
    func end() { count.withLock { $0 -= 1 } }
    var isEmpty: Bool { count.withLock { $0 == 0 } }
}

/// Cross-origin resource sharing (Fetch §3.2): web pages of other sites may use the API, as OBS's browser sources and
/// VDO.Ninja do. Tokens travel in a header that only a page which knows them can set, so no credentials are allowed.
enum CrossOrigin {
    private static let exposed = "Location, ETag, Link, WHEP, Sluice-Privacy, Retry-After, Accept-Patch"

    static func isAllowed(_ origin: String, _ origins: [String]) -> Bool {
        origins.contains("*") || origins.contains(origin)
    }

    static func allow(_ request: HTTPRequest, in response: inout Response, origins: [String]) {
        guard let origin = request.headerFields[.origin] else { return }
        if origins.contains("*") {
            response.headers[.accessControlAllowOrigin] = "*"
        } else {
            response.headers[.vary] = "Origin"
            guard origins.contains(origin) else { return }
            response.headers[.accessControlAllowOrigin] = origin
        }
        response.headers[.accessControlExposeHeaders] = exposed
    }
}
