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
        for viewers in [10, 100, 500] where try !measure(viewers: viewers) { failed = true }
        exit(failed ? 1 : 0)
    }

    /// - Returns: Whether nothing was allocated.
    private static func measure(viewers: Int) throws -> Bool {
        let simulation = try Simulation(seed: 1)
        let track = TrackID(rawValue: 1)
        let extensions = [HeaderExtensionMapping(id: 4, meaning: .mid)]
        let publisher = try simulation.connect(
            1,
            published: [
                PublishedTrack(
                    track: track,
                    parameters: MediaParameters(
                        mid: "0",
                        codec: .vp8,
                        payloadType: 96,
                        headerExtensions: extensions,
                        feedback: [.nack, .pictureLossIndication, .transportWideCongestionControl],
                        allowsReducedSizeRTCP: true
                    ),
                    announcedSources: [AnnouncedSource(ssrc: ssrc)]
                )
            ]
        )
        for viewer in 0..<viewers {
            _ = try simulation.connect(
                UInt64(viewer) + 2,
                subscribed: [
                    SubscribedTrack(
                        track: track,
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
                        ssrc: 1000 + UInt32(viewer) * 2,
                        retransmissionSSRC: 1001 + UInt32(viewer) * 2,
                        cname: "benchmark"
                    )
                ]
            )
        }
        simulation.discardsSent = true
        // All packets are sealed before the clock runs; the first fifth warms up.
        for sequence in 1...packets {
            publisher.send(
                sequence: sequence,
                timestamp: UInt32(truncatingIfNeeded: sequence * 900),
                ssrc: ssrc,
                payload: [0x10, sequence == 1 ? 0x00 : 0x01] + [UInt8](repeating: 7, count: payloadBytes)
            )
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
            if index == datagrams.count / 5 {
                startedAt = cpuNanoseconds()
                allocationsBefore = allocations()
                forwardedBefore = engine.counters.packetsForwarded
            }
            slot.copyBytes(from: datagram)
            engine.receive(
                UnsafeMutableRawBufferPointer(rebasing: slot[..<datagram.count]),
                from: publisher.address,
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
            "\(viewers) viewers: \(forwarded) packets forwarded, \(elapsed / max(1, forwarded)) ns of CPU time and "
                + "\(Double(allocated) / Double(max(1, forwarded))) allocations each (\(allocated) in all)"
        )
        return forwarded > 0 && allocated == 0
    }

    private static func cpuNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    private typealias Counter = @convention(c) () -> UInt
    private static let counter: Counter? = {
        guard let symbol = dlsym(nil, "sluice_allocations") else { return nil }
        return unsafeBitCast(symbol, to: Counter.self)
    }()

    private static func allocations() -> UInt {
        guard let counter else {
            print("Allocations are not counted: start this by Benchmarks/run.")
            exit(1)
        }
        return counter()
    }
}
