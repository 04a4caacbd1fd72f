import Commands
import Logging
import Negotiation
import Testing
import Wire
import Worker

@testable import Control

/// Who may come back to a room; `Tests/EndToEnd/test_rooms.py` has the same over sockets.
@Suite struct ReturnsTests {
    private static let start = ContinuousClock.now

    private static func ticket(
        _ resumption: String,
        isHost: Bool = false,
        from address: String = "192.0.2.1"
    ) -> Returns.Ticket {
        Returns.Ticket(resumption: resumption, isHost: isHost, address: address, expires: start + .seconds(30))
    }

    private static func returns(_ tickets: Returns.Ticket..., capacity: Int = 3) -> Returns {
        var returns = Returns(capacity: capacity)
        for ticket in tickets { returns.add(ticket, at: start) }
        return returns
    }

    @Test func aReturnIsPossibleForAWhile() {
        let returns = Self.returns(Self.ticket("a", isHost: true))
        let last = Self.start + .seconds(29)
        let after = Self.start + .seconds(30)
        #expect(returns.ticket("a", at: last)?.isHost == true && returns.awaitsHost(at: last))
        #expect(returns.ticket("a", at: after) == nil && !returns.awaitsHost(at: after))
        #expect(returns.ticket("b", at: Self.start) == nil && returns.ticket(nil, at: Self.start) == nil)
    }

    @Test func whatHasExpiredTakesNoPlace() {
        var returns = Self.returns(Self.ticket("a", isHost: true), Self.ticket("b", isHost: true), capacity: 2)
        let after = Self.start + .seconds(30)
        let late = Returns.Ticket(resumption: "c", isHost: true, address: "", expires: after + .seconds(30))
        returns.add(late, at: after)
        returns.add(Self.ticket("d"), at: after)
        #expect(returns.ticket("c", at: after) == late)
        #expect(returns.ticket("a", at: Self.start) == nil)
    }

    @Test func aReturnIsUsedOnce() {
        var returns = Self.returns(Self.ticket("a"), Self.ticket("b"))
        returns.use(Self.ticket("a"))
        #expect(returns.ticket("a", at: Self.start) == nil && returns.ticket("b", at: Self.start) != nil)
    }

    @Test func guestsCostNoHostItsReturn() {
        var returns = Self.returns(Self.ticket("host", isHost: true))
        for number in 0..<100 { returns.add(Self.ticket("\(number)"), at: Self.start) }
        #expect(returns.awaitsHost(at: Self.start) && returns.ticket("host", at: Self.start) != nil)
        #expect((0..<100).filter { returns.ticket("\($0)", at: Self.start) != nil } == [98, 99])
    }

    @Test func aLockOrARemovalLeavesHostsOnly() {
        let all = [
            Self.ticket("host", isHost: true), Self.ticket("guest"),
            Self.ticket("removed", isHost: true, from: "192.0.2.2"),
        ]
        var locked = Self.returns(all[0], all[1], all[2])
        locked.dropGuests()
        #expect(all.map { locked.ticket($0.resumption, at: Self.start) != nil } == [true, false, true])
        var removed = Self.returns(all[0], all[1], all[2])
        removed.drop(from: "192.0.2.2")
        #expect(all.map { removed.ticket($0.resumption, at: Self.start) != nil } == [true, false, false])
    }

    @Test(arguments: [true, false]) func aRoomIsForgottenWhenItsHostDoesNotReturn(isLocked: Bool) async throws {
        var limits = Limits()
        limits.roomResume = .milliseconds(50)
        let directory = StreamDirectory(
            workers: [],
            limits: limits,
            defaultPrivacy: .transport,
            limiter: RateLimiter(limit: 100),
            fingerprint: CertificateFingerprint(algorithm: .sha256, digest: Array(repeating: 0, count: 32)),
            announce: [],
            logger: Logger(label: "test")
        )
        let room = try #require(ResourceIdentifier("alone"))
        let request = JoinRequest(
            room: room,
            name: "",
            rights: .publish,
            onlyStream: nil,
            policy: .all,
            address: "192.0.2.1",
            mayBecomeHost: true,
            reply: [:]
        )
        let socket = ControlSocket(capacity: 100, maximumBytes: 1 << 20, backlog: ControlBacklog(maximumBytes: 1 << 20))
        let host = try await directory.join(request, socket: socket)
        if isLocked { try await directory.act("lock", on: nil, by: host) }
        await directory.leave(host, returns: true)
        #expect(await directory.rooms[room]?.isLocked == isLocked)
        while await directory.rooms[room] != nil { try await Task.sleep(for: .milliseconds(1)) }
    }
}
