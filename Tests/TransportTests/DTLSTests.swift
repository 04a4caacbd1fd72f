import COpenSSL
import Testing
import Wire

@testable import Transport

/// Two endpoints and the datagrams between them.
private struct Handshake {
    let server: DTLSEndpoint
    let client: DTLSEndpoint
    var largest = 0
    var datagrams = 0

    /// - Parameter retransmission: OpenSSL counts it by the system's clock: on a busy machine both sides would send again what is on
    ///   its way, unless it is long.
    init(
        serverExpects: [CertificateFingerprint]? = nil,
        clientExpects: [CertificateFingerprint]? = nil,
        serverCertificate: DTLSCertificate? = nil,
        clientCertificate: DTLSCertificate? = nil,
        clientGroups: String = DTLSContext.groups,
        datagramBytes: Int = 1200,
        retransmission: Duration = .seconds(20)
    ) throws {
        let serverCertificate = try serverCertificate ?? DTLSCertificate()
        let clientCertificate = try clientCertificate ?? DTLSCertificate()
        let now = Instant(nanoseconds: 1)
        server = try DTLSEndpoint(
            context: DTLSContext(certificate: serverCertificate),
            role: .passive,
            remoteFingerprints: serverExpects ?? [clientCertificate.fingerprint],
            datagramBytes: datagramBytes,
            retransmission: retransmission,
            handshakeTimeout: .seconds(30),
            now: now
        )
        client = try DTLSEndpoint(
            context: DTLSContext(
                certificate: clientCertificate,
                profiles: SRTPProfile.preferred,
                groups: clientGroups
            ),
            role: .active,
            remoteFingerprints: clientExpects ?? [serverCertificate.fingerprint],
            datagramBytes: datagramBytes,
            retransmission: retransmission,
            handshakeTimeout: .seconds(30),
            now: now
        )
    }

