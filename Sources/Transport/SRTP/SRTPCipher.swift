/// One direction's session keys for RTP or for RTCP, kept ready: only the nonce or IV changes from packet to packet.
///
/// Not copyable, so that who owns it, a sealer or an opener, reaches it without counting references.
enum SRTPCipher: ~Copyable {
    case gcm(GCMCipher)
    case counterMode(CounterModeCipher)

    /// Derives the session keys (RFC 3711 §4.3) and sets them up.
    ///
    /// - Throws: When the master key or salt is not as long as the profile needs.
    init(
        _ profile: SRTPProfile,
        _ purpose: SRTPKeyDerivation.Purpose,
        masterKey: [UInt8],
        masterSalt: [UInt8],
        encrypts: Bool
    ) throws(SRTPError) {
        let keys = try SRTPKeyDerivation(profile, purpose, masterKey: masterKey, masterSalt: masterSalt)
        if profile.isAEAD {
            self = .gcm(try GCMCipher(keys))
        } else {
            self = .counterMode(try CounterModeCipher(keys, encrypts: encrypts))
        }
    }
}
