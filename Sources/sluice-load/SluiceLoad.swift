import ArgumentParser
import AsyncHTTPClient
import Foundation
import Transport

/// The load generator: publishers and viewers in any number against a WHIP/WHEP server, a room of Sluice's, or Janus's videoroom.
@main
struct SluiceLoad: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice-load",
        abstract: "Publishes test pictures, watches them from many viewers, and measures what arrives.",
        discussion: """
            A % in an address stands for the publisher's number. Give --server-pid, when the server runs on this machine, to \
            learn what a packet that reached a viewer cost it.
            """
    )

    enum Encryption: String, ExpressibleByArgument, CaseIterable {
        case gcm, cm

        var profiles: [SRTPProfile] {
            switch self {
            case .gcm: [.aeadAES128GCM]
            case .cm: [.aes128CounterModeHMACSHA1Tag80]
            }
        }
    }

    @Option(help: "Where streams are published by WHIP.")
    var whip = "http://127.0.0.1:8080/load%/whip"
    @Option(help: "Where streams are watched by WHEP.")
    var whep = "http://127.0.0.1:8080/load%/whep"
    @Option(help: "Janus's HTTP API, such as http://127.0.0.1:8088/janus, in place of WHIP and WHEP.")
    var janus: String?
    @Option(
        help:
            "The control WebSocket, such as ws://127.0.0.1:8080/v1/ws, in place of WHIP and WHEP: all are in one room."
    )
    var websocket: String?
    @Option(help: "A bearer token for WHIP, WHEP and the control WebSocket.")
    var token: String?

    @Option(help: "Publishers, each of one stream.")
    var publishers = 1
    @Option(help: "Viewers.")
    var viewers = 100
    @Option(help: "Streams that each viewer watches: viewer N those behind stream N, round the circle; in a room, all.")
    var streams = 1

    @Option(help: "VP8 or H264.")
    var codec = LoadPlan.VideoCodec.vp8
    @Option(help: "Video frames a second.")
    var fps = 30.0
    @Option(help: "Bits of RTP packets a second of each video.")
    var bitrate = 2_592_000.0
    @Option(help: "Longest RTP packet in bytes, 100 to 1400.")
    var packetSize = 1200
    @Option(help: "How many times as long as other frames a keyframe is.")
    var keyframeFactor = 1.0
    @Option(
        help: "Milliseconds that a frame's packets are spread over, as a browser's pacer does; 0 sends a frame at once."
    )
    var spread = 0.0
    @Flag(inversion: .prefixedNo, help: "Send Opus too.")
    var audio = true
    @Option(help: "Opus packets a second, 1 to 50.")
    var audioRate = 50.0
    @Option(help: "gcm or cm: AEAD_AES_128_GCM, or AES128_CM_HMAC_SHA1_80.")
    var srtp = Encryption.gcm

    @Option(help: "Viewers that join in a second; 0 is as fast as the server answers.")
    var joinRate = 0.0
    @Option(help: "Viewers whose signalling is under way at a time.")
    var parallelJoins = 64
    @Option(
        help: "Viewers at the beginning, and at the end, of joining whose cost to the server is looked at; 0 is none."
    )
    var measuredJoins = 0
    @Option(help: "Viewers that join, and have a picture, before all others begin to.")
    var firstViewers = 0
    @Option(help: "Viewers that decrypt and check every payload, spread over the order of joining.")
    var verify = 20
    @Option(help: "The part of datagrams that viewers throw away on arrival, 0 to 0.5.")
    var loss = 0.0
    @Flag(inversion: .prefixedNo, help: "Ask again for lost video packets.")
    var nack = true

    @Option(help: "How many times as long frames are in a surge that ends 2 s before the measurement; 1 is none.")
    var surge = 1.0
    @Option(help: "Seconds that the surge lasts.")
    var surgeDuration = 10.0
    @Option(help: "Seconds that are measured.")
    var duration = 10.0
    @Option(help: "Seconds from the last viewer's first picture to the measurement.")
    var warmUp = 3.0
    @Option(help: "Seconds that viewers may take to get a picture.")
    var patience = 30.0
    @Option(help: "The server's process id.")
    var serverPid: Int32?
    @Flag(help: "Print the result as JSON.")
    var json = false
    @Flag(help: "No progress line.")
    var quiet = false

    func validate() throws {
        func check(_ holds: Bool, _ message: String) throws {
            if !holds { throw ValidationError(message) }
        }
        try check((1...1000).contains(publishers), "--publishers is 1 to 1000, not \(publishers)")
        try check((1...100_000).contains(viewers), "--viewers is 1 to 100000, not \(viewers)")
        try check((1...publishers).contains(streams), "--streams is 1 to the number of publishers, not \(streams)")
        try check((1...240).contains(fps), "--fps is 1 to 240, not \(fps)")
        try check((10_000...1_000_000_000).contains(bitrate), "--bitrate is 10000 to 1e9 bits, not \(bitrate)")
        try check((100...1400).contains(packetSize), "--packet-size is 100 to 1400 bytes, not \(packetSize)")
        try check((1...100).contains(keyframeFactor), "--keyframe-factor is 1 to 100, not \(keyframeFactor)")
        try check((0...(1000 / fps)).contains(spread), "--spread is 0 to a frame's \(1000 / fps) ms, not \(spread)")
        try check((0...0.5).contains(loss), "--loss is 0 to 0.5, not \(loss)")
        try check((1...20).contains(surge), "--surge is 1 to 20, not \(surge)")
        try check((1...600).contains(surgeDuration), "--surge-duration is 1 to 600 seconds, not \(surgeDuration)")
        try check((1...50).contains(audioRate), "--audio-rate is 1 to 50, not \(audioRate)")
        try check(websocket == nil || janus == nil && streams == 1, "--websocket goes without --janus and --streams")
        try check((1...1000).contains(parallelJoins), "--parallel-joins is 1 to 1000, not \(parallelJoins)")
        try check((0...(viewers / 2)).contains(measuredJoins), "--measured-joins is 0 to half the number of viewers")
        try check(
            measuredJoins == 0 || serverPid != nil && firstViewers == 0,
            "--measured-joins needs --server-pid, and goes without --first-viewers"
        )
        try check(joinRate >= 0, "--join-rate is 0 or more, not \(joinRate)")
        try check((0...viewers).contains(firstViewers), "--first-viewers is 0 to the number of viewers")
        try check((0...viewers).contains(verify) || verify == 20, "--verify is 0 to the number of viewers")
        try check((1...3600).contains(duration), "--duration is 1 to 3600 seconds, not \(duration)")
        try check((0...600).contains(warmUp), "--warm-up is 0 to 600 seconds, not \(warmUp)")
        try check((1...600).contains(patience), "--patience is 1 to 600 seconds, not \(patience)")
    }

    func run() async throws {
        let plan = LoadPlan(
            publishers: publishers,
            viewers: viewers,
            streamsPerViewer: websocket == nil ? streams : publishers,
            streamsPerSession: websocket != nil ? publishers : janus != nil ? streams : 1,
            codec: codec,
            framesPerSecond: fps,
            bitrate: bitrate,
            packetBytes: packetSize,
            keyframeFactor: keyframeFactor,
            spread: .seconds(spread / 1000),
            hasAudio: audio,
            audioPacketsPerSecond: audioRate,
            profiles: srtp.profiles,
            joinsPerSecond: joinRate,
            parallelJoins: parallelJoins,
            measuredJoins: measuredJoins,
            firstViewers: firstViewers,
            verifiedViewers: min(verify, viewers),
            loss: loss,
            sendsNacks: nack,
            surge: surge,
            surgeDuration: .seconds(surgeDuration),
            duration: .seconds(duration),
            warmUp: .seconds(warmUp),
            patience: .seconds(patience),
            serverProcess: serverPid
        )
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = parallelJoins + 2
        let client = HTTPClient(configuration: configuration)
        let signalling: any Signalling =
            if let websocket {
                RoomSignalling(url: websocket, token: token, plan: plan)
            } else if let janus {
                JanusSignalling(client: client, url: janus, plan: plan)
            } else {
                HTTPSignalling(client: client, publishURL: whip, watchURL: whep, token: token, plan: plan)
            }
        do {
            let report = try await LoadRun(plan: plan, signalling: signalling, showsProgress: !quiet).run()
            try await client.shutdown()
            print(json ? try report.json() : report.table())
        } catch {
            try? await client.shutdown()
            FileHandle.standardError.write(Data("sluice-load: \(error)\n".utf8))
            throw ExitCode.failure
        }
    }
}

extension LoadPlan.VideoCodec: ExpressibleByArgument {}
