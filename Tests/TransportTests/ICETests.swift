import Testing
import Wire

@testable import Transport

@Suite struct ICETests {
    private static let local = ICECredentials(usernameFragment: "serverUfrag1", password: "serverPassword1234567890")
    private static let remote = ICECredentials(usernameFragment: "clientUfrag1", password: "clientPassword1234567890")
    private static let address = SocketAddress(ip: IPAddress(v4: 0xC000_0201), port: 5000)
    private static let other = SocketAddress(ip: IPAddress(v6High: 0x2001_0DB8_0000_0000, low: 1), port: 6000)
    private static let start = Instant(nanoseconds: 1_000_000_000)

    private static func makeAgent(localAddresses: [IPAddress] = []) -> ICEAgent {
        ICEAgent(
            local: local,
            localAddresses: localAddresses,
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
        to local: IPAddress = .unspecified,
        now: Instant = start
    ) throws -> (ICEResult, [UInt8]) {
        let pair = AddressPair(remote: source, local: local)
        let message = try STUNMessage(parsing: request.span.bytes)
        var reply: [UInt8] = []
        let result = agent.receive(message, bytes: request.span.bytes, from: pair, now: now, reply: &reply)
        return (result, reply)
    }

    /// A check made by hand, with what the client never does.
    private func handmade(
        username: String = local.usernameFragment,
        password: String = local.password,
        priority: UInt32? = 1,
        controlling: Bool = true,
        controlled: Bool = false,
        fingerprint: Bool = true,
        nominates: Bool = true
    ) -> [UInt8] {
        var builder = STUNBuilder(.request, transactionID: .init(high: 1, low: 2))
        builder.addUsername(username, Self.remote.usernameFragment)
        if let priority { builder.addPriority(priority) }
        if controlling { builder.addControlling(tieBreaker: 1) }
        if controlled { builder.addControlled(tieBreaker: 1) }
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
        #expect(agent.selected?.remote == Self.address)
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

    /// RFC 8445 §7.1 wants both in a check; a lite agent has no use for either, and FFmpeg 8.0 sends neither.
    @Test(arguments: [(nil, true), (1, false), (nil, false)] as [(UInt32?, Bool)])
    func aLiteAgentNeedsNeitherPriorityNorRole(priority: UInt32?, controlling: Bool) throws {
        for source in [Self.address, Self.other] {
            var agent = Self.makeAgent()
            let request = handmade(priority: priority, controlling: controlling)
            let (result, reply) = try receive(&agent, request, from: source)
            #expect(result == .handled(selectedChanged: true) && agent.selected?.remote == source)
            let answer = try STUNMessage(parsing: reply.span.bytes)
            #expect(answer.messageClass == .success && answer.mappedAddress == source)
            #expect(reply.count <= request.count)
        }
    }

    /// RFC 8489 §6.3.1: who is authentic and wrong is told so, and not left to try until it gives up.
    @Test func whatIsAuthenticAndMalformedIsToldSo() throws {
        func with(_ type: UInt16, bytes: Int) -> [UInt8] {
            var builder = STUNBuilder(.request, transactionID: .init(high: 1, low: 2))
            builder.addUsername(Self.local.usernameFragment, Self.remote.usernameFragment)
            builder.add(type, value: [UInt8](repeating: 0, count: bytes))
            ICEAgent.seal(&builder, key: HMACSHA1(key: Self.local.password.utf8))
            return builder.finish()
        }
        let malformed = [
            handmade(fingerprint: false), handmade(controlled: true), with(STUNMessage.Attribute.priority, bytes: 2),
            with(STUNMessage.Attribute.priority, bytes: 8), with(STUNMessage.Attribute.iceControlling, bytes: 4),
            with(STUNMessage.Attribute.iceControlled, bytes: 0), with(STUNMessage.Attribute.xorMappedAddress, bytes: 3),
            with(STUNMessage.Attribute.errorCode, bytes: 1),
        ]
        for request in malformed {
            var agent = Self.makeAgent()
            let (result, reply) = try receive(&agent, request)
            #expect(result == .rejected(.malformed) && agent.selected == nil)
            let answer = try STUNMessage(parsing: reply.span.bytes)
            #expect(answer.errorCode == 400 && answer.transactionID == .init(high: 1, low: 2))
            #expect(answer.integrity != nil && reply.count <= request.count)
        }
    }

    @Test func aStrangerIsNotToldWhatIsWrong() throws {
        var agent = Self.makeAgent()
        for request in [handmade(password: "wrongPassword12345678901", fingerprint: false)] {
            let (result, reply) = try receive(&agent, request)
            #expect(result == .rejected(.integrity) && reply.isEmpty)
        }
    }

    @Test func aControlledPeerIsToldOfTheConflict() throws {
        var agent = Self.makeAgent()
        let (result, reply) = try receive(&agent, handmade(controlling: false, controlled: true))
        #expect(result == .rejected(.unexpected) && agent.selected == nil)
        #expect(try STUNMessage(parsing: reply.span.bytes).errorCode == 487)
    }

    @Test func mediaFollowsNomination() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade())
        #expect(try receive(&agent, handmade(nominates: false), from: Self.other).0 == .handled(selectedChanged: false))
        #expect(agent.selected?.remote == Self.address)
        #expect(try receive(&agent, handmade(), from: Self.other).0 == .handled(selectedChanged: true))
        #expect(agent.selected?.remote == Self.other)
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

    // MARK: Media as a sign of life

    /// GStreamer with libnice 0.1.21, and others, send no checks while media flows.
    @Test func mediaOnTheSelectedPathIsASignOfLife() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade())
        for second in stride(from: 5, through: 300, by: 5) {
            agent.receivedMedia(from: Self.address, now: Self.start + .seconds(second))
            #expect(!agent.isExpired(at: Self.start + .seconds(second + 29)))
        }
        #expect(agent.isExpired(at: Self.start + .seconds(330)))
    }

    @Test func mediaOnAnotherPathIsNone() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 2))
        _ = try receive(&agent, handmade(priority: 1, nominates: false), from: Self.other)
        agent.receivedMedia(from: Self.other, now: Self.start + .seconds(20))
        agent.receivedMedia(from: SocketAddress(ip: Self.address.ip, port: 9), now: Self.start + .seconds(20))
        #expect(agent.isExpired(at: Self.start + .seconds(30)))
        let isHeard = agent.wasHeard(
            from: Self.other,
            checksWithin: .seconds(5),
            mediaWithin: .seconds(5),
            before: Self.start + .seconds(21)
        )
        #expect(!isHeard)
    }

    /// A path that carries media is not silent, so a check of another doesn't take its place.
    @Test func mediaKeepsThePathSelected() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade())
        agent.receivedMedia(from: Self.address, now: Self.start + .seconds(9))
        let result = try receive(&agent, handmade(nominates: false), from: Self.other, now: Self.start + .seconds(10)).0
        #expect(result == .handled(selectedChanged: false) && agent.selected?.remote == Self.address)
    }

    // MARK: Which path

    /// RFC 8445 §8.1.1: of several nominated pairs the one of the highest priority, in whatever order they come.
    @Test(arguments: [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] as [[UInt32]])
    func theNominatedPathOfTheHighestPriorityWins(order: [UInt32]) throws {
        var agent = Self.makeAgent()
        var now = Self.start
        // Aggressive nomination (RFC 5245 §8.1.1.2): each check of each pair nominates it, again and again.
        for _ in 0..<20 {
            for priority in order {
                let source = SocketAddress(ip: Self.address.ip, port: UInt16(priority))
                _ = try receive(&agent, handmade(priority: priority), from: source, now: now)
                now = now + .milliseconds(700)
            }
            #expect(agent.selected?.remote.port == 3)
        }
    }

    @Test func aPathThatDiedGivesWayToTheBestThatLives() throws {
        var agent = Self.makeAgent()
        func check(_ priority: UInt32, at second: Int) throws {
            let source = SocketAddress(ip: Self.address.ip, port: UInt16(priority))
            _ = try receive(&agent, handmade(priority: priority), from: source, now: Self.start + .seconds(second))
        }
        for priority: UInt32 in [3, 1, 2] { try check(priority, at: 0) }
        #expect(agent.selected?.remote.port == 3)
        try check(2, at: 4)
        try check(1, at: 5)
        #expect(agent.selected?.remote.port == 2)
        try check(3, at: 6)
        #expect(agent.selected?.remote.port == 3, "it is back")
    }

    /// libwebrtc nominates the pair that it uses, and goes on checking the one that it has left, as what we send there does not arrive.
    @Test func aPeerThatInsistsOnAPathOfLowerPriorityIsFollowed() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 2))
        for step in 1...3 {
            let now = Self.start + .milliseconds(500 * step)
            _ = try receive(&agent, handmade(priority: 2, nominates: false), now: now)
            _ = try receive(&agent, handmade(priority: 1), from: Self.other, now: now)
        }
        #expect(agent.selected?.remote == Self.other)
    }

    /// A path dies, and the peer nominates another one once: the next check of that settles it.
    @Test func oneNominationIsEnoughOnceTheOldPathIsSilent() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 2))
        _ = try receive(&agent, handmade(priority: 1), from: Self.other, now: Self.start + .milliseconds(200))
        let check = handmade(priority: 1, nominates: false)
        _ = try receive(&agent, check, from: Self.other, now: Self.start + .milliseconds(900))
        #expect(agent.selected?.remote == Self.address)
        _ = try receive(&agent, check, from: Self.other, now: Self.start + .milliseconds(1000))
        #expect(agent.selected?.remote == Self.other)
    }

    /// Whatever comes on the old path after the nomination says that it lives.
    @Test(arguments: [true, false])
    func oneNominationIsNotEnoughWhileTheOldPathLives(byMedia: Bool) throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 2))
        _ = try receive(&agent, handmade(priority: 1), from: Self.other, now: Self.start + .milliseconds(200))
        for second in 1...20 {
            let now = Self.start + .seconds(second * 3)
            if byMedia {
                agent.receivedMedia(from: Self.address, now: now + (.zero - .seconds(2)))
            } else {
                _ = try receive(&agent, handmade(priority: 2, nominates: false), now: now + (.zero - .seconds(2)))
            }
            _ = try receive(&agent, handmade(priority: 1, nominates: false), from: Self.other, now: now)
            #expect(agent.selected?.remote == Self.address)
        }
    }

    /// A client that nominates once and then only keeps consent fresh (RFC 7675) stays where it is.
    @Test func aNominationHoldsWithoutBeingRepeated() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 1), from: Self.other)
        _ = try receive(&agent, handmade(priority: 2))
        for second in 1...60 {
            _ = try receive(&agent, handmade(priority: 2, nominates: false), now: Self.start + .seconds(second))
        }
        #expect(agent.selected?.remote == Self.address)
    }

    /// A NAT that gives the client another port: the same candidate, so nothing is waited for.
    @Test func aCandidateThatANATHasMovedIsFollowedAtOnce() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 7))
        let moved = SocketAddress(ip: Self.address.ip, port: 9999)
        #expect(try receive(&agent, handmade(priority: 7), from: moved).0 == .handled(selectedChanged: true))
    }

    /// Two of our addresses make two paths, and both are answered from where they were checked.
    @Test func eachOfOurAddressesIsAPathOfItsOwn() throws {
        let first = IPAddress(v4: 0xC633_6401)
        let second = IPAddress(v4: 0xC633_6402)
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 1, nominates: false), to: first)
        _ = try receive(&agent, handmade(priority: 1), to: second)
        #expect(agent.selected == AddressPair(remote: Self.address, local: second))
        #expect(agent.addresses == [Self.address])
        // Where both are nominated again and again, media doesn't go to and fro between them.
        for step in 1...20 {
            let now = Self.start + .milliseconds(500 * step)
            let results = try [first, second].map { try receive(&agent, handmade(priority: 1), to: $0, now: now).0 }
            #expect(results.allSatisfy { $0 == .handled(selectedChanged: false) })
        }
    }

    /// RFC 8445 §6.1.2.3: our candidate has the lower priority of a pair's two, so it decides first.
    @Test(arguments: [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]])
    func ourPreferenceDecidesBeforeThePeers(order: [Int]) throws {
        let locals = [try #require(IPAddress("2001:db8::1")), IPAddress(v4: 0xC633_6401)]
        var agent = Self.makeAgent(localAddresses: locals)
        let paths: [(local: IPAddress, priority: UInt32)] = locals.flatMap { local in [9, 5].map { (local, $0) } }
        for _ in 0..<5 {
            for place in order {
                let source = SocketAddress(ip: Self.address.ip, port: UInt16(place + 1))
                _ = try receive(&agent, handmade(priority: paths[place].priority), from: source, to: paths[place].local)
            }
            #expect(agent.selected?.local == locals[0] && agent.selected?.remote.port == 1)
        }
    }

    @Test func anAddressThatIsAnothersIsLeft() throws {
        var agent = Self.makeAgent()
        _ = try receive(&agent, handmade(priority: 2))
        _ = try receive(&agent, handmade(priority: 1), from: Self.other)
        agent.forget(Self.address, now: Self.start + .seconds(1))
        #expect(agent.selected?.remote == Self.other && !agent.isValidated(Self.address))
        agent.forget(Self.other, now: Self.start + .seconds(1))
        #expect(agent.selected == nil && agent.isValidated && !agent.isExpired(at: Self.start + .seconds(29)))
        #expect(try receive(&agent, handmade(), now: Self.start + .seconds(2)).0 == .handled(selectedChanged: true))
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
        #expect(agent.selected?.remote == Self.address && agent.isValidated(Self.address))
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
        #expect(agent.selected?.remote.port == 1 && agent.isValidated(SocketAddress(ip: Self.address.ip, port: 1)))
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
