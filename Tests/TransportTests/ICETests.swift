import Testing
import Wire

@testable import Transport

@Suite struct ICETests {
    private static let local = ICECredentials(usernameFragment: "serverUfrag1", password: "serverPassword1234567890")
    private static let remote = ICECredentials(usernameFragment: "clientUfrag1", password: "clientPassword1234567890")
    private static let address = SocketAddress(ip: IPAddress(v4: 0xC000_0201), port: 5000)
    private static let other = SocketAddress(ip: IPAddress(v6High: 0x2001_0DB8_0000_0000, low: 1), port: 6000)
    private static let start = Instant(nanoseconds: 1_000_000_000)

    private static func makeAgent() -> ICEAgent {
        ICEAgent(
            local: local,
            tieBreaker: 5,
            now: start,
            connectTimeout: .seconds(30),
            consentTimeout: .seconds(30)
        )
    }

    private static func check(_ credentials: ICECredentials = local, now: Instant = start) -> [UInt8] {
        var client = ICEClient(local: remote, remote: credentials, now: now)
        var request: [UInt8] = []
        _ = client.nextRequest(now: now, into: &request)
        return request
    }

    private func receive(
        _ agent: inout ICEAgent,
        _ request: [UInt8],
        from source: SocketAddress = address,
        now: Instant = start
    ) throws -> (ICEResult, [UInt8]) {
        let message = try STUNMessage(parsing: request.span.bytes)
        var reply: [UInt8] = []
        let result = agent.receive(message, bytes: request.span.bytes, from: source, now: now, reply: &reply)
        return (result, reply)
    }

    /// A check made by hand, with what the client never does.
    private func handmade(
        username: String = local.usernameFragment,
        password: String = local.password,
        controlled: Bool = false,
        fingerprint: Bool = true,
        nominates: Bool = true
    ) -> [UInt8] {
        var builder = STUNBuilder(.request, transactionID: .init(high: 1, low: 2))
        builder.addUsername(username, Self.remote.usernameFragment)
        builder.addPriority(1)
        if controlled { builder.addControlled(tieBreaker: 1) } else { builder.addControlling(tieBreaker: 1) }
        if nominates { builder.addUseCandidate() }
        let key = HMACSHA1(key: password.utf8)
        builder.addMessageIntegrity { message, tag in
            tag = [UInt8](repeating: 0, count: 20)
            tag.withUnsafeMutableBufferPointer { key.authenticate(message, tag: $0.baseAddress!, length: 20) }
        }
        if fingerprint { builder.addFingerprint() }
        return builder.finish()
    }

    @Test func theClientsCheckConnectsBothSides() throws {
        var agent = Self.makeAgent()
        var client = ICEClient(local: Self.remote, remote: Self.local, now: Self.start)
        var request: [UInt8] = []
        #expect(client.nextRequest(now: Self.start, into: &request))
        let (result, reply) = try receive(&agent, request)
        #expect(result == .handled(selectedChanged: true))
        #expect(agent.selected == Self.address)
        #expect(reply.count <= request.count)
        let isAnswer = client.receive(reply.span.bytes, now: Self.start)
        #expect(isAnswer && client.isConnected && client.mappedAddress == Self.address)
    }

    @Test func answersAreNeverLongerThanRequestsOverIPv6() throws {
        var agent = Self.makeAgent()
        let request = Self.check()
        let (_, reply) = try receive(&agent, request, from: Self.other)
        #expect(!reply.isEmpty && reply.count <= request.count)
    }

    /// RFC 5769 §2.1 by our HMAC: the request's MESSAGE-INTEGRITY with its password.
    @Test func verifiesTheIntegrityOfRFC5769() throws {
        let request = hex(
            """
            000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008
            932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004
            e57a3bcf
            """
        )
        let message = try STUNMessage(parsing: request.span.bytes)
        var input: [UInt8] = []
        guard let expected = message.integrityInput(in: request.span.bytes, into: &input) else {
            Issue.record("no MESSAGE-INTEGRITY")
            return
        }
        let key = HMACSHA1(key: "VOkJxbRl1RmTxUk/WvJxBt".utf8)
        let isAuthentic = input.withUnsafeBytes { input in
            expected.withUnsafeBytes { key.verifies(input, against: $0.baseAddress!, length: 20) }
        }
        #expect(isAuthentic)
    }

    @Test func aWrongPasswordIsNotAnswered() throws {
        var agent = Self.makeAgent()
        let (result, reply) = try receive(&agent, handmade(password: "wrongPassword12345678901"))
        #expect(result == .rejected(.integrity) && reply.isEmpty && agent.selected == nil)
    }

