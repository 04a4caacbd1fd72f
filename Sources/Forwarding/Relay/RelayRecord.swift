import Commands
import Transport

/// What workers tell each other through a `RelayRing`. Both ends are this process: the bytes are the values' own.
enum RelayRecord {
    /// The fixed part of every record.
    struct Head: BitwiseCopyable {
        enum Kind: UInt8, BitwiseCopyable {
            /// Home to subscriber's worker: a batch of packets. Their `PacketRecord`s follow; they lie in the chunk that is lent.
            case packets
            /// Home to subscriber's worker: the publisher's clock.
            case clock
            /// Home to subscriber's worker: the encoding's parameter sets, `ParameterSets.handOver` in `chunk`.
            case parameterSets
            /// Home to subscriber's worker: the publisher is gone.
            case ended
            /// Subscriber's worker to home: relay this track from now on.
            case attach
            /// Subscriber's worker to home: no subscriber is left.
            case detach
            /// Subscriber's worker to home: somebody waits for a keyframe.
            case keyframeRequest
        }

        var kind: Kind
        var track: TrackID
        /// Of the encoding, for packets and clocks.
        var generation: UInt32 = 0
        var ssrc: UInt32 = 0
        /// What `PacketChunk.lend` or `ParameterSets.handOver` gave; 0 without packets and parameter sets.
        var chunk: UInt = 0
        /// Whether the home is short of memory for the track.
        var isTight = false
        var clock = SenderClock(ntp: 0, rtpTimestamp: 0, receivedAt: Instant(nanoseconds: 0))

        /// Whether an older record to the same worker, still unread, need not be told any more.
        func voids(_ older: Head) -> Bool {
            guard older.track == track else { return false }
            switch (older.kind, kind) {
            case (.attach, .detach), (.detach, .attach): return true
            default: return older.kind == kind
            }
        }
    }
}

extension RelayRing {
    /// Writes a record.
    ///
    /// - Returns: False when the ring is full.
    func write(_ head: RelayRecord.Head, packets: UnsafeBufferPointer<PacketRecord> = .init(start: nil, count: 0))
        -> Bool
    {
        // The head's stride, not its size, so that the packets behind it are aligned.
        withUnsafePointer(to: head) { head in
            write(
                UnsafeRawBufferPointer(start: head, count: MemoryLayout<RelayRecord.Head>.size),
                padding: MemoryLayout<RelayRecord.Head>.stride - MemoryLayout<RelayRecord.Head>.size,
                UnsafeRawBufferPointer(packets)
            )
        }
    }

    /// Reads the oldest record.
    ///
    /// - Returns: False when the ring is empty.
    func read(_ body: (RelayRecord.Head, UnsafeBufferPointer<PacketRecord>) -> Void) -> Bool {
        readNext { bytes in
            let size = MemoryLayout<RelayRecord.Head>.stride
            guard bytes.count >= size else { return }
            let packets = UnsafeRawBufferPointer(rebasing: bytes[size...])
            body(bytes.loadUnaligned(as: RelayRecord.Head.self), packets.assumingMemoryBound(to: PacketRecord.self))
        }
    }
}
