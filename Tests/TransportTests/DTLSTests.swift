import Testing
import Wire

@testable import Transport

/// Two endpoints and the datagrams between them.
private struct Handshake {
    let server: DTLSEndpoint
    let client: DTLSEndpoint
    var largest = 0
    var datagrams = 0

    init(
        serverExpects: [CertificateFingerprint]? = nil,
        clientExpects: [CertificateFingerprint]? = nil,
        datagramBytes: Int = 1200
    ) throws {
        let serverCertificate = try DTLSCertificate()
        let clientCertificate = try DTLSCertificate()
        let now = Instant(nanoseconds: 1)
        server = try DTLSEndpoint(
            context: DTLSContext(certificate: serverCertificate),
            role: .passive,
            remoteFingerprints: serverExpects ?? [clientCertificate.fingerprint],
            datagramBytes: datagramBytes,
            retransmission: .milliseconds(50),
            handshakeTimeout: .seconds(30),
            now: now
        )
        client = try DTLSEndpoint(
            context: DTLSContext(certificate: clientCertificate),
            role: .active,
            remoteFingerprints: clientExpects ?? [serverCertificate.fingerprint],
            datagramBytes: datagramBytes,
            retransmission: .milliseconds(50),
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

    @Test func aHandshakeThatTakesTooLongFails() throws {
        let handshake = try Handshake()
        handshake.client.start(now: Instant(nanoseconds: 1))
        #expect(try #require(handshake.client.nextDeadline) <= Instant(nanoseconds: 60_000_000))
        handshake.client.advance(to: Instant(nanoseconds: 31_000_000_000))
        guard case .failed(.timeout) = handshake.client.state else {
            Issue.record("\(handshake.client.state)")
            return
        }
    }
}
