import NIOCore
import NIOWebSocket
import Worker

/// How long a control WebSocket's messages may be: little for strangers, whose bytes are kept until a message is whole.
final class WebSocketSize: Sendable {
    private let maximum: Locked<Int>

    init(_ maximum: Int) { self.maximum = Locked(maximum) }

    var bytes: Int { maximum.withLock { $0 } }

    func set(_ bytes: Int) { maximum.withLock { $0 = bytes } }
}

/// Ends a WebSocket whose client begins a message that is too long, before it is taken in. Stands before the decoder, which would keep
/// all of it first.
final class WebSocketSizeRule: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let size: WebSocketSize
    private var lengths = FrameLengths()
    private var isOver = false

    init(_ size: WebSocketSize) { self.size = size }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // What comes after it is read, and forgotten.
        guard !isOver else { return }
        guard lengths.take(unwrapInboundIn(data).readableBytesView, maximum: size.bytes) else {
            isOver = true
            return context.fireErrorCaught(NIOWebSocketError.invalidFrameLength)
        }
        context.fireChannelRead(data)
    }
}
