import Commands
import Simulation
import Testing
import Transport
import Wire

@testable import Forwarding

/// How packets are put together for the kernel.
@Suite struct FanOutTests {
    typealias Calls = ForwardingTests

    /// A frame's packets in one turn, with payloads of these lengths.
    private static func sendFrame(
        _ lengths: [Int],
        from first: UInt64,
        by client: SimulatedClient,
        in simulation: Simulation,
        isKeyframe: Bool
    ) {
        for (index, length) in lengths.enumerated() {
            var payload = Calls.payload(UInt32(first) + UInt32(index), isKeyframe: isKeyframe && index == 0)
            if index > 0 { payload[0] = 0 }
            payload += [UInt8](repeating: 9, count: length - payload.count)
            client.send(
                sequence: first + UInt64(index),
                timestamp: UInt32(first) &* 90,
                ssrc: Calls.sourceSSRC,
                marker: index + 1 == lengths.count,
                payload: payload
            )
        }
        simulation.run(for: .milliseconds(1))
    }

    private struct Call {
        let simulation: Simulation
        let publisher: SimulatedClient
        let viewer: SimulatedClient
    }

    private static func call(withRTX: Bool = true) throws -> Call {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, subscribed: [Calls.subscribed(withRTX: withRTX)])
        simulation.keepsSent = true
        return Call(simulation: simulation, publisher: publisher, viewer: viewer)
    }

    @Test(arguments: [
        [1000, 1000, 1000],
        // As libwebrtc cuts frames: the shorter ones first.
        [999, 999, 1000, 1000],
        [1000, 1000, 999],
        [990, 1000, 985, 1001],
        // The last one may be shorter by any number.
        [1000, 1000, 1000, 40],
    ])
    func aFrameIsOneMessage(lengths: [Int]) throws {
        let call = try Self.call()
        Self.sendFrame(lengths, from: 1, by: call.publisher, in: call.simulation, isKeyframe: true)
        #expect(call.simulation.messageSizes == [lengths.count])
        // What was added is padding, which the viewer takes off.
        var received: [Int] = []
        for packet in call.viewer.received {
            let header = try RTPHeader(parsing: packet.span.bytes)
            received.append(packet.count - header.payloadOffset - (try header.paddingLength(in: packet.span.bytes)))
        }
        #expect(received == lengths)
    }

    @Test func packetsOfOtherLengthsAreOtherMessages() throws {
        let call = try Self.call()
        Self.sendFrame(
            [500, 1000, 1000, 700, 1000],
            from: 1,
            by: call.publisher,
            in: call.simulation,
            isKeyframe: true
        )
        // 500 | 1000 1000 700 | 1000
        #expect(call.simulation.messageSizes == [1, 3, 1])
    }

    @Test func withoutRTXPacketsAreLeftAsTheyAre() throws {
        let call = try Self.call(withRTX: false)
        Self.sendFrame([999, 999, 1000, 1000], from: 1, by: call.publisher, in: call.simulation, isKeyframe: true)
        #expect(call.viewer.headers().allSatisfy { !$0.hasPadding })
        #expect(call.simulation.messageSizes == [2, 2])
    }

    @Test func framesOfTwoViewersAreTwoMessages() throws {
        let call = try Self.call()
        let other = try call.simulation.connect(3, subscribed: [Calls.subscribed(1)])
        Self.sendFrame([1000, 1000], from: 1, by: call.publisher, in: call.simulation, isKeyframe: true)
        #expect(call.viewer.received.count == 2 && other.received.count == 2)
        #expect(call.simulation.messageSizes.suffix(2) == [2, 2])
    }

    /// While the kernel takes nothing, packets wait; what no longer fits is left out by whole turns, and counted.
    @Test func whatTheKernelDoesNotTakeWaits() throws {
        let call = try Self.call()
        Self.sendFrame([1000, 1000], from: 1, by: call.publisher, in: call.simulation, isKeyframe: true)
        #expect(call.viewer.received.count == 2)
        call.simulation.isBlocked = true
        var sequence: UInt64 = 3
        for _ in 0..<10 {
            Self.sendFrame(
                [1000, 1000, 1000],
                from: sequence,
                by: call.publisher,
                in: call.simulation,
                isKeyframe: false
            )
            sequence += 3
        }
        #expect(call.viewer.received.count == 2)
        call.simulation.isBlocked = false
        call.simulation.run(for: .milliseconds(5))
        #expect(call.viewer.payloads().map { Calls.number($0) } == Array(1...32))

        call.simulation.isBlocked = true
        for _ in 0..<2000 {
            Self.sendFrame(
                [1000, 1000, 1000],
                from: sequence,
                by: call.publisher,
                in: call.simulation,
                isKeyframe: false
            )
            sequence += 3
        }
        let dropped = call.simulation.snapshot().counters.drops[DropReason.egressFull.rawValue]
        #expect(dropped > 1000)
        call.simulation.isBlocked = false
        call.simulation.run(for: .milliseconds(5))
        // Frames of three that are all there, but for some that are left out whole.
        let numbers = call.viewer.payloads().map { Calls.number($0) }.dropFirst(32)
        #expect(numbers.count % 3 == 0 && !numbers.isEmpty)
        for start in stride(from: numbers.startIndex, to: numbers.endIndex, by: 3) {
            #expect((numbers[start] - 33) % 3 == 0)
            #expect(numbers[start + 1] == numbers[start] + 1 && numbers[start + 2] == numbers[start] + 2)
        }
    }

    /// What every viewer gets is whole frames without a gap in their numbers, from a keyframe on; all get their share, and all of it
    /// again when the load is gone.
    @Test func overloadLeavesOutWholeFramesEvenly() throws {
        let simulation = try Simulation(seed: 1)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewers = try (0..<24).map {
            try simulation.connect(UInt64($0) + 2, subscribed: [Calls.subscribed(UInt32($0))])
        }
        var sequence: UInt64 = 1
        var keyframes: Set<UInt64> = []
        func requests() -> Int {
            publisher.controlPackets { packet, _ in if case .pictureLossIndication = packet { true } else { nil } }
                .count
        }
        /// Frames of three packets, every 33 ms; a keyframe as soon as one is asked for.
        func play(_ duration: Duration) {
            var answered = requests()
            for _ in 0..<Int(duration.seconds * 30) {
                let isKeyframe = sequence == 1 || requests() > answered
                if isKeyframe {
                    keyframes.insert(sequence)
                    answered = requests()
                }
                Self.sendFrame([50, 50, 50], from: sequence, by: publisher, in: simulation, isKeyframe: isKeyframe)
                sequence += 3
                simulation.run(for: .milliseconds(32))
            }
        }
        play(.seconds(1))
        simulation.lag = .milliseconds(80)
        play(.milliseconds(200))
        simulation.lag = .milliseconds(30)
        let startOfOverload = sequence
        play(.seconds(20))
        let endOfOverload = sequence
        simulation.lag = .zero
        play(.seconds(3))

        let offered = Double(endOfOverload - startOfOverload)
        for viewer in viewers {
            let numbers = viewer.payloads().map { UInt64(Calls.number($0)) }
            #expect(numbers.count % 3 == 0)
            for start in stride(from: 0, to: numbers.count - 2, by: 3) {
                #expect(
                    numbers[start] % 3 == 1 && numbers[start + 1] == numbers[start] + 1
                        && numbers[start + 2] == numbers[start] + 2
                )
                if start > 0, numbers[start] != numbers[start - 1] + 1 { #expect(keyframes.contains(numbers[start])) }
            }
            let headers = viewer.headers()
            for (earlier, later) in zip(headers, headers.dropFirst()) {
                #expect(later.sequenceNumber == earlier.sequenceNumber &+ 1)
                #expect(Int32(bitPattern: later.timestamp &- earlier.timestamp) >= 0)
            }
            // A lag of 80 ms, twice what is borne, for 0.2 s halves the share two or three times.
            let got = Double(numbers.count { $0 >= startOfOverload && $0 < endOfOverload }) / offered
            #expect(got > 0.05 && got < 0.35, "a share like everybody's: \(got)")
            // Two seconds later nothing is left out any more.
            #expect(numbers.suffix(60) == ArraySlice((sequence - 60)..<sequence))
        }
        #expect(simulation.snapshot().counters.drops[DropReason.overload.rawValue] > 1000)
    }

    /// Several times as many packets as the histories hold, so that their memory is used again and again.
    @Test func whatOtherWorkersGetByReferenceIsWhatWasSent() throws {
        let simulation = try Simulation(seed: 1, workers: 3)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewers = try (0..<3).map {
            try simulation.connect(UInt64($0) + 2, worker: $0, subscribed: [Calls.subscribed(UInt32($0))])
        }
        var sequence: UInt64 = 1
        for frame in 0..<700 {
            Self.sendFrame(
                [900, 1100, 1000, 1001, 1000, 300],
                from: sequence,
                by: publisher,
                in: simulation,
                isKeyframe: frame == 0
            )
            sequence += 6
        }
        for viewer in viewers {
            #expect(viewer.payloads().map { UInt64(Calls.number($0)) } == Array(1..<sequence))
            // What sendFrame puts behind the number, and padding where there is some.
            for packet in viewer.received.suffix(200) {
                let header = try RTPHeader(parsing: packet.span.bytes)
                let padding = try header.paddingLength(in: packet.span.bytes)
                #expect(packet[(header.payloadOffset + 6)..<(packet.count - padding)].allSatisfy { $0 == 9 })
            }
        }
    }

    /// What has to be told waits while a worker does not look; packets are dropped and counted. Afterwards all goes on.
    @Test func aWorkerThatDoesNotLookMissesPacketsAndNothingElse() throws {
        let simulation = try Simulation(seed: 1, workers: 2)
        var publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, worker: 1, subscribed: [Calls.subscribed()])
        Self.sendFrame([100, 100], from: 1, by: publisher, in: simulation, isKeyframe: true)
        #expect(viewer.received.count == 2)
        simulation.stalledWorkers = [1]
        for frame in 0..<3000 {
            Self.sendFrame([100, 100], from: UInt64(frame) * 2 + 3, by: publisher, in: simulation, isKeyframe: false)
        }
        #expect(simulation.snapshot().counters.drops[DropReason.relayFull.rawValue] > 0)
        simulation.apply(.removePeer(PeerID(rawValue: 1)))
        simulation.run(for: .milliseconds(50))
        simulation.stalledWorkers = []
        simulation.run(for: .milliseconds(50))
        // What it read late looked like overload; that is over after a second.
        simulation.run(for: .seconds(1))
        let before = viewer.received.count
        publisher = try simulation.connect(3, published: [Calls.published])
        Self.sendFrame([100, 100], from: 9, by: publisher, in: simulation, isKeyframe: true)
        #expect(viewer.received.count == before + 2)
    }

    @Test func handshakesWaitForTheirTurn() throws {
        var limits = Limits()
        limits.handshakesPerTurn = 1
        // Nothing is lost here. OpenSSL retransmits by the system's clock, and on a busy machine would do so meanwhile.
        limits.dtlsRetransmission = .seconds(60)
        let simulation = try Simulation(seed: 1, limits: limits)
        let viewers = try (0..<20).map {
            try simulation.connect(UInt64($0) + 2, subscribed: [Calls.subscribed(UInt32($0))], settles: false)
        }
        simulation.run(for: .seconds(1))
        for viewer in viewers { #expect(viewer.isConnected) }
    }

    @Test func whoSendsManyHandshakeDatagramsKeepsNobodyWaiting() throws {
        var limits = Limits()
        limits.handshakesPerTurn = 1
        let simulation = try Simulation(seed: 1, limits: limits)
        let viewers = try (0..<8).map {
            try simulation.connect(UInt64($0) + 2, subscribed: [Calls.subscribed(UInt32($0))], settles: false)
        }
        // A record of an epoch that has not begun: DTLS drops it, and the handshake stays where it is.
        var record: [UInt8] = [22, 0xFE, 0xFD, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1]
        simulation.run(for: .seconds(1)) {
            for _ in 0..<200 {
                record.withUnsafeMutableBytes {
                    simulation.engines[0].receive(
                        $0,
                        from: AddressPair(remote: viewers[0].address),
                        now: simulation.now
                    )
                }
            }
        }
        for viewer in viewers.dropFirst() { #expect(viewer.isConnected) }
        #expect(simulation.snapshot().counters.drops[DropReason.handshakesFull.rawValue] > 0)
    }

    /// A worker that can't keep up still comes to look at its own peers.
    @Test func oneTurnReadsABoundedPartOfWhatOthersRelay() throws {
        let simulation = try Simulation(seed: 1, workers: 2)
        let publisher = try simulation.connect(1, published: [Calls.published])
        let viewer = try simulation.connect(2, worker: 1, subscribed: [Calls.subscribed()])
        Self.sendFrame([100, 100], from: 1, by: publisher, in: simulation, isKeyframe: true)
        simulation.stalledWorkers = [1]
        for frame in 0..<200 {
            Self.sendFrame([100, 100], from: UInt64(frame) * 2 + 3, by: publisher, in: simulation, isKeyframe: false)
        }
        var turns = 1
        while simulation.engines[1].receiveRelayed(now: simulation.now) {
            simulation.engines[1].endTurn(now: simulation.now)
            turns += 1
        }
        #expect(turns == 200 / Engine.relayRecordsPerTurn + 1)
        simulation.stalledWorkers = []
        simulation.run(for: .milliseconds(5))
        #expect(viewer.payloads().map { Calls.number($0) } == Array(1...402))
    }

    @Test func aBatchKeepsWhatWasNotTaken() {
        let batch = EgressBatch()
        let near = AddressPair(remote: SocketAddress(ip: .loopbackV4, port: 1))
        let far = AddressPair(remote: SocketAddress(ip: .loopbackV4, port: 2))
        for (length, destination) in [(100, near), (100, near), (40, near), (100, near), (100, far), (100, far)] {
            batch.freeSlot.initializeMemory(as: UInt8.self, repeating: UInt8(length), count: length)
            batch.commit(length: length, to: destination)
        }
        #expect((0..<batch.messageCount).map { batch.message(at: $0).segmentCount } == [3, 1, 2])
        batch.removeFirstDatagrams(1)
        #expect(batch.datagramCount == 5)
        #expect(batch.message(at: 0).segmentCount == 2)
        #expect(
            batch.bytes(of: batch.message(at: 0)).map { $0 } == [UInt8](repeating: 100, count: 100)
                + [UInt8](repeating: 40, count: 40)
        )
        batch.removeFirstDatagrams(4)
        #expect(batch.messageCount == 1 && batch.message(at: 0).destination == far)
        batch.removeFirst(1)
        #expect(batch.isEmpty && batch.datagramCount == 0)
    }

    @Test func noMessageIsLongerThanTheKernelTakes() {
        let batch = EgressBatch()
        let destination = AddressPair(remote: SocketAddress(ip: .loopbackV4, port: 1))
        for _ in 0..<200 { batch.commit(length: 1400, to: destination) }
        for _ in 0..<200 { batch.commit(length: 100, to: destination) }
        #expect((0..<batch.messageCount).allSatisfy { batch.message(at: $0).byteCount <= 65_000 })
        #expect((0..<batch.messageCount).allSatisfy { batch.message(at: $0).segmentCount <= 64 })
        #expect(batch.datagramCount == 400)
    }
}
