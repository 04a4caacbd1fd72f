import Foundation
import NIOCore
import NIOWebSocket
import Worker

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
    private let maximumBytes: Int
    /// Of texts that wait.
    private let waitingBytes = Locked(0)

    /// - Parameters:
    ///   - capacity: Messages that wait at most.
    ///   - maximumBytes: Bytes of them.
    init(capacity: Int, maximumBytes: Int) {
        self.maximumBytes = maximumBytes
        (messages, continuation) = AsyncStream.makeStream(
            of: Outgoing.self,
            bufferingPolicy: .bufferingOldest(capacity)
        )
    }

    /// Queues a message. One that doesn't fit any more ends the socket: its client comes back and is told how things stand.
    func send(_ message: Outgoing) {
        if case .text(let text) = message {
            let isTooMuch = waitingBytes.withLock { bytes in
                bytes += text.utf8.count
                return bytes > maximumBytes
            }
            if isTooMuch { return continuation.finish() }
        }
        if case .dropped = continuation.yield(message) { continuation.finish() }
    }

    /// A text doesn't wait any more.
    func isTaken(_ text: String) { waitingBytes.withLock { $0 -= text.utf8.count } }

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
