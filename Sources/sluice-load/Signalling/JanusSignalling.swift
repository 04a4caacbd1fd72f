import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1

/// Janus's videoroom through its HTTP API: one API session, a handle for each peer.
actor JanusSignalling: Signalling {
    private static let timeout = TimeAmount.seconds(60)
    private static let largestAnswer = 1 << 22
    private static let plugin = "janus.plugin.videoroom"

    private let client: HTTPClient
    private let url: String
    private let room: Int
    private let plan: LoadPlan
    private var session: Int?
    private var poller: Task<Void, Never>?
    /// Who waits for an event of a handle.
    private var waiting: [Int: CheckedContinuation<Message, any Error>] = [:]
    /// Janus's number of each publisher.
    private var feeds: [Int: Int] = [:]

    /// - Parameter url: Where the API is, such as `http://127.0.0.1:8088/janus`.
    init(client: HTTPClient, url: String, plan: LoadPlan) {
        self.client = client
        self.url = url
        self.plan = plan
        room = Int.random(in: 1_000_000...9_999_999)
    }

    func publish(_ publisher: Int) async throws -> PeerPlan {
        try await open()
        let credentials = ClientIdentity.makeCredentials()
        let offer = Descriptions.publisherOffer(publisher, credentials: credentials, plan: plan)
        let handle = try await attach()
        let message = try await ask(
            handle,
            Body(request: "joinandconfigure", room: room, ptype: "publisher"),
            Session(type: "offer", sdp: offer)
        )
        guard let answer = message.jsep?.sdp, let feed = message.plugindata?.data?.id else {
            throw LoadError("Janus took publisher \(publisher) without an answer")
        }
        feeds[publisher] = feed
        return try Descriptions.plan(.publisher(publisher), answer: answer, local: credentials)
    }

    func watch(_ streams: [Int], viewer: Int, startedAt: UInt64) async throws -> [PeerPlan] {
        let credentials = ClientIdentity.makeCredentials()
        let handle = try await attach()
        let wanted = streams.compactMap { feeds[$0].map { Body.Stream(feed: $0) } }
        let message = try await ask(
            handle,
            Body(request: "join", room: room, ptype: "subscriber", streams: wanted),
            nil
        )
        guard let offer = message.jsep?.sdp else { throw LoadError("Janus made viewer \(viewer) no offer") }
        let (answer, plan) = try Descriptions.answer(
            offer: offer,
            role: .viewer(viewer, startedAt: startedAt),
            local: credentials
        )
        _ = try await ask(handle, Body(request: "start", room: room), Session(type: "answer", sdp: answer))
        return [plan]
    }

    func finish() async throws {
        poller?.cancel()
        if let session { _ = try await post("\(url)/\(session)", Request(janus: "destroy")) }
        session = nil
    }

    // MARK: Janus

    private struct Request: Encodable {
        var janus: String
        var transaction = "\(UInt64.random(in: 0...UInt64.max))"
        var plugin: String?
        var body: Body?
        var jsep: Session?
    }

    private struct Body: Encodable {
        struct Stream: Encodable { var feed: Int }

        var request: String
        var room: Int
        var ptype: String?
        var streams: [Stream]?
        var publishers: Int?
        var videocodec: String?
        var audiocodec: String?
        var bitrate: Int?
    }

    private struct Session: Codable {
        var type: String
        var sdp: String
    }

    private struct Message: Decodable, Sendable {
        struct Identifier: Decodable { var id: Int }
        struct Plugin: Decodable { var data: PluginData? }
        struct PluginData: Decodable {
            var id: Int?
            var error: String?
        }
        struct Description: Decodable { var sdp: String }
        struct Failure: Decodable { var reason: String }

        var janus: String
        var sender: Int?
        var data: Identifier?
        var plugindata: Plugin?
        var jsep: Description?
        var error: Failure?
    }

    /// Creates the session and the room, and listens for events.
    private func open() async throws {
        guard session == nil else { return }
        guard let id = try await post(url, Request(janus: "create")).data?.id else {
            throw LoadError("Janus made no session")
        }
        session = id
        poller = Task { await poll(id) }
        let handle = try await attach()
        let body = Body(
            request: "create",
            room: room,
            publishers: max(plan.publishers, 1),
            videocodec: plan.codec.rawValue.lowercased(),
            audiocodec: "opus",
            bitrate: 0
        )
        _ = try await post("\(url)/\(id)/\(handle)", Request(janus: "message", body: body))
    }

    private func attach() async throws -> Int {
        guard let session else { throw LoadError("there is no session with Janus") }
        guard
            let handle = try await post("\(url)/\(session)", Request(janus: "attach", plugin: Self.plugin)).data?.id
        else { throw LoadError("Janus made no handle") }
        return handle
    }

    /// Sends a message to a handle and waits for the event that answers it.
    private func ask(_ handle: Int, _ body: Body, _ jsep: Session?) async throws -> Message {
        guard let session else { throw LoadError("there is no session with Janus") }
        let target = "\(url)/\(session)/\(handle)"
        let message = try await withCheckedThrowingContinuation { continuation in
            waiting[handle] = continuation
            Task {
                do {
                    _ = try await post(target, Request(janus: "message", body: body, jsep: jsep))
                } catch {
                    waiting.removeValue(forKey: handle)?.resume(throwing: error)
                }
            }
        }
        if let problem = message.plugindata?.data?.error { throw LoadError("Janus: \(problem)") }
        return message
    }

    private func poll(_ session: Int) async {
        while !Task.isCancelled {
            do {
                var request = HTTPClientRequest(url: "\(url)/\(session)?maxev=20")
                request.method = .GET
                let response = try await client.execute(request, timeout: Self.timeout)
                let body = try await response.body.collect(upTo: Self.largestAnswer)
                let messages = try JSONDecoder().decode([Message].self, from: Data(body.readableBytesView))
                for message in messages where message.janus == "event" {
                    guard let sender = message.sender else { continue }
                    waiting.removeValue(forKey: sender)?.resume(returning: message)
                }
            } catch {
                if Task.isCancelled { return }
                for handle in Array(waiting.keys) { waiting.removeValue(forKey: handle)?.resume(throwing: error) }
                try? await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func post(_ url: String, _ body: Request) async throws -> Message {
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        request.body = .bytes(try JSONEncoder().encode(body))
        let response = try await client.execute(request, timeout: Self.timeout)
        let data = try await response.body.collect(upTo: Self.largestAnswer)
        let message = try JSONDecoder().decode(Message.self, from: Data(data.readableBytesView))
        if let failure = message.error { throw LoadError("Janus: \(failure.reason)") }
        return message
    }
}
