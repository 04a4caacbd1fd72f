import Transport
import Wire

/// What a peer's subscriptions send through: looked at for each of them with each batch, so it lies ready, apart from the rest of
/// the peer.
final class MediaOutlet {
    /// Decoders conceal a lost packet now and then so that nobody hears it.
    private static let noticedLoss = 0.01

    /// Nil until the handshake is done.
    var sealer: SRTPSealer?
    /// The path that ICE selected; nil while there is none.
    var destination: AddressPair?
    /// What is known of the viewer's network; nil where it gives no transport-wide feedback.
    var bandwidth: ViewerBandwidth?
    var pacer = Pacer()
    /// While it lasts, what can't be asked for again in time is sent more than once.
    private var lossesEnd = Instant(nanoseconds: 0)

    /// Whether there is room for what is sent more than once, beside the least of each picture.
    var redundancyFits = true

    /// The viewer told that packets were lost on the way to it.
    ///
    /// - Parameters:
    ///   - fraction: Of those that were sent, 0 to 1.
    ///   - hold: So long more losses are expected.
    func noteLosses(_ fraction: Double, hold: Duration, now: Instant) {
        if fraction >= Self.noticedLoss { lossesEnd = max(lossesEnd, now + hold) }
    }

    @inline(__always)
    func losesPackets(at now: Instant) -> Bool { now < lossesEnd }

    /// Whether audio is sent with redundancy.
    @inline(__always)
    func usesRedundancy(at now: Instant) -> Bool { now < lossesEnd && redundancyFits }
}
