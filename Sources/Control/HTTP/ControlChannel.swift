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

    enum Upgraded: Sendable {
        case http(NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>)
        case webSocket(ControlSession.Channel)
    }

    /// What a connection turns out to be, once its first request has come.
    struct Value: ServerChildChannelValue {
        let upgraded: EventLoopFuture<Upgraded>
        let channel: any NIOCore.Channel
    }

    let responder: HTTPChannelHandler.Responder
    let connections: ConnectionCount
    let idleTimeout: TimeAmount
    let maximumMessageBytes: Int
    let allowedOrigins: [String]
    /// Serves a control WebSocket of a client at this address.
    let serve: @Sendable (ControlSession.Channel, String) async -> Void

    func setup(channel: any NIOCore.Channel, logger: Logger) -> EventLoopFuture<Value> {
        guard connections.admits(channel) else {
            channel.close(promise: nil)
            let never: EventLoopFuture<Upgraded> = channel.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
            return channel.eventLoop.makeSucceededFuture(Value(upgraded: never, channel: channel))
        }
        return channel.eventLoop.makeCompletedFuture {
            let upgrader = NIOTypedWebSocketServerUpgrader<Upgraded>(
                maxFrameSize: maximumMessageBytes,
                enableAutomaticErrorHandling: false,
                shouldUpgrade: { channel, head in channel.eventLoop.makeSucceededFuture(headers(for: head)) },
                upgradePipelineHandler: { channel, _ in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandlers([
                            WebSocketFrameRules(),
                            NIOWebSocketFrameAggregator(
                                minNonFinalFragmentSize: 1,
                                maxAccumulatedFrameCount: 64,
                                maxAccumulatedFrameSize: maximumMessageBytes
                            ),
                            WebSocketViolations(),
                        ])
                        // Messages are long at most and are read one by one: more than the next one needn't wait here.
                        let configuration = ControlSession.Channel.Configuration(
                            backPressureStrategy: .init(lowWatermark: 1, highWatermark: 2)
                        )
                        return .webSocket(
                            try ControlSession.Channel(
                                wrappingChannelSynchronously: channel,
                                configuration: configuration
                            )
                        )
                    }
                }
            )
            let upgrade = NIOTypedHTTPServerUpgradeConfiguration<Upgraded>(
                upgraders: [upgrader],
                notUpgradingCompletionHandler: { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(HTTP1ToHTTPServerCodec(secure: false))
                        try channel.pipeline.syncOperations.addHandler(
                            HTTPConnectionStateHandler(idleTimeout: .init(idleTimeout), logger: logger)
                        )
                        return .http(
                            try NIOAsyncChannel(
                                wrappingChannelSynchronously: channel,
                                configuration: .init(isOutboundHalfClosureEnabled: true)
                            )
                        )
                    }
                }
            )
            var configuration = NIOUpgradableHTTPServerPipelineConfiguration(upgradeConfiguration: upgrade)
            configuration.enablePipelining = false
            configuration.enableErrorHandling = false
            configuration.enableResponseHeaderValidation = false
            let upgraded = try channel.pipeline.syncOperations.configureUpgradableHTTPServerPipeline(
                configuration: configuration
            )
            let upgradeHandler = try channel.pipeline.syncOperations.handler(
                type: NIOTypedHTTPServerUpgradeHandler<Upgraded>.self
            )
            try channel.pipeline.syncOperations.addHandler(
                UpgradeGate { headers(for: $0) != nil },
                position: .before(upgradeHandler)
            )
            // Until its first request is there nothing else watches over a connection.
            let timeout = channel.eventLoop.scheduleTask(in: idleTimeout) { channel.close(promise: nil) }
            upgraded.whenComplete { _ in timeout.cancel() }
            return Value(upgraded: upgraded, channel: channel)
        }
    }

    func handle(value: Value, logger: Logger) async {
        do {
            switch try await value.upgraded.get() {
            case .http(let channel): await handleHTTP(asyncChannel: channel, logger: logger)
            case .webSocket(let channel):
                await serve(channel, ClientAddress.of(channel.channel))
            }
        } catch {
            logger.trace("A connection ended before it was a request: \(type(of: error))")
        }
    }

    /// The headers of the 101; nil refuses the upgrade.
    private func headers(for head: HTTPRequestHead) -> HTTPHeaders? {
        // RFC 6455 §4.2.1.
        guard head.method == .GET, head.headers["Sec-WebSocket-Version"] == ["13"],
            head.headers["Sec-WebSocket-Key"].first?.utf8.count == 24
        else { return nil }
        guard head.uri.split(separator: "?").first.map(String.init) == Self.path else { return nil }
        if let origin = head.headers.first(name: "Origin"), !CrossOrigin.isAllowed(origin, allowedOrigins) {
            return nil
        }
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        guard offered.contains(where: { $0 == Self.subprotocol }) else { return nil }
        return ["Sec-WebSocket-Protocol": Self.subprotocol]
    }
}

/// Takes the wish for an upgrade out of a connection's first request when it doesn't get it, so that it is answered like any other,
/// with what was wrong.
private final class UpgradeGate: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart

    private let admits: (HTTPRequestHead) -> Bool
    private var isFirst = true

    init(admits: @escaping (HTTPRequestHead) -> Bool) { self.admits = admits }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // What comes after it may be a WebSocket's bytes.
        guard isFirst else { return context.fireChannelRead(data) }
        isFirst = false
        if case .head(var head) = unwrapInboundIn(data), head.headers.contains(name: "Upgrade"), !admits(head) {
            head.headers.remove(name: "Upgrade")
            context.fireChannelRead(wrapInboundOut(.head(head)))
        } else {
            context.fireChannelRead(data)
        }
    }
}
