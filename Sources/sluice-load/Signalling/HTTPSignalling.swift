import AsyncHTTPClient
import NIOCore
import NIOHTTP1

/// WHIP (RFC 9725) and WHEP: one POST of an offer a session. Sessions end with their DTLS.
struct HTTPSignalling: Signalling {
    private static let timeout = TimeAmount.seconds(60)
    private static let largestAnswer = 1 << 20

    let client: HTTPClient
    /// With `%` where the publisher's number goes.
    let publishURL: String
    let watchURL: String
    let token: String?
    let plan: LoadPlan

    func publish(_ publisher: Int) async throws -> PeerPlan {
        let credentials = ClientIdentity.makeCredentials()
        let offer = Descriptions.publisherOffer(publisher, credentials: credentials, plan: plan)
        let answer = try await post(offer, to: url(publishURL, publisher))
        return try Descriptions.plan(.publisher(publisher), answer: answer, local: credentials)
    }

    func watch(_ streams: [Int], viewer: Int, startedAt: UInt64) async throws -> [PeerPlan] {
        var plans: [PeerPlan] = []
        for stream in streams {
            let credentials = ClientIdentity.makeCredentials()
            let offer = Descriptions.viewerOffer(credentials: credentials, plan: plan)
            let answer = try await post(offer, to: url(watchURL, stream))
            plans.append(
                try Descriptions.plan(.viewer(viewer, startedAt: startedAt), answer: answer, local: credentials)
            )
        }
        return plans
    }

    func finish() async throws {}

    private func url(_ pattern: String, _ stream: Int) -> String {
        pattern.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "\(stream)")
    }

    private func post(_ offer: String, to url: String) async throws -> String {
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/sdp")
        if let token { request.headers.add(name: "Authorization", value: "Bearer \(token)") }
        request.body = .bytes(ByteBuffer(string: offer))
        let response = try await client.execute(request, timeout: Self.timeout)
        let body = String(buffer: try await response.body.collect(upTo: Self.largestAnswer))
        guard response.status == .created || response.status == .ok else {
            throw LoadError("\(url) answered \(response.status.code): \(body)")
        }
        return body
    }
}
