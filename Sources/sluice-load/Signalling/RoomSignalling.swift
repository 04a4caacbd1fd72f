import Foundation
import Synchronization

/// One room over the control WebSocket (`Docs/Protocol.md`): publishers who receive nothing, and viewers who are offered all streams
/// that there are, and those that begin later.
final class RoomSignalling: Signalling {
    private struct Clients: Sendable {
        var publishers: [ControlClient] = []
        var viewers: [ControlClient] = []
    }

    private let url: String
    private let room: String
    private let token: String?
    private let plan: LoadPlan
    private let clients = Mutex(Clients())
    private let tally = MessageTally()

    /// - Parameter url: Where the WebSocket is, such as `ws://127.0.0.1:8080/v1/ws`.
    init(url: String, token: String?, plan: LoadPlan) {
        self.url = url
        self.token = token
        self.plan = plan
        room = "load-\(UInt64.random(in: 0...UInt64.max))"
    }

    var received: [String: MessageTally.Traffic]? { tally.byType }

    func publish(_ publisher: Int) async throws -> PeerPlan {
        let client = try await join(role: "publish", policy: "none", name: "Publisher \(publisher)")
        clients.withLock { $0.publishers.append(client) }
        let credentials = ClientIdentity.makeCredentials()
        let stream = Request.Stream(stream: "\(room)-\(publisher)", kind: "camera", mids: Descriptions.mids(of: plan))
        try await client.send(
            Request(
                type: "publish",
                sdp: Descriptions.publisherOffer(publisher, credentials: credentials, plan: plan),
                streams: [stream]
            )
        )
        guard let answer = try await client.next("answer").sdp else {
            throw LoadError("the server took publisher \(publisher) without an answer")
        }
        Task { try await client.read { _ in } }
        return try Descriptions.plan(.publisher(publisher), answer: answer, local: credentials)
    }

    func watch(_ streams: [Int], viewer: Int, startedAt: UInt64) async throws -> [PeerPlan] {
        let client = try await join(role: "view", policy: "all", name: nil)
        clients.withLock { $0.viewers.append(client) }
        let credentials = ClientIdentity.makeCredentials()
        let answer = { @Sendable (offer: ControlMessage, id: Int?) async throws -> PeerPlan in
            let (answer, plan) = try Descriptions.answer(
                offer: offer.sdp ?? "",
                role: .viewer(viewer, startedAt: startedAt),
                local: credentials
            )
            try await client.send(Request(type: "answer", id: id, sdp: answer, offer: offer.offer))
            return plan
        }
        let plan = try await answer(try await client.next("offer"), 2)
        _ = try await client.next("ok")
        Task { try await client.read { if $0.type == "offer" { _ = try await answer($0, nil) } } }
        return [plan]
    }

    /// Viewers go first: each publisher's end would be told and offered to all of them.
    func finish() async throws {
        let clients = clients.withLock { $0 }
        for client in clients.viewers + clients.publishers {
            try? await client.send(Request(type: "leave"))
            await client.close()
        }
    }

    private func join(role: String, policy: String, name: String?) async throws -> ControlClient {
        let client = try await ControlClient.open(url, tally: tally)
        try await client.send(
            Request(type: "join", id: 1, room: room, name: name, token: token, role: role, policy: policy)
        )
        _ = try await client.next("joined")
        return client
    }

    private struct Request: Encodable {
        struct Stream: Encodable {
            var stream: String
            var kind: String
            var mids: [String]
        }

        var type: String
        var id: Int?
        var room: String?
        var name: String?
        var token: String?
        var role: String?
        var policy: String?
        var sdp: String?
        var offer: UInt64?
        var streams: [Stream]?
    }
}
