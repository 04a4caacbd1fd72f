import Commands
import Transport

/// What a peer has done for it by time alone.
enum PeerDuty: UInt8 {
    /// The path has to be in use still.
    case connectivity
    /// DTLS sends again what was lost.
    case handshake
    case transportFeedback
    case nacks
    case keyframeRequests
    /// Receiver reports to a publisher, sender reports to a viewer.
    case reports
    /// The encodings that the peer is sent.
    case encodings
    /// Padding that shows whether more gets through.
    case probe
    /// What of a large frame has not left yet.
    case pacing
    /// A viewer that is not heard any more is sent no video.
    case silence

    /// All of them, in the order in which they are done.
    static let all: InlineArray<10, PeerDuty> = [
        .connectivity, .handshake, .transportFeedback, .nacks, .keyframeRequests, .reports, .encodings, .probe,
        .pacing, .silence,
    ]
}

extension Peer {
    /// When a duty is due; later than any instant while it is not.
    @inline(__always)
    func deadline(of duty: PeerDuty, limits: Limits) -> Instant {
        switch duty {
        case .connectivity: return ice.nextDeadline
        case .handshake:
            switch phase {
            case .checking: return .distantFuture
            case .handshaking(let dtls): return dtls.nextDeadline ?? .distantFuture
            case .connected(let session): return session.dtls.nextDeadline ?? .distantFuture
            }
        case .transportFeedback:
            guard session != nil else { return .distantFuture }
            return transportFeedback?.deadline(interval: limits.transportFeedbackInterval) ?? .distantFuture
        case .nacks: return earliest { $0.nacks.deadline }
        case .keyframeRequests: return earliest { $0.keyframeRequests.deadline ?? .distantFuture }
        case .reports: return session == nil ? .distantFuture : nextReport
        case .encodings: return session == nil ? .distantFuture : nextEncodingChoice
        case .probe: return session == nil ? .distantFuture : outlet.bandwidth?.prober.deadline ?? .distantFuture
        case .pacing: return session == nil ? .distantFuture : outlet.pacer.deadline
        case .silence:
            guard session != nil, !isAway, !subscriptions.isEmpty, let lastHeard else { return .distantFuture }
            let due = lastHeard + limits.viewerSilence
            return due - ice.lastCheck <= limits.viewerCheckSilence ? due : lastHeard + limits.uncheckedViewerSilence
        }
    }

    /// When the peer next has something to do by itself.
    func nextDeadline(limits: Limits) -> Instant {
        var earliest = Instant.distantFuture
        for index in PeerDuty.all.indices {
            earliest = min(earliest, deadline(of: PeerDuty.all[index], limits: limits))
        }
        return earliest
    }

    /// The earliest of the encodings that the peer feeds.
    @inline(__always)
    private func earliest(_ due: (Encoding) -> Instant) -> Instant {
        guard session != nil else { return .distantFuture }
        var earliest = Instant.distantFuture
        for incoming in incoming.tracks where incoming.track.isFed(by: self) {
            if let encoding = incoming.track.encoding { earliest = min(earliest, due(encoding)) }
        }
        return earliest
    }
}
