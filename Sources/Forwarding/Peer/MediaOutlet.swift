import Transport
import Wire

/// What a peer's subscriptions send through: looked at for each of them with each batch, so it lies ready, apart from the rest of
/// the peer.
final class MediaOutlet {
    /// Nil until the handshake is done.
    var sealer: SRTPSealer?
    /// The path that ICE selected; nil while there is none.
    var destination: AddressPair?
    /// What is known of the viewer's network; nil where it gives no transport-wide feedback.
    var bandwidth: ViewerBandwidth?
}
