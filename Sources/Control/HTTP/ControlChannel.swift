import Commands
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOWebSocket

/// An HTTP/1.1 connection that may become a control WebSocket (RFC 6455): at `/v1/ws`, for allowed origins.
struct ControlChannel: ServerChildChannel, HTTPChannelHandler {
    static let path = "/v1/ws"
    static let subprotocol = "sluice.v1"

    /// What is known of a connection that has become a control WebSocket.
    struct WebSocket: Sendable {
        let channel: ControlSession.Channel
        /// Whose limits it counts towards. Never logged.
        let address: String
        let size: WebSocketSize
    }

    struct Value: ServerChildChannelValue {
        let channel: any NIOCore.Channel
        /// Nil for a connection that was not let in.
        let http: NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>?
        /// Fails when the connection ends and was none.
        let webSocket: EventLoopFuture<WebSocket>
    }

    let responder: HTTPChannelHandler.Responder
    let addresses: ClientAddress
    let limits: Limits
    let allowedOrigins: [String]
    let serve: @Sendable (WebSocket) async -> Void

    func setup(channel: any NIOCore.Channel, logger: Logger) -> EventLoopFuture<Value> {
        let webSocket = channel.eventLoop.makePromise(of: WebSocket.self)
        channel.closeFuture.whenComplete { _ in webSocket.fail(ChannelError.ioOnClosedChannel) }
        guard addresses.connections.admits(channel) else {
            channel.close(promise: nil)
            return channel.eventLoop.makeSucceededFuture(
                Value(channel: channel, http: nil, webSocket: webSocket.futureResult)
            )
        }
        return channel.eventLoop.makeCompletedFuture {
            let http = try addHTTP(to: channel, webSocket, logger: logger)
            return Value(channel: channel, http: http, webSocket: webSocket.futureResult)
        }
    }

    func handle(value: Value, logger: Logger) async {
        guard let http = value.http else { return }
        await withDiscardingTaskGroup { group in
            group.addTask { await handleHTTP(asyncChannel: http, logger: logger) }
            guard let webSocket = try? await value.webSocket.get() else { return }
            await serve(webSocket)
        }
    }

    private func addHTTP(
        to channel: any NIOCore.Channel,
        _ promise: EventLoopPromise<WebSocket>,
        logger: Logger
    ) throws -> NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart> {
        let pipeline = channel.pipeline.syncOperations
        if addresses.proxies.contains(channel.remoteAddress?.ipAddress ?? "") {
            // Before TLS, which begins behind it.
            try pipeline.addHandler(
                ProxyHeaderHandler { addresses.connections.name(channel, as: "\($0)") },
                position: .first
            )
        }
        let encoder = HTTPResponseEncoder()
        let decoder = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes))
        let codec = HTTP1ToHTTPServerCodec(secure: false)
        // Closes what is idle, also before the first request, and what a stop finds without one.
        let watch = HTTPConnectionStateHandler(idleTimeout: limits.httpIdle, logger: logger)
        let gate = ConnectionGate(
            encoder: encoder,
            decoder: decoder,
            admits: { headers(for: $0, on: channel) },
            upgrade: { head in
                pipeline.removeHandler(codec, promise: nil)
                pipeline.removeHandler(watch, promise: nil)
                return try becomeWebSocket(channel, head, promise)
            }
        )
        try pipeline.addHandlers([encoder, decoder, gate, codec, watch])
        return try NIOAsyncChannel(
            wrappingChannelSynchronously: channel,
            configuration: .init(isOutboundHalfClosureEnabled: true)
        )
    }

    private func becomeWebSocket(
        _ channel: any NIOCore.Channel,
        _ head: HTTPRequestHead,
        _ promise: EventLoopPromise<WebSocket>
    ) throws -> FrameLanding {
        let pipeline = channel.pipeline.syncOperations
        let gate = try pipeline.handler(type: ConnectionGate.self)
        let size = WebSocketSize(limits.controlRequestBytes)
        try pipeline.addHandlers(
            [
                WebSocketFrameEncoder(),
                WebSocketSizeRule(size),
                ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: limits.controlMessageBytes)),
                WebSocketFrameRules(),
                NIOWebSocketFrameAggregator(
                    minNonFinalFragmentSize: 1,
                    maxAccumulatedFrameCount: 64,
                    maxAccumulatedFrameSize: limits.controlMessageBytes
                ),
                WebSocketViolations(),
            ] as [any ChannelHandler],
            position: .before(gate)
        )
        let landing = FrameLanding()
        try pipeline.addHandler(landing)
        // Messages are long at most and are read one by one: more than the next one needn't wait here.
        let configuration = ControlSession.Channel.Configuration(
            backPressureStrategy: .init(lowWatermark: 1, highWatermark: 2)
        )
        let wrapped = try ControlSession.Channel(wrappingChannelSynchronously: channel, configuration: configuration)
        promise.succeed(WebSocket(channel: wrapped, address: addresses.of(head, on: channel), size: size))
        return landing
    }

    /// The headers of the 101; nil refuses the upgrade.
    private func headers(for head: HTTPRequestHead, on channel: any NIOCore.Channel) -> HTTPHeaders? {
        // RFC 6455 §4.2.1.
        guard head.method == .GET, head.version.minor >= 1,
            head.headers[canonicalForm: "Upgrade"].contains(where: { $0.lowercased() == "websocket" }),
            head.headers["Sec-WebSocket-Version"] == ["13"],
            head.headers["Sec-WebSocket-Key"].map(\.utf8.count) == [24]
        else { return nil }
        guard head.uri.split(separator: "?").first.map(String.init) == Self.path else { return nil }
        if let origin = head.headers.first(name: "Origin"), !CrossOrigin.isAllowed(origin, allowedOrigins) {
            return nil
        }
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        guard offered.contains(where: { $0 == Self.subprotocol }) else { return nil }
        var headers: HTTPHeaders?
        // NIO makes the key's answer (RFC 6455 §4.2.2), at once.
        Self.upgrader.buildUpgradeResponse(
            channel: channel,
            upgradeRequest: head,
            initialResponseHeaders: [:]
        ).assumeIsolated().whenSuccess { headers = $0 }
        return headers
    }

    private static let upgrader = NIOWebSocketServerUpgrader(
        shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture(["Sec-WebSocket-Protocol": subprotocol]) },
        upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() }
    )
}
