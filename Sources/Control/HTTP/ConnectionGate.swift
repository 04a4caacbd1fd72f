import NIOCore
import NIOHTTP1
import NIOWebSocket

/// Stands between an HTTP/1.1 connection's parser and those who answer its requests. Any request, also one that comes after others, may
/// turn the connection into a control WebSocket (RFC 9110 §7.8); one that is refused is answered like any other, and the connection goes
/// on.
final class ConnectionGate: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// Triggered from within: the body of the request is wanted. A client that waits for that word is told (RFC 9110 §10.1.1).
    struct Continue: Sendable {}

    private enum State {
        case http
        /// A request is to become a WebSocket, with these headers of the 101. Its end is still to come, or earlier requests are still to
        /// be answered.
        case upgrading(HTTPRequestHead, HTTPHeaders, isWhole: Bool)
        case webSocket
    }

    private let encoder: HTTPResponseEncoder
    private var decoder: ByteToMessageHandler<HTTPRequestDecoder>
    private let admits: (HTTPRequestHead) -> HTTPHeaders?
    private let upgrade: (HTTPRequestHead) throws -> FrameLanding
    private var state = State.http
    private var landing: FrameLanding?
    /// Requests that were passed on, and are to be answered still.
    private var openRequests = 0
    /// Whether the parser stops behind the request that is being read: what follows it takes for another protocol's.
    private var parserStops = false
    private var expectsContinue = false
    /// Whether the answer that is being written is the connection's last, as it says.
    private var closesAfterAnswer = false
    /// Whether a request was passed on, or none was before the connection became a WebSocket.
    private var hasPassedRequest = false
    /// Whether one more than the WebSocket closes the connection.
    private var awaitsOtherClose = false

    /// - Parameters:
    ///   - encoder: The HTTP handlers before this one.
    ///   - decoder: …
    ///   - admits: The headers of the 101 to a request; nil when it doesn't become a WebSocket.
    ///   - upgrade: Puts the WebSocket's handlers in place of HTTP's, before this one, and says where frames go.
    init(
        encoder: HTTPResponseEncoder,
        decoder: ByteToMessageHandler<HTTPRequestDecoder>,
        admits: @escaping (HTTPRequestHead) -> HTTPHeaders?,
        upgrade: @escaping (HTTPRequestHead) throws -> FrameLanding
    ) {
        self.encoder = encoder
        self.decoder = decoder
        self.admits = admits
        self.upgrade = upgrade
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch state {
        case .webSocket: landing?.fire(data)
        case .upgrading(let head, let headers, _):
            guard case .end = unwrapInboundIn(data) else { return }
            state = .upgrading(head, headers, isWhole: true)
            upgradeIfAnswered(context)
        case .http: read(context, unwrapInboundIn(data))
        }
    }

    private func read(_ context: ChannelHandlerContext, _ part: HTTPServerRequestPart) {
        switch part {
        case .head(let head):
            parserStops = Self.stopsParser(head)
            if parserStops, let headers = admits(head) {
                state = .upgrading(head, headers, isWhole: false)
                return
            }
            openRequests += 1
            hasPassedRequest = true
            expectsContinue =
                head.version.minor >= 1
                && head.headers[canonicalForm: "Expect"].contains { $0.lowercased() == "100-continue" }
        case .body: expectsContinue = false
        case .end:
            expectsContinue = false
            context.fireChannelRead(wrapInboundOut(part))
            if parserStops { renewParser(context) }
            return
        }
        context.fireChannelRead(wrapInboundOut(part))
    }

    /// As the parser has it: an upgrade is asked for by two headers together, or by CONNECT.
    private static func stopsParser(_ head: HTTPRequestHead) -> Bool {
        head.method == .CONNECT
            || head.headers.contains(name: "Upgrade")
                && head.headers[canonicalForm: "Connection"].contains { $0.lowercased() == "upgrade" }
    }

    /// What comes behind a request whose upgrade was refused is HTTP still (RFC 9110 §7.8: a server may ignore the wish).
    private func renewParser(_ context: ChannelHandlerContext) {
        parserStops = false
        let next = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes))
        do {
            try context.pipeline.syncOperations.addHandler(next, position: .after(decoder))
            // What it has of the next request comes to the new one.
            removeParser(context)
            decoder = next
        } catch {
            context.close(promise: nil)
        }
    }

    /// Takes the parser out, which lets go of what it has and takes for another protocol's: later, and after the read that brought it is
    /// over, so those behind are told that there was another.
    private func removeParser(_ context: ChannelHandlerContext) {
        context.pipeline.syncOperations.removeHandler(decoder).assumeIsolated().whenSuccess {
            context.fireChannelReadComplete()
        }
    }

    private func upgradeIfAnswered(_ context: ChannelHandlerContext) {
        guard case .upgrading(let head, let headers, isWhole: true) = state, openRequests == 0 else { return }
        let response = HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers)
        context.write(wrapOutboundOut(.head(response)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        state = .webSocket
        do {
            landing = try upgrade(head)
            context.pipeline.syncOperations.removeHandler(encoder, promise: nil)
            // What the client has sent since comes to the WebSocket's decoder.
            removeParser(context)
        } catch {
            context.close(promise: nil)
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if case .webSocket = state { return context.write(data, promise: promise) }
        let part = unwrapOutboundIn(data)
        if case .end = part, closesAfterAnswer {
            context.writeAndFlush(data, promise: promise)
            return context.close(promise: nil)
        }
        context.write(data, promise: promise)
        switch part {
        case .head(let head):
            expectsContinue = false
            closesAfterAnswer = head.headers[canonicalForm: "Connection"].contains { $0.lowercased() == "close" }
        case .body: break
        case .end:
            openRequests -= 1
            guard case .upgrading = state else { return }
            context.flush()
            upgradeIfAnswered(context)
        }
    }

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard event is Continue else { return context.triggerUserOutboundEvent(event, promise: promise) }
        if expectsContinue {
            expectsContinue = false
            let head = HTTPResponseHead(version: .http1_1, status: .continue)
            context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
        }
        promise?.succeed()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // Who waits for a first request, and never got one, closes all of the connection now. The WebSocket does the same, when it has
        // said what it has to say.
        if case .webSocket = state, event as? ChannelEvent == .inputClosed, !hasPassedRequest {
            awaitsOtherClose = true
        }
        context.fireUserInboundEventTriggered(event)
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard case .webSocket = state else { return context.close(mode: mode, promise: promise) }
        // Who answers requests is done when the client has closed its half; the WebSocket may have something to say still.
        if mode == .output {
            promise?.succeed()
        } else if mode == .all, awaitsOtherClose {
            // Whichever of the two comes first: the second closes.
            awaitsOtherClose = false
            promise?.succeed()
        } else {
            context.close(mode: mode, promise: promise)
        }
    }
}

/// Where a WebSocket's frames come in again, behind those who answer requests and know none.
final class FrameLanding: ChannelInboundHandler {
    typealias InboundIn = Any
    typealias InboundOut = Any

    private var context: ChannelHandlerContext?

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func fire(_ data: NIOAny) { context?.fireChannelRead(data) }
}
