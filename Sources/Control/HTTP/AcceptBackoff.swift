import Glibc
import Logging
import NIOCore

/// Stands before a listener, and has it wait for a moment when the system has no descriptor left for another connection: tried again at
/// once it would fail at once, for as long as there is none, and take a whole processor for it.
final class AcceptBackoff: ChannelDuplexHandler {
    typealias InboundIn = Any
    typealias InboundOut = Any
    typealias OutboundIn = Any
    typealias OutboundOut = Any

    private static let pause = TimeAmount.milliseconds(500)
    /// What is wrong for longer is said once in this time.
    private static let silence = TimeAmount.minutes(1)

    private let logger: Logger
    private var isPaused = false
    private var saidAt: NIODeadline?

    init(logger: Logger) { self.logger = logger }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? IOError, [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.errnoCode) else {
            return context.fireErrorCaught(error)
        }
        if saidAt.map({ .now() - $0 >= Self.silence }) ?? true {
            saidAt = .now()
            logger.error(
                "No connection can be accepted for now: \(String(cString: strerror(error.errnoCode))). Raise the limit of open files, or lower limits.httpConnections."
            )
        }
        guard !isPaused else { return }
        pause(true, context)
        let handler = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: Self.pause) {
            let (backoff, context) = handler.value
            backoff.pause(false, context)
        }
    }

    /// Not reading is not enough: after an error the channel still counts on the read that failed, and its loop on the socket.
    private func pause(_ isPaused: Bool, _ context: ChannelHandlerContext) {
        self.isPaused = isPaused
        try? context.channel.syncOptions?.setOption(.autoRead, value: !isPaused)
    }

    func read(context: ChannelHandlerContext) {
        if !isPaused { context.read() }
    }
}
