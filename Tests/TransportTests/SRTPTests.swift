import CLibsrtp
import Testing
import Wire

@testable import Transport

/// Bytes from hexadecimal text; whitespace is skipped.
func hex(_ text: String) -> [UInt8] {
    let digits = Array(text.filter { !$0.isWhitespace })
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...($0 + 1)]), radix: 16) ?? 0 }
}

@Suite struct SRTPVectorTests {
    private static let header = hex("8040f17b8041f8d35501a0b2")
    private static let payload = hex(
        "47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573"
    )

    /// RFC 3711 §B.3.
    @Test func keyDerivationOfRFC3711() throws {
        let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139")
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6")
        let expectedKey = hex("C61E7A93744F39EE10734AFE3FF7A087")
        let expectedSalt = hex("30CBBC08863D8C85D49DB34A9AE1")
        let expectedAuthentication = hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")
        #expect(try SRTPKeyDerivation.derive(label: 0, count: 16, masterKey: key, masterSalt: salt) == expectedKey)
        #expect(try SRTPKeyDerivation.derive(label: 2, count: 14, masterKey: key, masterSalt: salt) == expectedSalt)
        #expect(
            try SRTPKeyDerivation.derive(label: 1, count: 20, masterKey: key, masterSalt: salt)
                == expectedAuthentication
        )
    }

    /// RFC 7714 §16.1.1 and §16.2.1, both AEAD profiles. The vectors begin with session keys, so the cipher itself is asked.
    @Test(arguments: [
        (
            "000102030405060708090a0b0c0d0e0f",
            """
            8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833
            899d7f27beb16a9152cf765ee4390cce
            """
        ),
        (
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            """
            8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b
            7aa3db36dfffd6b0f9bb7878d7a76c13
            """
        ),
    ])
    func sealsThePacketsOfRFC7714(key: String, packet: String) throws {
        let cipher = try GCMCipher(sessionKey: hex(key), sessionSalt: hex("517569642070726f2071756f"))
        var output = Self.header + Self.payload + [UInt8](repeating: 0, count: 16)
        let sealed = output.withUnsafeMutableBytes { output in
            Self.header.withUnsafeBytes { header in
                Self.payload.withUnsafeBytes { payload in
                    cipher.seal(
                        ssrc: 0x5501_a0b2,
                        index: 0xf17b,
                        header,
                        from: payload.baseAddress!,
                        to: output.baseAddress! + 12,
                        count: payload.count
                    )
                }
            }
        }
        #expect(sealed)
        #expect(output == hex(packet))
    }

    /// What OpenSSL seals, whichever of the two this processor uses opens, and the other way round.
    @Test(arguments: [16, 32])
    func bothGCMKeysAreTheSame(keyLength: Int) throws {
        let bytes = (0..<keyLength).map { UInt8(truncatingIfNeeded: $0 * 11 + 3) }
        let ours = try GCMKey(bytes)
        let reference = try EVPGCMKey(bytes)
        for length in Array(0...130) + [1199, 1200, 1500] {
            for associatedLength in [12, 20, 71] {
                let nonce = GCMNonce(high: UInt64(length) << 32 | 77, low: UInt32(associatedLength))
                let text = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 5) }
                let associated = (0..<associatedLength).map { UInt8($0) }
                var first = text + [UInt8](repeating: 0, count: 16)
                var second = first
                let isSealed = associated.withUnsafeBytes { associated in
                    first.withUnsafeMutableBytes {
                        ours.seal(nonce, associated, from: $0.baseAddress!, to: $0.baseAddress!, count: length)
                    }
                        && second.withUnsafeMutableBytes {
                            reference.seal(nonce, associated, from: $0.baseAddress!, to: $0.baseAddress!, count: length)
                        }
                }
                #expect(isSealed)
                #expect(first == second)
                var forged = first
                forged[length] ^= 1
                let opened = associated.withUnsafeBytes { associated in
                    [
                        second.withUnsafeMutableBytes {
                            ours.open(nonce, associated, at: $0.baseAddress!, count: length)
                        },
                        first.withUnsafeMutableBytes {
                            reference.open(nonce, associated, at: $0.baseAddress!, count: length)
                        },
                        forged.withUnsafeMutableBytes {
                            ours.open(nonce, associated, at: $0.baseAddress!, count: length)
                        },
                    ]
                }
                #expect(opened == [true, true, false])
                #expect(Array(first.prefix(length)) == text)
                #expect(Array(second.prefix(length)) == text)
            }
        }
    }
}

/// Sealing and opening held against libsrtp2, byte for byte, in both directions and all profiles.
@Suite(.serialized) struct SRTPReferenceTests {
    /// A libsrtp2 session for every SSRC, freed with the object.
    final class Reference {
        private var session: srtp_t?

