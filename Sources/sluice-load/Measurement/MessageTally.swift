import Synchronization

/// Messages that came over all control WebSockets together, by type.
final class MessageTally: Sendable {
    struct Traffic: Encodable, Sendable {
        var messages = 0
        /// Of text, without framing.
        var bytes = 0
    }

    private let traffic = Mutex<[String: Traffic]>([:])

    func note(_ type: String, bytes: Int) {
        traffic.withLock {
            $0[type, default: Traffic()].messages += 1
            $0[type, default: Traffic()].bytes += bytes
        }
    }

    var byType: [String: Traffic] { traffic.withLock { $0 } }
}

extension Report {
    /// For the table.
    static func rows(_ messages: [String: MessageTally.Traffic]) -> [(String, String)] {
        func text(_ traffic: MessageTally.Traffic) -> String { "\(traffic.messages) messages, \(traffic.bytes) bytes" }
        let all = messages.values.reduce(into: MessageTally.Traffic()) {
            $0.messages += $1.messages
            $0.bytes += $1.bytes
        }
        return [("over WebSockets", text(all))]
            + messages.sorted { $0.key < $1.key }.map { ("  \($0.key)", text($0.value)) }
    }
}
