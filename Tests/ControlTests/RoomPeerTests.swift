import Commands
import Glibc
import Testing
import Wire

@testable import Control
@testable import Negotiation

@Suite struct RoomPeerTests {
    /// One that is offered so many streams of one track, and accepts every other.
    private static func peer(streams count: Int) throws -> RoomPeer {
        var limits = Limits()
        limits.bodyBytes = .max
        limits.mediaSections = .max
        limits.descriptionLines = .max
        let room = try #require(ResourceIdentifier("room-1234"))
        var peer = RoomPeer(
            id: "peer",
            room: room,
            name: "",
            rights: [],
            onlyStream: nil,
            address: "192.0.2.1",
            resumption: "",
            policy: .all,
            outgoing: OutgoingMedia(
                privacy: .transport,
                maximumLines: .max,
                maximumLinesPerPublisher: .max,
                ssrcs: SSRCSequence(first: 1, stride: 1)
            )
        )
        for number in 0..<count {
            let track = ForwardableTrack(
                track: TrackID(rawValue: UInt64(number)),
                home: WorkerIndex(rawValue: 0),
                codec: .opus,
                formatParameters: ""
            )
            _ = try peer.outgoing.add(track, of: "p\(number)", place: 0, label: "s", cname: "c")
            peer.subscribed[StreamKey(room: room, stream: try #require(ResourceIdentifier("stream-\(number)")))] = [
                track.track
            ]
        }
        let made = peer.outgoing.nextOffer(local: local)
        let offer = try #require(made)
        let parts = offer.split(separator: "m=audio", omittingEmptySubsequences: false).enumerated()
        let answer = parts.map { place, part in
            // The first part is the session's.
            part.replacing("a=sendonly", with: place % 2 == 1 ? "a=recvonly" : "a=inactive")
        }
        .joined(separator: "m=audio").replacing("a=setup:actpass", with: "a=setup:active")
        .replacing("a=ice-lite\r\n", with: "")
        let read = try Offer(parsing: Array(answer.utf8), limits: limits)
        _ = try peer.outgoing.accept(answer: read)
        return peer
    }

    static let local = LocalEndpoint(
        credentials: ICECredentials(usernameFragment: "localUfrag12", password: "localPassword1234567890a"),
        fingerprint: CertificateFingerprint(algorithm: .sha256, digest: Array(repeating: 0xAB, count: 32)),
        addresses: [.init(ip: .loopbackV4, port: 40000)],
        privacy: .transport,
        sessionID: 2
    )

    @Test func listsTheStreamsOfWhichATrackWasAccepted() throws {
        let names = try Self.peer(streams: 10).receivedStreams.map(\.stream.text)
        #expect(names.sorted() == ["stream-0", "stream-2", "stream-4", "stream-6", "stream-8"])
    }

    /// The operator's statistics have this of everybody in one turn of the directory. Four times the streams take four times as long,
    /// where a walk along the m-lines for each of them would take sixteen times.
    @Test func listingGrowsWithTheStreams() throws {
        let short = Self.time(try Self.peer(streams: 100))
        let long = Self.time(try Self.peer(streams: 400))
        #expect(long < short * 9, "\(Double(long) / Double(short)) times as long")
    }

    private static func time(_ peer: RoomPeer) -> UInt64 {
        (0..<9).map { _ in
            let before = threadTime()
            for _ in 0..<10 where peer.receivedStreams.isEmpty { return .max }
            return threadTime() - before
        }.min() ?? 0
    }

    private static func threadTime() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
