import NIOCore
import Wire

/// Reads the PROXY header of a trusted proxy's connection, if it begins with one, and is gone then.
final class ProxyHeaderHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private var waiting = ByteBuffer()
    private var isOver = false
    private let named: (IPAddress) -> Bool

    /// - Parameter named: Takes the client's address; false closes the connection.
    init(named: @escaping (IPAddress) -> Bool) { self.named = named }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isOver else { return context.fireChannelRead(data) }
        var buffer = unwrapInboundIn(data)
        waiting.writeBuffer(&buffer)
        switch ProxyHeader.parse(waiting.readableBytesView) {
        case .incomplete: break
        case .none: pass(context)
        case .header(let client, let length):
            waiting.moveReaderIndex(forwardBy: length)
            if let client, !named(client) { return context.close(promise: nil) }
            pass(context)
        case .malformed: context.close(promise: nil)
        }
    }

    /// What follows is the client's, whatever it looks like.
    private func pass(_ context: ChannelHandlerContext) {
        isOver = true
        if waiting.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(waiting)) }
        waiting = ByteBuffer()
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }
}
