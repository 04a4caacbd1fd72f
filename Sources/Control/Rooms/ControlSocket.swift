import Foundation
import NIOCore
import NIOWebSocket

/// The sending half of one control WebSocket. Messages wait in a bounded queue; a reader that is too slow for it is let go.
final class ControlSocket: Sendable {
    /// What is put on the wire.
    enum Outgoing: Sendable {
        case text(String)
        case ping
        case pong(ByteBuffer)
        case close(WebSocketErrorCode, String)
    }

    let messages: AsyncStream<Outgoing>
    private let continuation: AsyncStream<Outgoing>.Continuation

    /// - Parameter capacity: Messages that wait at most.
    init(capacity: Int) {
        (messages, continuation) = AsyncStream.makeStream(
            of: Outgoing.self,
            bufferingPolicy: .bufferingOldest(capacity)
        )
    }

    /// Queues a message. One that doesn't fit any more ends the socket: its client comes back and is told how things stand.
    func send(_ message: Outgoing) {
        if case .dropped = continuation.yield(message) { continuation.finish() }
    }

    func send(_ message: JSONValue) { send(.text(Self.text(of: message))) }

    /// Says why, and ends.
    func close(_ code: WebSocketErrorCode, _ reason: String) {
        continuation.yield(.close(code, reason))
        continuation.finish()
    }

    /// Ends, as was meant to be.
    func end(_ reason: String) { close(.normalClosure, reason) }

    /// Nothing is sent any more.
    func finish() { continuation.finish() }

    /// A message's text; encoded once, it can be sent to many.
    static func text(of message: JSONValue) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(message) else { return "{\"type\":\"error\",\"code\":\"internal\"}" }
        return String(decoding: data, as: UTF8.self)
    }
}