    @Test func aCheckWithoutFingerprintIsMalformed() throws {
        var agent = Self.makeAgent()
        let (result, reply) = try receive(&agent, handmade(fingerprint: false))
        #expect(result == .rejected(.malformed) && reply.isEmpty)
    }

    @Test func aControlledPeerIsToldOfTheConflict() throws {
        var agent = Self.makeAgent()
        let (result, reply) = try receive(&agent, handmade(controlled: true))
        #expect(result == .rejected(.unexpected) && agent.selected == nil)
        #expect(try STUNMessage(parsing: reply.span.bytes).errorCode == 487)
    }

    @Test func mediaFollowsNomination() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade())
        #expect(try receive(&agent, handmade(nominates: false), from: Self.other).0 == .handled(selectedChanged: false))
        #expect(agent.selected == Self.address)
        #expect(try receive(&agent, handmade(), from: Self.other).0 == .handled(selectedChanged: true))
        #expect(agent.selected == Self.other)
    }

    @Test func aPeerThatMovedWithoutNominatingIsFollowedOnceItsOldAddressIsSilent() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade())
        let soon = Self.start + .seconds(2)
        #expect(
            try receive(&agent, handmade(nominates: false), from: Self.other, now: soon).0
                == .handled(selectedChanged: false)
        )
        let later = Self.start + .seconds(5)
        #expect(
            try receive(&agent, handmade(nominates: false), from: Self.other, now: later).0
                == .handled(selectedChanged: true)
        )
    }

    @Test func consentEndsWithoutChecks() throws {
        var agent = Self.makeAgent()
        #expect(agent.isExpired(at: Self.start + .seconds(30)))
        _ = try receive(&agent, handmade(), now: Self.start + .seconds(20))
        #expect(!agent.isExpired(at: Self.start + .seconds(49)))
        #expect(agent.isExpired(at: Self.start + .seconds(50)))
    }

    @Test func aRestartKeepsTheOldCredentialsUntilTheNewAreUsed() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, Self.check())
        let fresh = ICECredentials(usernameFragment: "serverUfrag2", password: "serverPassword2345678901")
        agent.restart(local: fresh)
        #expect(agent.usernameFragments == ["serverUfrag1", "serverUfrag2"])
        #expect(try receive(&agent, Self.check()).0 == .handled(selectedChanged: false))
        // A check by the new ones ends the old ones; media stays where it is until a path is nominated.
        let elsewhere = SocketAddress(ip: Self.address.ip, port: 9)
        #expect(
            try receive(
                &agent,
                handmade(username: fresh.usernameFragment, password: fresh.password, nominates: false),
                from: elsewhere
            ).0
                == .handled(selectedChanged: false)
        )
        #expect(agent.selected == Self.address && agent.isValidated(Self.address))
        #expect(try receive(&agent, Self.check(fresh), from: Self.other).0 == .handled(selectedChanged: true))
        #expect(!agent.isValidated(Self.address) && agent.isValidated(elsewhere))
        #expect(agent.usernameFragments == ["serverUfrag2"])
        #expect(try receive(&agent, Self.check()).0 == .rejected(.integrity))
    }

    @Test func remembersFewAddresses() throws {
        var agent = Self.makeAgent()
        for port in UInt16(1)...50 {
            let source = SocketAddress(ip: Self.address.ip, port: port)
            _ = try receive(&agent, handmade(nominates: port == 1), from: source)
        }
        #expect(agent.addresses.count == 8)
        #expect(agent.selected?.port == 1 && agent.isValidated(SocketAddress(ip: Self.address.ip, port: 1)))
    }

    @Test func theClientRetransmitsAndThenKeepsConsentFresh() throws {
        var client = ICEClient(local: Self.remote, remote: Self.local, now: Self.start)
        var first: [UInt8] = []
        var second: [UInt8] = []
        #expect(client.nextRequest(now: Self.start, into: &first))
        #expect(!client.nextRequest(now: Self.start, into: &second))
        #expect(client.nextRequest(now: Self.start + .milliseconds(50), into: &second))
        #expect(first == second, "a retransmission is the same request")
        var agent = Self.makeAgent()
        let (_, reply) = try receive(&agent, second)
        let isAnswer = client.receive(reply.span.bytes, now: Self.start)
        #expect(isAnswer)
        #expect(client.nextDeadline == Self.start + .seconds(5))
    }
}
