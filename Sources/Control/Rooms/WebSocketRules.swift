import NIOCore
import NIOWebSocket

/// What RFC 6455 asks of a client's frames and NIO's decoder doesn't look at. Stands before the aggregator, which forgets it.
final class WebSocketFrameRules: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = WebSocketFrame

    enum Violation: Error {
        case unmasked
        case reservedBits
        case unknownOpcode
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        if let violation = Self.violation(of: frame) {
            context.fireErrorCaught(violation)
        } else {
            context.fireChannelRead(data)
        }
    }

    private static func violation(of frame: WebSocketFrame) -> Violation? {
        // §5.1: a server closes the connection upon receiving a frame that is not masked.
        if frame.maskKey == nil { return .unmasked }
        // §5.2: no extension is negotiated, so the bits have no meaning.
        if frame.rsv1 || frame.rsv2 || frame.rsv3 { return .reservedBits }
        switch frame.opcode {
        case .continuation, .text, .binary, .connectionClose, .ping, .pong: return nil
        default: return .unknownOpcode
        }
    }
}

/// Ends a WebSocket whose client breaks the rules: says why, and then reads and forgets what still comes for a moment; were it left
/// unread, the client would get a reset in place of the reason.
final class WebSocketViolations: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = WebSocketFrame
    typealias OutboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    /// How long a client may take to close.
    private static let patience = TimeAmount.seconds(2)
    private var isOver = false

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !isOver else { return }
        guard let (code, reason) = Self.reason(of: error) else { return context.fireErrorCaught(error) }
        isOver = true
        var data = context.channel.allocator.buffer(capacity: 2 + reason.utf8.count)
        data.write(webSocketErrorCode: code)
        data.writeString(reason)
        context.writeAndFlush(
            wrapOutboundOut(WebSocketFrame(fin: true, opcode: .connectionClose, data: data)),
            promise: nil
        )
        let channel = context.channel
        channel.eventLoop.scheduleTask(in: Self.patience) { channel.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard isOver else { return context.fireChannelRead(data) }
        // What comes after it is still read, until the client's end of the connection closes.
        if unwrapInboundIn(data).opcode == .connectionClose { context.close(mode: .output, promise: nil) }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        // Nothing comes after a close (§5.5.1).
        guard isOver else { return context.write(data, promise: promise) }
        promise?.succeed()
    }

    private static func reason(of error: any Error) -> (WebSocketErrorCode, String)? {
        switch error {
        case WebSocketFrameRules.Violation.unmasked: (.protocolError, "A client's frames are masked.")
        case WebSocketFrameRules.Violation.reservedBits: (.protocolError, "No extension was negotiated.")
        case WebSocketFrameRules.Violation.unknownOpcode: (.protocolError, "The opcode is unknown.")
        case NIOWebSocketError.invalidFrameLength,
            NIOWebSocketFrameAggregator.Error.accumulatedFrameSizeIsTooLarge:
            (.messageTooLarge, "The message is too long.")
        case is NIOWebSocketError: (.protocolError, "Control frames are short and whole.")
        case NIOWebSocketFrameAggregator.Error.tooManyFragments,
            NIOWebSocketFrameAggregator.Error.nonFinalFragmentSizeIsTooSmall:
            (.policyViolation, "The message is in too many fragments, or in empty ones.")
        case is NIOWebSocketFrameAggregator.Error: (.protocolError, "The fragments are out of order.")
        default: nil
        }
    }
}