    /// Carries datagrams to and fro until nothing moves; `drop` loses some.
    mutating func run(drop: (Int) -> Bool = { _ in false }) {
        let now = Instant(nanoseconds: 2)
        client.start(now: now)
        server.start(now: now)
        var buffer: [UInt8] = []
        var moved = true
        while moved, datagrams < 500 {
            moved = false
            for (from, to) in [(client, server), (server, client)] {
                while from.nextDatagram(into: &buffer) {
                    moved = true
                    datagrams += 1
                    largest = max(largest, buffer.count)
                    if !drop(datagrams) { buffer.withUnsafeBytes { #expect(to.receive($0, now: now)) } }
                }
            }
        }
    }

    static func keys(_ endpoint: DTLSEndpoint) -> SRTPKeys? {
        if case .established(let keys) = endpoint.state { keys } else { nil }
    }
}

@Suite struct DTLSTests {
    @Test func bothSidesGetEachOthersKeys() throws {
        var handshake = try Handshake()
        handshake.run()
        let server = try #require(Handshake.keys(handshake.server))
        let client = try #require(Handshake.keys(handshake.client))
        #expect(server.profile == .aeadAES128GCM, "the cheapest is preferred")
        #expect((server.localKey, server.localSalt) == (client.remoteKey, client.remoteSalt))
        #expect((server.remoteKey, server.remoteSalt) == (client.localKey, client.localSalt))
        #expect(server.localKey != server.remoteKey)
        #expect(handshake.largest <= 1200)
    }

    /// Kinds of keys that clients make their certificates with; FFmpeg with GnuTLS takes P-224, among others P-521.
    static let keyKinds = [
        "P-224", "P-256", "P-384", "P-521", "RSA-2048", "RSA-4096", "ED25519", "ED448",
    ]
    /// Made once: it takes long.
    private static let rsa = Result { try certificate("RSA-2048") }

    static func certificate(_ kind: String) throws -> DTLSCertificate {
        let hasDigest = !kind.hasPrefix("ED")
        let key =
            if kind.hasPrefix("P-") {
                sluice_EVP_EC_gen(kind)
            } else if kind.hasPrefix("RSA-"), let bits = UInt32(kind.dropFirst(4)) {
                sluice_EVP_RSA_gen(bits)
            } else {
                sluice_EVP_PKEY_gen(kind)
            }
        return try DTLSCertificate(key: #require(key), digest: hasDigest ? EVP_sha256() : nil)
    }

    /// The peer may be either side; ours is what the server presents everywhere.
    @Test(arguments: keyKinds)
    func peersMayHaveAnyKindOfKey(kind: String) throws {
        let certificate = try kind == "RSA-2048" ? Self.rsa.get() : Self.certificate(kind)
        func check(_ handshake: Handshake, datagramBytes: Int) {
            var handshake = handshake
            handshake.run()
            #expect(Handshake.keys(handshake.server) != nil, "\(handshake.server.state), \(handshake.client.state)")
            #expect(Handshake.keys(handshake.client) != nil, "\(handshake.server.state), \(handshake.client.state)")
            #expect(handshake.largest <= datagramBytes)
        }
        for bytes in [1200, 300] {
            check(try Handshake(clientCertificate: certificate, datagramBytes: bytes), datagramBytes: bytes)
            // OpenSSL 3.0 presents no Edwards curve as a DTLS server, though it checks them.
            if kind.hasPrefix("ED") { continue }
            check(try Handshake(serverCertificate: certificate, datagramBytes: bytes), datagramBytes: bytes)
        }
    }

    /// Whatever a client prefers, the key exchange takes the cheapest curve that both have; and one is enough.
    @Test(arguments: [
        ("P-521:P-224:P-384:P-256:X25519", NID_X25519), ("P-521:P-384:P-256", NID_X9_62_prime256v1),
        ("P-224:P-521:P-256", NID_X9_62_prime256v1), ("X448:P-384", NID_secp384r1), ("X448:X25519", NID_X25519),
        ("P-521:X448", NID_secp521r1), ("P-224", NID_secp224r1),
    ])
    func theCheapestCurveIsPreferred(offered: String, expected: Int32) throws {
        // Keys of RSA, which are on no curve that has to be offered.
        var handshake = try Handshake(
            serverCertificate: Self.rsa.get(),
            clientCertificate: Self.rsa.get(),
            clientGroups: offered
        )
        handshake.run()
        #expect(Handshake.keys(handshake.server) != nil)
        #expect(sluice_SSL_get_negotiated_group(handshake.server.session) == expected)
    }

    @Test func smallDatagramsSplitTheHandshake() throws {
        var handshake = try Handshake(datagramBytes: 300)
        handshake.run()
        #expect(Handshake.keys(handshake.server) != nil)
        #expect(handshake.largest <= 300)
    }

    @Test func aForeignCertificateGetsNoKeys() throws {
        let stranger = try DTLSCertificate().fingerprint
        var handshake = try Handshake(serverExpects: [stranger])
        handshake.run()
        guard case .failed(.fingerprintMismatch) = handshake.server.state else {
            Issue.record("\(handshake.server.state)")
            return
        }
    }

    @Test func oneOfSeveralFingerprintsIsEnough() throws {
        let stranger = try DTLSCertificate().fingerprint
        var handshake = try Handshake()
        handshake.run()
        #expect(Handshake.keys(handshake.server) != nil)
        var other = try Handshake(clientExpects: [stranger])
        other.run()
        guard case .failed(.fingerprintMismatch) = other.client.state else {
            Issue.record("\(other.client.state)")
            return
        }
    }

    @Test func closeNotifyEndsBothSides() throws {
        var handshake = try Handshake()
        handshake.run()
        handshake.client.close()
        var buffer: [UInt8] = []
        #expect(handshake.client.nextDatagram(into: &buffer))
        _ = buffer.withUnsafeBytes { handshake.server.receive($0, now: Instant(nanoseconds: 3)) }
        guard case .closed = handshake.server.state else {
            Issue.record("\(handshake.server.state)")
            return
        }
        #expect(handshake.server.nextDatagram(into: &buffer), "it is answered with one")
    }

    @Test func whatIsNoRecordIsRefusedAndChangesNothing() throws {
        var handshake = try Handshake()
        for text in ["", "16", "16fefd", "16fefd0000000000000000ffff00", "ff" + String(repeating: "00", count: 30)] {
            let taken = hex(text).withUnsafeBytes { handshake.server.receive($0, now: Instant(nanoseconds: 1)) }
            #expect(!taken)
        }
        handshake.run()
        #expect(Handshake.keys(handshake.server) != nil)
    }

    @Test func randomRecordsEndNothingButTheirOwnHandshake() throws {
        let handshake = try Handshake()
        var random = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            var record: [UInt8] = [22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40]
            for _ in 0..<40 { record.append(UInt8.random(in: 0...255, using: &random)) }
            _ = record.withUnsafeBytes { handshake.server.receive($0, now: Instant(nanoseconds: 1)) }
        }
        #expect(Handshake.keys(handshake.server) == nil)
    }

    /// Among what is changed is the list of curves, which we change ourselves.
    @Test func changedClientHellosEndNothingButTheirOwnHandshake() throws {
        let certificate = try DTLSCertificate()
        let context = try DTLSContext(certificate: certificate)
        let client = try Handshake().client
        client.start(now: Instant(nanoseconds: 1))
        var hello: [UInt8] = []
        #expect(client.nextDatagram(into: &hello))
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            var changed = hello
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                // The headers of the record and of the message stay, so that what follows is read.
                changed[Int.random(in: 25..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let server = try DTLSEndpoint(
                context: context,
                role: .passive,
                remoteFingerprints: [certificate.fingerprint],
                datagramBytes: 1200,
                retransmission: .milliseconds(50),
                handshakeTimeout: .seconds(30),
                now: Instant(nanoseconds: 1)
            )
            let wasTaken = changed.withUnsafeBytes { server.receive($0, now: Instant(nanoseconds: 1)) }
            #expect(wasTaken)
            if case .established = server.state { Issue.record("established by a ClientHello") }
        }
        // The context is as good as before.
        var handshake = try Handshake(serverCertificate: certificate)
        handshake.run()
        #expect(Handshake.keys(handshake.server) != nil)
    }

    @Test func aHandshakeThatTakesTooLongFails() throws {
        let handshake = try Handshake(retransmission: .milliseconds(50))
        handshake.client.start(now: Instant(nanoseconds: 1))
        #expect(try #require(handshake.client.nextDeadline) <= Instant(nanoseconds: 60_000_000))
        handshake.client.advance(to: Instant(nanoseconds: 31_000_000_000))
        guard case .failed(.timeout) = handshake.client.state else {
            Issue.record("\(handshake.client.state)")
            return
        }
    }
}
