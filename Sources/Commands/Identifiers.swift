/// One remote WebRTC endpoint. Unique in the process for its lifetime; says nothing about the person behind it.
public struct PeerID: Hashable, Sendable, BitwiseCopyable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// One audio or video source inside a stream. It outlives its publisher's peer: when a publisher takes its stream over
/// again, the new peer feeds the same track, and subscriptions stay.
///
/// To a worker each encoding of a simulcast track is a track with an id of its own.
public struct TrackID: Hashable, Sendable, BitwiseCopyable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A worker's position among the workers, from 0. Its UDP port is `media.port` plus this.
public struct WorkerIndex: Hashable, Sendable, BitwiseCopyable {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }
}