        init(_ profile: SRTPProfile, key: [UInt8], salt: [UInt8], isOutbound: Bool) {
            srtp_init()
            var policy = srtp_policy_t()
            switch profile {
            case .aes128CounterModeHMACSHA1Tag80:
                srtp_crypto_policy_set_rtp_default(&policy.rtp)
                srtp_crypto_policy_set_rtcp_default(&policy.rtcp)
            case .aeadAES128GCM:
                srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp)
                srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp)
            case .aeadAES256GCM:
                srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtp)
                srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtcp)
            }
            policy.ssrc.type = isOutbound ? ssrc_any_outbound : ssrc_any_inbound
            policy.window_size = 1024
            var master = key + salt
            master.withUnsafeMutableBufferPointer { master in
                policy.key = master.baseAddress
                srtp_create(&session, &policy)
            }
        }

        deinit { srtp_dealloc(session) }

        func protect(_ packet: [UInt8], isRTCP: Bool) -> [UInt8]? {
            var bytes = packet + [UInt8](repeating: 0, count: 64)
            var length = Int32(packet.count)
            let status =
                isRTCP ? srtp_protect_rtcp(session, &bytes, &length) : srtp_protect(session, &bytes, &length)
            return status == srtp_err_status_ok ? Array(bytes.prefix(Int(length))) : nil
        }

        func unprotect(_ packet: [UInt8], isRTCP: Bool) -> [UInt8]? {
            var bytes = packet
            var length = Int32(packet.count)
            let status =
                isRTCP ? srtp_unprotect_rtcp(session, &bytes, &length) : srtp_unprotect(session, &bytes, &length)
            return status == srtp_err_status_ok ? Array(bytes.prefix(Int(length))) : nil
        }
    }

    static func material(_ profile: SRTPProfile) -> (key: [UInt8], salt: [UInt8]) {
        ((0..<profile.keyLength).map { UInt8($0 * 7 + 1) }, (0..<profile.saltLength).map { UInt8($0 * 3 + 5) })
    }

    static func packet(sequence: UInt16, ssrc: UInt32 = 0xCAFE_BABE, payload: Int = 100) -> [UInt8] {
        [0x90, 0x60, UInt8(sequence >> 8), UInt8(sequence & 255), 0, 0, 1, 0]
            + withUnsafeBytes(of: ssrc.bigEndian) { Array($0) }
            + [0xBE, 0xDE, 0, 1, 0x10, 0x7F, 0, 0] + (0..<payload).map { UInt8(truncatingIfNeeded: $0) }
    }

    static func seal(_ sealer: SRTPSealer, _ packet: [UInt8], headerLength: Int = 20, rollover: UInt32 = 0) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: packet.count + 64)
        let length = output.withUnsafeMutableBytes { output in
            packet.withUnsafeBytes { packet in
                sealer.seal(
                    header: UnsafeRawBufferPointer(rebasing: packet[..<headerLength]),
                    payload: UnsafeRawBufferPointer(rebasing: packet[headerLength...]),
                    rolloverCounter: rollover,
                    into: output.baseAddress!
                )
            }
        }
        return Array(output.prefix(length))
    }

    static func open(_ opener: SRTPOpener, _ packet: [UInt8]) throws -> (SRTPOpenResult, [UInt8]) {
        var bytes = packet
        let header = try RTPHeader(parsing: bytes.span.bytes)
        let result = bytes.withUnsafeMutableBytes { opener.open($0, header: header) }
        if case .opened(let length, _) = result { return (result, Array(bytes.prefix(length))) }
        return (result, [])
    }

    @Test(arguments: SRTPProfile.allCases)
    func sealsAsTheReferenceDoesAcrossAWrap(profile: SRTPProfile) throws {
        let (key, salt) = Self.material(profile)
        let sealer = try SRTPSealer(profile: profile, masterKey: key, masterSalt: salt)
        let reference = Reference(profile, key: key, salt: salt, isOutbound: true)
        for index in UInt32(65_500)..<UInt32(65_600) {
            let packet = Self.packet(sequence: UInt16(truncatingIfNeeded: index), payload: Int(index % 97))
            #expect(Self.seal(sealer, packet, rollover: index >> 16) == reference.protect(packet, isRTCP: false))
        }
    }

    /// Packets with any number of CSRCs, any extension, RTX's sequence number before the payload or not, and any padding.
    @Test(arguments: SRTPProfile.allCases)
    func sealsWhateverHeadersAndPaddingThereAre(profile: SRTPProfile) throws {
        var random = Seeded(state: 7)
        let (key, salt) = Self.material(profile)
        let sealer = try SRTPSealer(profile: profile, masterKey: key, masterSalt: salt)
        let reference = Reference(profile, key: key, salt: salt, isOutbound: true)
        for index in UInt32(65_000)..<UInt32(67_000) {
            let csrcs = Int.random(in: 0...15, using: &random)
            let words = Int.random(in: 0...8, using: &random)
            let padding = Bool.random(using: &random) ? Int.random(in: 1...255, using: &random) : 0
            let hasExtension = Bool.random(using: &random)
            var header: [UInt8] = [
                0x80 | UInt8(csrcs), 0x60, UInt8(index >> 8 & 255), UInt8(index & 255), 0, 0, 1, 0, 1, 2, 3, 4,
            ]
            if hasExtension { header[0] |= 0x10 }
            if padding > 0 { header[0] |= 0x20 }
            header += (0..<(csrcs * 4)).map { _ in UInt8.random(in: 0...255, using: &random) }
            if hasExtension {
                header += [0xBE, 0xDE, 0, UInt8(words)]
                header += (0..<(words * 4)).map { _ in UInt8.random(in: 0...255, using: &random) }
            }
            let payload = (0..<Int.random(in: 0...1200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            var whole = header + payload
            if padding > 0 { whole += [UInt8](repeating: 0, count: padding - 1) + [UInt8(padding)] }

            var output = [UInt8](repeating: 0, count: whole.count + 64)
            let length = output.withUnsafeMutableBytes { output in
                header.withUnsafeBytes { header in
                    payload.withUnsafeBytes { payload in
                        sealer.seal(
                            header: header,
                            payload: payload,
                            padding: padding,
                            rolloverCounter: index >> 16,
                            into: output.baseAddress!
                        )
                    }
                }
            }
            #expect(Array(output.prefix(length)) == reference.protect(whole, isRTCP: false))
        }
    }

    /// SplitMix64.
    struct Seeded: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
            return value ^ value >> 31
        }
    }

    @Test(arguments: SRTPProfile.allCases)
    func opensWhatTheReferenceSealed(profile: SRTPProfile) throws {
        let (key, salt) = Self.material(profile)
        let reference = Reference(profile, key: key, salt: salt, isOutbound: true)
        let opener = try SRTPOpener(profile: profile, masterKey: key, masterSalt: salt, maximumSources: 4)
        for index in UInt32(65_400)..<UInt32(65_700) {
            let packet = Self.packet(sequence: UInt16(truncatingIfNeeded: index), payload: Int(index % 50))
            let sealed = try #require(reference.protect(packet, isRTCP: false))
            let (result, opened) = try Self.open(opener, sealed)
            #expect(opened == packet)
            guard case .opened(_, UInt64(index)) = result else {
                Issue.record("packet \(index): \(result)")
                return
            }
        }
    }

    @Test(arguments: SRTPProfile.allCases)
    func rtcpIsTheReferencesToo(profile: SRTPProfile) throws {
        let (key, salt) = Self.material(profile)
        let outbound = Reference(profile, key: key, salt: salt, isOutbound: true)
        let inbound = Reference(profile, key: key, salt: salt, isOutbound: false)
        let sealer = try SRTPSealer(profile: profile, masterKey: key, masterSalt: salt)
        let opener = try SRTPOpener(profile: profile, masterKey: key, masterSalt: salt, maximumSources: 4)
        for length in [8, 12, 28, 400] {
            let packet = hex("81c90001cafebabe") + [UInt8](repeating: 9, count: length - 8)
            var output = [UInt8](repeating: 0, count: 600)
            let sealedLength = output.withUnsafeMutableBytes { output in
                packet.withUnsafeBytes { sealer.sealRTCP($0, into: output.baseAddress!) }
            }
            #expect(inbound.unprotect(Array(output.prefix(sealedLength)), isRTCP: true) == packet)

            var sealed = try #require(outbound.protect(packet, isRTCP: true))
            guard case .opened(length, _) = sealed.withUnsafeMutableBytes({ opener.openRTCP($0) }) else {
                Issue.record("not opened")
                return
            }
            #expect(Array(sealed.prefix(length)) == packet)
        }
    }

    @Test(arguments: SRTPProfile.allCases)
    func aPacketIsOpenedOnce(profile: SRTPProfile) throws {
        let (key, salt) = Self.material(profile)
        let sealer = try SRTPSealer(profile: profile, masterKey: key, masterSalt: salt)
        let opener = try SRTPOpener(profile: profile, masterKey: key, masterSalt: salt, maximumSources: 2)
        let sealed = (UInt16(1)...2000).map { Self.seal(sealer, Self.packet(sequence: $0)) }
        func outcome(_ packet: [UInt8]) throws -> String {
            switch try Self.open(opener, packet).0 {
            case .opened: "opened"
            case .rejected(let rejection): "\(rejection)"
            }
        }
        #expect(try outcome(sealed[0]) == "opened")
        #expect(try outcome(sealed[0]) == "replay")
        #expect(try outcome(sealed[1999]) == "opened")
        #expect(try outcome(sealed[1]) == "replay", "older than the window")
        #expect(try outcome(sealed[1998]) == "opened", "late, and within the window")
        #expect(try outcome(sealed[1998]) == "replay")

        var changed = sealed[1990]
        changed[30] ^= 1
        #expect(try outcome(changed) == "authentication")
        changed = sealed[1990]
        changed[17] ^= 1
        #expect(try outcome(changed) == "authentication", "the header is authentic too")
        #expect(try outcome(sealed[1990]) == "opened", "a forgery does not use up its place")
        #expect(try outcome(Array(sealed[1991].prefix(24))) == "malformed")

        #expect(try outcome(Self.seal(sealer, Self.packet(sequence: 1, ssrc: 2))) == "opened")
        #expect(try outcome(Self.seal(sealer, Self.packet(sequence: 1, ssrc: 3))) == "opened", "the first gives way")
        #expect(try outcome(sealed[1992]) == "replay", "and nothing of it is accepted but what is newer")
        #expect(try outcome(sealed[1999]) == "replay")
        #expect(try outcome(Self.seal(sealer, Self.packet(sequence: 2001))) == "opened")
    }

    /// Indices of packets that come, in this order; all that lie between are lost. RFC 3711 §3.3.1 estimates from what came last: who
    /// missed a wrap, were it the very first packets, has to try the next cycle.
    static let lossesAroundAWrap: [[UInt64]] = [
        [65_536], [65_539], [70_000], [98_000], [131_071],
        [65_530, 65_540], [65_000, 105_536], [40_000, 104_536], [40_000, 110_536], [10, 60_000, 70_000],
        [10, 65_600], [1, 33_000, 65_536, 136_072, 200_000], [131_000, 131_100],
    ]

    @Test(arguments: SRTPProfile.allCases, lossesAroundAWrap)
    func aWrapThatWasLostIsFound(profile: SRTPProfile, indices: [UInt64]) throws {
        let (key, salt) = Self.material(profile)
        let sealer = try SRTPSealer(profile: profile, masterKey: key, masterSalt: salt)
        let opener = try SRTPOpener(profile: profile, masterKey: key, masterSalt: salt, maximumSources: 2)
        for index in indices {
            for index in index..<(index + 3) {
                let packet = Self.packet(sequence: UInt16(truncatingIfNeeded: index), payload: Int(index % 300))
                let sealed = Self.seal(sealer, packet, rollover: UInt32(index >> 16))
                let (result, opened) = try Self.open(opener, sealed)
                guard case .opened(packet.count, index) = result else {
                    Issue.record("packet \(index) of \(indices): \(result)")
                    return
                }
                #expect(opened == packet, "what the first try made of it is undone")
                guard case .rejected(.replay) = try Self.open(opener, sealed).0 else {
                    Issue.record("packet \(index) was opened twice")
                    return
                }
            }
        }
    }

    /// Garbage is tried once: what it costs must not double. A source that needs the next cycle is found all the same.
    @Test(arguments: SRTPProfile.allCases)
    func garbageIsSeldomTriedTwice(profile: SRTPProfile) throws {
        let (key, salt) = Self.material(profile)
        let sealer = try SRTPSealer(profile: profile, masterKey: key, masterSalt: salt)
        let opener = try SRTPOpener(profile: profile, masterKey: key, masterSalt: salt, maximumSources: 4)
        let forged = Self.packet(sequence: 7, ssrc: 9) + [UInt8](repeating: 1, count: profile.rtpTagLength)
        for _ in 0..<1000 {
            guard case .rejected(.authentication) = try Self.open(opener, forged).0 else {
                Issue.record("a forgery was opened")
                return
            }
        }
        #expect(opener.guessesMade == 16 + 984 / 16)
        let opened = try (0..<16).map { number in
            let packet = Self.packet(sequence: UInt16(number))
            if case .opened = try Self.open(opener, Self.seal(sealer, packet, rollover: 1)).0 { return true }
            return false
        }
        let first = try #require(opened.firstIndex(of: true))
        #expect(opened[first...].allSatisfy { $0 })
    }

    /// RFC 3711 §3.3.1: the index nearest to the highest, from every place where 16 bits can go wrong.
    @Test(
        arguments: [
            0, 1, 127, 128, 129, 511, 512, 513, 32767, 32768, 32769, 65407, 65408, 65409, 65534, 65535,
        ] as [UInt64]
    )
    func findsTheIndexNearTheHighest(start: UInt64) {
        let highest = 5 << 16 | start
        for distance in [-32767, -129, -1, 0, 1, 513, 32767] as [Int64] {
            let index = UInt64(Int64(highest) + distance)
            #expect(SRTPOpener.index(of: UInt16(truncatingIfNeeded: index), near: highest) == index)
        }
        #expect(SRTPOpener.index(of: 65535, near: 0) == nil, "before the first cycle")
    }
}
