import Commands
import Transport

extension Subscription {
    var snapshot: SubscriptionSnapshot {
        var snapshot = SubscriptionSnapshot(track: id)
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
}
