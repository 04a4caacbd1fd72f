import Commands
import Forwarding
import Glibc
import Simulation
import Transport
import Wire

/// What a viewer's worst RTCP costs: datagrams of 60 KB, of which each kind is filled with as many entries as there is room for, sent by
/// somebody with a hundred subscriptions at 17 Mbit/s.
enum ControlCosts {
    private static let subscriptions: UInt32 = 100
    private static let datagramBytes = 60_000
    private static let datagramsPerSecond = 35

    static func measure() throws {
        for (name, packet) in kinds { try measure(name, packet) }
    }

    private static func measure(_ name: String, _ packet: [UInt8]) throws {
        let simulation = try Simulation(seed: 1)
        let parameters = MediaParameters(
            mid: "0",
            codec: .vp8,
            payloadType: 96,
            retransmissionPayloadType: 97,
            feedback: [.nack, .pictureLossIndication],
            allowsReducedSizeRTCP: true
        )
        let track = TrackID(rawValue: 1)
        let publisher = try simulation.connect(
            1,
            published: [
                PublishedTrack(track: track, parameters: parameters, announcedSources: [AnnouncedSource(ssrc: 77)])
            ]
        )
        let subscribed = (0..<subscriptions).map { number in
            SubscribedTrack(
                track: track,
                home: WorkerIndex(rawValue: 0),
                parameters: parameters,
                ssrc: firstSSRC + number * 2,
                retransmissionSSRC: firstSSRC + number * 2 + 1,
                cname: "benchmark"
            )
        }
        let viewer = try simulation.connect(2, subscribed: subscribed)
        for sequence in UInt64(1)...30 {
            publisher.send(
                sequence: sequence,
                timestamp: UInt32(sequence) * 90,
                ssrc: 77,
                payload: [0x10, sequence == 1 ? 0 : 1, 1, 2, 3, 4]
            )
            simulation.run(for: .milliseconds(1))
        }
        simulation.discardsSent = true
        var datagram: [UInt8] = []
        repeat { datagram += packet } while datagram.count + packet.count <= datagramBytes
        var costs: [UInt64] = []
        for _ in 0..<datagramsPerSecond {
            viewer.send(control: datagram)
            var sealed = viewer.takeOutbox().last ?? []
            let before = nanoseconds()
            sealed.withUnsafeMutableBytes {
                simulation.engines[0].receive($0, from: AddressPair(remote: viewer.address), now: simulation.now)
            }
            simulation.engines[0].endTurn(now: simulation.now)
            costs.append(nanoseconds() - before)
            simulation.run(for: .milliseconds(1000 / datagramsPerSecond))
        }
        let sum = costs.reduce(0, +)
        print(
            "RTCP, \(name): \(costs[0] / 1000) µs for the first datagram, \(sum / UInt64(costs.count) / 1000) µs for each of "
                + "\(costs.count) in a second, \(Double(sum / 100_000) / 100) % of a core"
        )
    }

    private static let firstSSRC: UInt32 = 0x0001_0000
    /// The subscription that a look-up comes to last.
    private static let lastSSRC = firstSSRC + (subscriptions - 1) * 2

    private static func packet(_ type: UInt8, _ format: UInt8, _ words: [UInt32]) -> [UInt8] {
        var packet = [0x80 | format, type, UInt8(words.count >> 8), UInt8(words.count & 255)]
        for word in words { packet += withUnsafeBytes(of: word.bigEndian) { Array($0) } }
        return packet
    }

    private static var kinds: [(String, [UInt8])] {
        let block = [lastSSRC, 0xFF00_0000, 1, 0, 0, 0]
        let blocks = (0..<31).flatMap { _ in block }
        let there = (lastSSRC & 0x3FFF) << 16 | 0xFFFF
        return [
            (
                "NACK of what is not there",
                packet(205, 1, [9, lastSSRC] + [UInt32](repeating: 0x1234_FFFF, count: 14_990))
            ),
            ("NACK of what is there", packet(205, 1, [9, lastSSRC] + [UInt32](repeating: there, count: 14_990))),
            ("small NACKs", packet(205, 1, [9, lastSSRC, 0x1234_FFFF])),
            ("FIR", packet(206, 4, [9, 0] + (0..<7_490).flatMap { [lastSSRC, UInt32($0) << 24] })),
            ("PLI", packet(206, 1, [9, lastSSRC])),
            ("receiver reports", packet(201, 31, [9] + blocks)),
            ("sender reports", packet(200, 31, [9, 1, 1, 1, 1, 1] + blocks)),
            ("REMB", packet(206, 15, [9, 0, 0x5245_4D42, 0xFF00_0001] + [UInt32](repeating: lastSSRC, count: 255))),
            ("BYE", packet(203, 31, [UInt32](repeating: lastSSRC, count: 31))),
            ("SDES", packet(202, 1, [9, 0x0102_6162, 0])),
            ("XR", packet(207, 0, [9] + [UInt32](repeating: 0x0400_0000, count: 300))),
            ("transport feedback", packet(205, 15, [9, 9, 1, 0, 0])),
            ("packets of an unknown type", packet(210, 0, [])),
        ]
    }

    private static func nanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
