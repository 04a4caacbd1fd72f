/// SRTP protection profiles that we negotiate in DTLS's use_srtp (RFC 5764 §4.1.2, RFC 7714 §14.2).
public enum SRTPProfile: UInt16, Sendable, CaseIterable {
    case aes128CounterModeHMACSHA1Tag80 = 0x0001
    case aeadAES128GCM = 0x0007
    case aeadAES256GCM = 0x0008

    /// In our order of preference: GCM costs less than the other.
    public static let preferred: [SRTPProfile] = [
        .aeadAES128GCM, .aeadAES256GCM, .aes128CounterModeHMACSHA1Tag80,
    ]

    /// The registered name.
    public var name: String {
        switch self {
        case .aes128CounterModeHMACSHA1Tag80: "SRTP_AES128_CM_HMAC_SHA1_80"
        case .aeadAES128GCM: "SRTP_AEAD_AES_128_GCM"
        case .aeadAES256GCM: "SRTP_AEAD_AES_256_GCM"
        }
    }

    /// OpenSSL leaves the MAC's HMAC out of one name.
    var nameInOpenSSL: String { self == .aes128CounterModeHMACSHA1Tag80 ? "SRTP_AES128_CM_SHA1_80" : name }

    var isAEAD: Bool { self != .aes128CounterModeHMACSHA1Tag80 }

    /// Bytes of the master key and of each encryption key.
    public var keyLength: Int { self == .aeadAES256GCM ? 32 : 16 }
    /// Bytes of the master salt and of each session salt.
    public var saltLength: Int { isAEAD ? 12 : 14 }
    /// Bytes that sealing adds to an RTP packet.
    public var rtpTagLength: Int { isAEAD ? 16 : 10 }
    /// Bytes that sealing adds to an RTCP packet: the tag and the index (RFC 3711 §3.4).
    public var rtcpOverhead: Int { rtpTagLength + 4 }
}

/// What OpenSSL refused.
public enum SRTPError: Error, Sendable, Hashable {
    /// The master key or salt is not as long as the profile needs.
    case badKeyLength(expected: Int, found: Int)
    /// A cipher could not be set up.
    case cipherUnavailable
}

/// Master keys and salts of both directions, cut from DTLS's exported keying material (RFC 5764 §4.2).
public struct SRTPKeys: Sendable, Equatable {
    public let profile: SRTPProfile
    public let localKey: [UInt8]
    public let localSalt: [UInt8]
    public let remoteKey: [UInt8]
    public let remoteSalt: [UInt8]

    /// - Parameters:
    ///   - exported: `2 * (keyLength + saltLength)` bytes.
    ///   - isClient: Whether we are the DTLS client.
    init?(profile: SRTPProfile, exported: [UInt8], isClient: Bool) {
        let key = profile.keyLength
        let salt = profile.saltLength
        guard exported.count == 2 * (key + salt) else { return nil }
        let clientKey = Array(exported[0..<key])
        let serverKey = Array(exported[key..<(2 * key)])
        let clientSalt = Array(exported[(2 * key)..<(2 * key + salt)])
        let serverSalt = Array(exported[(2 * key + salt)...])
        self.profile = profile
        localKey = isClient ? clientKey : serverKey
        localSalt = isClient ? clientSalt : serverSalt
        remoteKey = isClient ? serverKey : clientKey
        remoteSalt = isClient ? serverSalt : clientSalt
    }
}
