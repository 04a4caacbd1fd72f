internal import COpenSSL

/// The key derivation function with a key derivation rate of 0 (RFC 3711 §4.3.1; with AES-256, RFC 6188 §3; the shorter salt of
/// GCM is padded behind, RFC 7714 §11).
struct SRTPKeyDerivation {
    /// Labels of an encryption key; those of its authentication key and its salt follow.
    enum Purpose: UInt8 {
        case rtp = 0
        case rtcp = 3
    }

    private let profile: SRTPProfile
    private let purpose: Purpose
    private let masterKey: [UInt8]
    private let masterSalt: [UInt8]

    /// - Throws: When the master key or salt is not as long as the profile needs.
    init(
        _ profile: SRTPProfile,
        _ purpose: Purpose,
        masterKey: [UInt8],
        masterSalt: [UInt8]
    ) throws(SRTPError) {
        guard masterKey.count == profile.keyLength else {
            throw .badKeyLength(expected: profile.keyLength, found: masterKey.count)
        }
        guard masterSalt.count == profile.saltLength else {
            throw .badKeyLength(expected: profile.saltLength, found: masterSalt.count)
        }
        self.profile = profile
        self.purpose = purpose
        self.masterKey = masterKey
        self.masterSalt = masterSalt
    }

    func encryptionKey() throws(SRTPError) -> [UInt8] { try derive(purpose.rawValue, profile.keyLength) }

    func authenticationKey() throws(SRTPError) -> [UInt8] { try derive(purpose.rawValue + 1, HMACSHA1.tagLength) }

    func salt() throws(SRTPError) -> [UInt8] { try derive(purpose.rawValue + 2, profile.saltLength) }

    private func derive(_ label: UInt8, _ count: Int) throws(SRTPError) -> [UInt8] {
        try Self.derive(label: label, count: count, masterKey: masterKey, masterSalt: masterSalt)
    }

    static func derive(
        label: UInt8,
        count: Int,
        masterKey: [UInt8],
        masterSalt: [UInt8]
    ) throws(SRTPError) -> [UInt8] {
        var iv = masterSalt + [UInt8](repeating: 0, count: 16 - masterSalt.count)
        iv[7] ^= label
        guard let context = EVP_CIPHER_CTX_new() else { throw .cipherUnavailable }
        defer { EVP_CIPHER_CTX_free(context) }
        let cipher = masterKey.count == 32 ? EVP_aes_256_ctr() : EVP_aes_128_ctr()
        let zeros = [UInt8](repeating: 0, count: count)
        var output = [UInt8](repeating: 0, count: count)
        var length: Int32 = 0
        guard EVP_EncryptInit_ex(context, cipher, nil, masterKey, iv) == 1,
            EVP_EncryptUpdate(context, &output, &length, zeros, Int32(count)) == 1, length == Int32(count)
        else { throw .cipherUnavailable }
        return output
    }
}
