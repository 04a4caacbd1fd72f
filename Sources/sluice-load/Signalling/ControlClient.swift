import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket

/// What a server says on a control WebSocket, as far as the load generator reads it.
struct ControlMessage: Decodable, Sendable {
    var type: String
    var sdp: String?
    /// The number of an offer.
    var offer: UInt64?
    /// Of an error.
    var code: String?
    var message: String?
}

/// A client's end of one control WebSocket (`Docs/Protocol.md`).
final class ControlClient: Sendable {
    private static let subprotocol = "sluice.v1"
    private static let largestMessage = 1 << 22
    private static let timeout = TimeAmount.seconds(60)

    private typealias Messages = AsyncThrowingStream<ControlMessage, any Error>

    private let channel: any Channel
    private let messages: Messages

    private init(channel: any Channel, messages: Messages) {
        self.channel = channel
        self.messages = messages
    }

    /// Opens a WebSocket.
    ///
    /// - Parameters:
    ///   - url: Such as `ws://127.0.0.1:8080/v1/ws`.
    ///   - tally: What comes is counted there.
    static func open(_ url: String, tally: MessageTally) async throws -> ControlClient {
        guard let address = URL(string: url), address.scheme == "ws", let host = address.host() else {
            throw LoadError("\(url) is no address of a WebSocket, such as ws://127.0.0.1:8080/v1/ws")
        }
        var headers = HTTPHeaders()
        headers.add(name: "Host", value: host)
        headers.add(name: "Sec-WebSocket-Protocol", value: subprotocol)
        let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: address.path(), headers: headers)
        let upgraded = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: host, port: address.port ?? 80) { channel in
                channel.eventLoop.makeCompletedFuture { try upgrade(channel, request: head, tally: tally) }
            }
        guard let client = try await upgraded.get() else { throw LoadError("\(url) is not served as a WebSocket") }
        return client
    }

    private static func upgrade(
        _ channel: any Channel,
        request: HTTPRequestHead,
        tally: MessageTally
    ) throws -> EventLoopFuture<ControlClient?> {
        let upgrader = NIOTypedWebSocketClientUpgrader<ControlClient?>(maxFrameSize: largestMessage) { channel, _ in
            channel.eventLoop.makeCompletedFuture {
                let (messages, continuation) = Messages.makeStream()
                try channel.pipeline.syncOperations.addHandler(FrameReader(continuation, tally: tally))
                return ControlClient(channel: channel, messages: messages)
            }
        }
        let configuration = NIOTypedHTTPClientUpgradeConfiguration<ControlClient?>(
            upgradeRequestHead: request,
            upgraders: [upgrader],
            notUpgradingCompletionHandler: { $0.eventLoop.makeSucceededFuture(nil) }
        )
        return try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(
            configuration: .init(upgradeConfiguration: configuration)
        )
    }

    func send(_ message: some Encodable) async throws {
        let text = ByteBuffer(bytes: try JSONEncoder().encode(message))
        let frame = WebSocketFrame(fin: true, opcode: .text, maskKey: .random(), data: text)
        try await channel.writeAndFlush(frame)
    }

    /// The next message of this type; those before it are passed over.
    ///
    /// - Throws: When an error comes, or nothing for a minute.
    func next(_ type: String) async throws -> ControlMessage {
        let timer = channel.eventLoop.scheduleTask(in: Self.timeout) { [channel] in channel.close(promise: nil) }
        defer { timer.cancel() }
        for try await message in messages {
            if message.type == type { return message }
            if message.type == "error" {
                throw LoadError("the server answered \(message.code ?? "error"): \(message.message ?? "")")
            }
        }
        throw LoadError("the WebSocket ended before \(type) came")
    }

    /// Reads what comes until the end.
    func read(_ body: (ControlMessage) async throws -> Void) async throws {
        for try await message in messages { try await body(message) }
    }

    func close() async { try? await channel.close() }
}

/// Reads frames, counts messages and answers pings.
private final class FrameReader: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    private let continuation: AsyncThrowingStream<ControlMessage, any Error>.Continuation
    private let tally: MessageTally

    init(_ continuation: AsyncThrowingStream<ControlMessage, any Error>.Continuation, tally: MessageTally) {
        self.continuation = continuation
        self.tally = tally
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        switch frame.opcode {
        case .text:
            do {
                let text = Data(frame.data.readableBytesView)
                let message = try JSONDecoder().decode(ControlMessage.self, from: text)
                tally.note(message.type, bytes: text.count)
                continuation.yield(message)
            } catch {
                continuation.finish(throwing: LoadError("the server's message can't be read: \(error)"))
                context.close(promise: nil)
            }
        case .ping:
            let pong = WebSocketFrame(fin: true, opcode: .pong, maskKey: .random(), data: frame.data)
            context.writeAndFlush(wrapOutboundOut(pong), promise: nil)
        case .connectionClose: context.close(promise: nil)
        default: break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        continuation.finish()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        continuation.finish(throwing: error)
        context.close(promise: nil)
    }
}
