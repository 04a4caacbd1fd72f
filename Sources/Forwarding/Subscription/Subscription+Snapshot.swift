import Commands
import Transport

extension Subscription {
    var snapshot: SubscriptionSnapshot {
        var snapshot = SubscriptionSnapshot(track: id)
        snapshot.why = why
        if highestLayer != .lowest {
            let limit = layers.current.limited(to: highestLayer)
            snapshot.spatialLayer = Int(limit.spatial)
            snapshot.temporalLayer = Int(limit.temporal)
        }
        snapshot.encoding = encodings.firstIndex { $0 === track }
        snapshot.packetsForwarded = packetsForwarded
        snapshot.bytesSent = bytesSent
        snapshot.packetsRetransmitted = packetsRetransmitted
        snapshot.nacksReceived = nacksReceived
        snapshot.keyframeRequestsReceived = keyframeRequestsReceived
        snapshot.fractionLost = fractionLost
        snapshot.roundTripSeconds = roundTrip?.seconds
        return snapshot
    }

    private var why: SubscriptionLimit {
        if isPaused { return .wish }
        if isLimited || ration != nil { return .network }
        if isShed { return .server }
        return highestWanted < encodings.count - 1 ? .wish : .publisher
    }
}
