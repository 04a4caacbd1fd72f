import Commands
import Forwarding
import Glibc
import Simulation
import Transport
import Wire

/// What one forwarded packet costs in the engine: CPU time and heap allocations, from the SRTP packet of a publisher to
/// the sealed packets of all viewers, without the kernel. `Benchmarks/run` preloads what counts the allocations.
@main
struct ForwardingBenchmark {
    private static let packets: UInt64 = 20_000
    private static let packetsPerTurn: UInt64 = 4
    private static let payloadBytes = 1180
    private static let ssrc: UInt32 = 77

    static func main() throws {
        var failed = false
        for viewers in [10, 100, 500] where try !measure(viewers: viewers, encodings: 1) { failed = true }
        if try !measure(viewers: 100, encodings: 2) { failed = true }
        if try !FeedbackCosts.measure() { failed = true }
        try ControlCosts.measure()
        exit(failed ? 1 : 0)
    }

    private static let extensions = [HeaderExtensionMapping(id: 4, meaning: .mid)]

    private static func track(_ encoding: Int) -> TrackID { TrackID(rawValue: UInt64(encoding) + 1) }

    private static func published(_ encoding: Int) -> PublishedTrack {
        PublishedTrack(
            track: track(encoding),
            parameters: MediaParameters(
                mid: "0",
                codec: .vp8,
                payloadType: 96,
                headerExtensions: extensions,
                feedback: [.nack, .pictureLossIndication, .transportWideCongestionControl],
                allowsReducedSizeRTCP: true
            ),
            announcedSources: [AnnouncedSource(ssrc: ssrc + UInt32(encoding))]
        )
    }

    private static func subscribed(_ viewer: Int, encodings: Int) -> SubscribedTrack {
        SubscribedTrack(
            track: track(0),
            higherEncodings: (1..<encodings).map(track),
            home: WorkerIndex(rawValue: 0),
            parameters: MediaParameters(
                mid: "1",
                codec: .vp8,
                payloadType: 120,
                retransmissionPayloadType: 121,
                headerExtensions: extensions,
                feedback: [.nack, .pictureLossIndication],
                allowsReducedSizeRTCP: true
            ),
            ssrc: viewerSSRC(viewer),
            retransmissionSSRC: viewerSSRC(viewer) + 1,
            cname: "benchmark"
        )
    }

    private static func viewerSSRC(_ viewer: Int) -> UInt32 { 1000 + UInt32(viewer) * 2 }

    /// - Parameter encodings: 2 for simulcast: the viewers are sent the higher encoding first, then the lower one, whose frames' numbers
    ///   are rewritten from then on.
    /// - Returns: Whether nothing was allocated.
    private static func measure(viewers: Int, encodings: Int) throws -> Bool {
        // Viewers say nothing while the clock runs.
        var limits = Limits()
        limits.viewerSilence = .seconds(3600)
        let simulation = try Simulation(seed: 1, limits: limits)
        let publisher = try simulation.connect(1, published: (0..<encodings).map(published))
        for viewer in 0..<viewers {
            _ = try simulation.connect(UInt64(viewer) + 2, subscribed: [subscribed(viewer, encodings: encodings)])
        }
        simulation.discardsSent = true
        // All packets are sealed before the clock runs; the first fifth warms up.
        for sequence in 1...packets {
            for encoding in 0..<encodings {
                let isKeyframe = sequence == 1 || (encoding == 0 && sequence == packets / 10)
                let picture = UInt16(truncatingIfNeeded: sequence) &+ UInt16(encoding) * 999
                let descriptor = [
                    0x90, 0xC0, 0x80 | UInt8(picture >> 8), UInt8(truncatingIfNeeded: picture), 0, isKeyframe ? 0 : 1,
                ]
                publisher.send(
                    sequence: sequence,
                    timestamp: UInt32(truncatingIfNeeded: sequence * 900),
                    ssrc: ssrc + UInt32(encoding),
                    payload: descriptor + [UInt8](repeating: 7, count: payloadBytes)
                )
            }
        }
        let datagrams = publisher.takeOutbox()
        let engine = simulation.engines[0]
        var now = simulation.now
        var startedAt: UInt64 = 0
        var allocationsBefore: UInt = 0
        var forwardedBefore: UInt64 = 0
        let slot = UnsafeMutableRawBufferPointer.allocate(byteCount: 2048, alignment: 64)
        defer { slot.deallocate() }
        for (index, datagram) in datagrams.enumerated() {
            if index == datagrams.count / 20 {
                for viewer in 0..<viewers {
                    let peer = PeerID(rawValue: UInt64(viewer) + 2)
                    engine.apply(.limitSubscription(peer, ssrc: viewerSSRC(viewer), highestEncoding: 0), now: now)
                }
            }
            if index == datagrams.count / 5 {
                startedAt = cpuNanoseconds()
                allocationsBefore = allocations()
                forwardedBefore = engine.counters.packetsForwarded
            }
            slot.copyBytes(from: datagram)
            engine.receive(
                UnsafeMutableRawBufferPointer(rebasing: slot[..<datagram.count]),
                from: AddressPair(remote: publisher.address),
                now: now
            )
            if UInt64(index) % packetsPerTurn == packetsPerTurn - 1 {
                now = now + .milliseconds(1)
                engine.advance(to: now)
                engine.endTurn(now: now)
            }
        }
        let allocated = allocations() - allocationsBefore
        let elapsed = cpuNanoseconds() - startedAt
        let forwarded = engine.counters.packetsForwarded - forwardedBefore
        print(
            "\(viewers) viewers\(encodings > 1 ? " of simulcast" : ""): \(forwarded) packets forwarded, \(elapsed / max(1, forwarded)) ns of CPU time and "
                + "\(Double(allocated) / Double(max(1, forwarded))) allocations each (\(allocated) in all)"
        )
        return forwarded > 0 && allocated == 0
    }

    static func cpuNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    private typealias Counter = @convention(c) () -> UInt
    private static let counter: Counter? = {
        guard let symbol = dlsym(nil, "sluice_allocations") else { return nil }
        return unsafeBitCast(symbol, to: Counter.self)
    }()

    static func allocations() -> UInt {
        guard let counter else {
            print("Allocations are not counted: start this by Benchmarks/run.")
            exit(1)
        }
        return counter()
    }
}
