import Commands
import Transport

/// What workers tell each other through a `RelayRing`. Both ends are this process: the bytes are the values' own.
enum RelayRecord {
    /// The fixed part of every record.
    struct Head: BitwiseCopyable {
        enum Kind: UInt8, BitwiseCopyable {
            /// Home to subscriber's worker: a packet; its bytes follow.
            case packet
            /// Home to subscriber's worker: the publisher's clock.
            case clock
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
        var packet = PacketRecord()
        var clock = SenderClock(ntp: 0, rtpTimestamp: 0, receivedAt: Instant(nanoseconds: 0))
    }
}

extension RelayRing {
    /// Writes a record.
    ///
    /// - Returns: False when the ring is full.
    func write(_ head: RelayRecord.Head, packet: UnsafeRawBufferPointer = .init(start: nil, count: 0)) -> Bool {
        withUnsafeBytes(of: head) { write($0, packet) }
    }

    /// Reads the oldest record.
    ///
    /// - Returns: False when the ring is empty.
    func read(_ body: (RelayRecord.Head, UnsafeRawBufferPointer) -> Void) -> Bool {
        readNext { bytes in
            let size = MemoryLayout<RelayRecord.Head>.size
            guard bytes.count >= size else { return }
            body(bytes.loadUnaligned(as: RelayRecord.Head.self), UnsafeRawBufferPointer(rebasing: bytes[size...]))
        }
    }
}
