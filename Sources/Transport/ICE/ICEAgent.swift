public import Wire

/// What an ICE agent did with a STUN message.
public enum ICEResult: Sendable, Hashable {
    /// It was authentic. `selectedChanged` tells that media goes elsewhere from now on.
    case handled(selectedChanged: Bool)
    case rejected(ICERejection)
}

public enum ICERejection: Sendable, Hashable {
    /// MESSAGE-INTEGRITY is wrong or missing: not answered, as anybody could have sent it.
    case integrity
    /// A message that makes no sense here.
    case unexpected
    /// Authentic, but not as ICE wants it: answered with an error.
    case malformed
}

/// The ICE-lite side of one peer (RFC 8445 §2.5): answers connectivity checks, follows the peer's nomination, and knows when the
/// peer is gone. It needs no candidates of the peer's: whoever sends an authentic check is reachable there (§7.3.1.3
/// peer-reflexive).
///
/// RFC 7675 has full agents ask for consent with checks; a lite agent sends none. What it hears is all that it has: the peer's own
/// checks, and its authentic media on the selected path, as there are clients that send no checks while media flows. Whoever
/// answers for a path with either holds the session's keys.
public struct ICEAgent {
    /// Paths of one peer that are remembered; a client with more interfaces loses the one it used least recently.
    private static let maximumPaths = 8
    /// A peer that checks another path has moved there, nominated or not, when nothing came on the selected one for so long:
    /// longer than libwebrtc waits between two checks of the pair it uses (2.5 s), not much longer than others.
    private static let selectedSilence = Duration.seconds(4)
    /// A peer that nominates a path of lower priority for so long, and meanwhile neither nominates nor uses the selected one, has
    /// left that: it is the controlling side (RFC 8445 §8.1.1), and may know that what we send there doesn't arrive.
    private static let insistence = Duration.seconds(1)

    private struct Path {
        let pair: AddressPair
        var lastCheck: Instant
        /// Which of our candidates it leads to, 0 for the least preferred; and what the peer's last check said, 0 when it says nothing.
        ///
        /// RFC 8445 §6.1.2.3 orders pairs by the lower of both candidates' priorities, then by the higher. Ours have lower ones than
        /// what a check carries, which is a peer-reflexive candidate's.
        let localPreference: Int
        var remotePriority: UInt32 = 0
        var priority: (Int, UInt32) { (localPreference, remotePriority) }
        /// When it was nominated last; nil when it never was.
        var lastNomination: Instant?
        /// Since when it has been nominated while the selected path was not used; nil while it was.
        var insistsSince: Instant?
        /// Whether the last check was made with the credentials of before an ICE restart.
        var isOutdated = false
    }

    private struct Side {
        let local: ICECredentials
        let key: HMACSHA1

        init(_ local: ICECredentials) {
            self.local = local
            // RFC 8489 §9.1.1: a short-term credential's key is the password.
            key = HMACSHA1(key: local.password.utf8)
        }
    }

    /// Where media goes; nil until the first authentic check, and while the address that was selected is another peer's.
    public private(set) var selected: AddressPair?
    /// Whether there ever was an authentic check.
    public private(set) var isValidated = false

    private var current: Side
    /// The new credentials of an ICE restart, until the first check that uses them.
    private var next: Side?
    private var paths: [Path] = []
    /// When an authentic check came last on any path; before the first, when the agent began.
    public private(set) var lastCheck: Instant
    /// When authentic media came last on the selected path; nil since it was selected.
    private var lastMedia: Instant?
    private let connectTimeout: Duration
    private let consentTimeout: Duration
    private let tieBreaker: UInt64
    private let localAddresses: [IPAddress]
    private var scratch: [UInt8] = []

    /// - Parameters:
    ///   - local: Our credentials; the peer's checks are authenticated with our password.
    ///   - localAddresses: Those of our candidates, the most preferred first.
    ///   - tieBreaker: Random; decides role conflicts (RFC 8445 §7.3.1.1).
    ///   - connectTimeout: The agent expires when no check has come by then.
    ///   - consentTimeout: The agent expires when neither a check nor media on the selected path came for so long.
    public init(
        local: ICECredentials,
        localAddresses: [IPAddress] = [],
        tieBreaker: UInt64,
        now: Instant,
        connectTimeout: Duration,
        consentTimeout: Duration
    ) {
        current = Side(local)
        lastCheck = now
        self.localAddresses = localAddresses
        self.tieBreaker = tieBreaker
        self.connectTimeout = connectTimeout
        self.consentTimeout = consentTimeout
    }

    /// Whether this address has sent an authentic check.
    public func isValidated(_ remote: SocketAddress) -> Bool { paths.contains { $0.pair.remote == remote } }
    /// The addresses that have sent an authentic check, each once.
    public var addresses: [SocketAddress] {
        paths.reduce(into: []) { known, path in
            if !known.contains(path.pair.remote) { known.append(path.pair.remote) }
        }
    }
    /// When the agent expires unless a sign of life comes.
    public var nextDeadline: Instant {
        max(lastCheck, lastMedia ?? lastCheck) + (isValidated ? consentTimeout : connectTimeout)
    }
    /// Whether the time for a sign of life is over.
    public func isExpired(at now: Instant) -> Bool { nextDeadline <= now }

    /// Authentic media came from this address: a sign of life where media goes to.
    @inlinable
    public mutating func receivedMedia(from remote: SocketAddress, now: Instant) {
        if selected?.remote == remote { noteMedia(now) }
    }

    @usableFromInline
    mutating func noteMedia(_ now: Instant) { lastMedia = now }

    /// Whether this address itself gave a sign of life within these times.
    public func wasHeard(
        from remote: SocketAddress,
        checksWithin checks: Duration,
        mediaWithin media: Duration,
        before now: Instant
    ) -> Bool {
        if let lastMedia, selected?.remote == remote, now - lastMedia < media { return true }
        return paths.contains { $0.pair.remote == remote && now - $0.lastCheck < checks }
    }

    /// The address is another peer's now.
    public mutating func forget(_ remote: SocketAddress, now: Instant) {
        paths.removeAll { $0.pair.remote == remote }
        if selected?.remote == remote { select(bestPath(at: now)?.pair) }
    }

    /// The local ufrags that checks may use now.
    public var usernameFragments: [String] {
        [current.local.usernameFragment] + (next.map { [$0.local.usernameFragment] } ?? [])
    }

    /// An ICE restart (RFC 8445 §9): checks with the new credentials are answered from now on, and the old ones stay valid
    /// until the first of them. Media goes on as before until the peer nominates a path anew.
    public mutating func restart(local: ICECredentials) { next = Side(local) }

    /// Takes one Binding request in.
    ///
    /// - Parameters:
    ///   - message: The message, parsed from `bytes`.
    ///   - pair: Where it came from, and to.
    ///   - reply: An answer to that is appended. Never longer than the request unless the source is validated.
    public mutating func receive(
        _ message: STUNMessage,
        bytes: RawSpan,
        from pair: AddressPair,
        now: Instant,
        reply: inout [UInt8]
    ) -> ICEResult {
        guard message.messageClass == .request, message.method == STUNMessage.bindingMethod else {
            return .rejected(.unexpected)
        }
        let usesNext = next.map { isAddressed(message, to: $0.local, in: bytes) } ?? false
        guard let side = usesNext ? next : current, usesNext || isAddressed(message, to: current.local, in: bytes),
            isAuthentic(message, bytes: bytes, key: side.key)
        else { return .rejected(.integrity) }
        let limit = isValidated(pair.remote) ? Int.max : bytes.byteCount

        if let unknown = message.unknownRequiredAttribute {
            refuse(message, code: 420, unknownAttribute: unknown, key: side.key, limit: limit, reply: &reply)
            return .rejected(.unexpected)
        }
        // RFC 8445 §7.1: checks carry a FINGERPRINT, PRIORITY and the role. The first tells them from whatever else is on the port.
        // Of the others a lite agent, which never is the controlling one and makes no check list, needs neither.
        guard message.hasFingerprint, message.malformedAttribute == nil,
            message.controlling == nil || message.controlled == nil
        else {
            refuse(message, code: 400, unknownAttribute: nil, key: side.key, limit: limit, reply: &reply)
            return .rejected(.malformed)
        }
        if message.controlled != nil {
            // RFC 8445 §7.3.1.1: a lite agent is controlled by a full one whatever the tie-breakers say (§6.1.1), so the
            // peer has to change its role.
            refuse(message, code: 487, unknownAttribute: nil, key: side.key, limit: limit, reply: &reply)
            return .rejected(.unexpected)
        }

        var builder = STUNBuilder(.success, transactionID: message.transactionID, buffer: reply)
        builder.addXORMappedAddress(pair.remote)
        Self.seal(&builder, key: side.key)
        let answered = builder.finish()
        guard answered.count - reply.count <= limit else { return .rejected(.malformed) }
        reply = answered

        if usesNext, let next {
            current = next
            self.next = nil
            for index in paths.indices { paths[index].isOutdated = true }
        }
        lastCheck = now
        isValidated = true
        return .handled(selectedChanged: note(message, from: pair, now: now))
    }

    /// Notes a check and decides where media goes.
    private mutating func note(_ message: STUNMessage, from pair: AddressPair, now: Instant) -> Bool {
        if message.usesCandidate { paths.removeAll { $0.isOutdated && $0.pair != pair } }
        let index: Int
        if let known = paths.firstIndex(where: { $0.pair == pair }) {
            index = known
        } else {
            if paths.count >= Self.maximumPaths,
                let oldest = paths.indices.filter({ paths[$0].pair != selected })
                    .min(by: { paths[$0].lastCheck < paths[$1].lastCheck })
            {
                paths.remove(at: oldest)
            }
            index = paths.count
            // Behind a NAT that has one address each for several of ours, none of them is known: then they are alike.
            let preference = localAddresses.firstIndex(of: pair.local).map { localAddresses.count - $0 } ?? 0
            paths.append(Path(pair: pair, lastCheck: now, localPreference: preference))
        }
        paths[index].lastCheck = now
        paths[index].isOutdated = false
        paths[index].remotePriority = message.priority ?? 0
        if message.usesCandidate { paths[index].lastNomination = now }

        guard pair != selected else { return false }
        guard let current = paths.first(where: { $0.pair == selected }) else {
            select(pair)
            return true
        }
        if max(current.lastCheck, lastMedia ?? current.lastCheck) + Self.selectedSilence < now {
            select(bestPath(at: now)?.pair ?? pair)
            return true
        }
        if isConfirmed(paths[index], insteadOf: current, now: now) {
            select(pair)
            return true
        }
        // Before the first nomination any validated address will do, so that DTLS can begin.
        guard message.usesCandidate, supersedes(index, current, now: now) else { return false }
        select(pair)
        return true
    }

    /// Whether a path was nominated when the selected one had gone silent, and is checked again, nominated or not, with no word from
    /// that one meanwhile: clients that nominate once would have to wait for `selectedSilence` otherwise.
    private func isConfirmed(_ path: Path, insteadOf current: Path, now: Instant) -> Bool {
        let lastSign = max(current.lastCheck, lastMedia ?? current.lastCheck)
        guard let since = path.insistsSince, since > lastSign else { return false }
        return now - lastSign >= Self.insistence
    }

    /// Whether a path that has just been nominated takes the place of the selected one, which lives.
    private mutating func supersedes(_ index: Int, _ current: Path, now: Instant) -> Bool {
        let path = paths[index]
        // RFC 8445 §7.3.1.5. Of the credentials of before a restart nothing counts.
        guard let lastNomination = current.lastNomination, !current.isOutdated else { return true }
        // RFC 8445 §8.1.1: of several nominated pairs the one of the highest priority.
        if path.priority > current.priority { return true }
        // The same candidate of the peer's, which a NAT has given another port.
        if path.priority == current.priority, path.pair.local == current.pair.local { return true }
        let lastUse = max(lastNomination, lastMedia ?? lastNomination)
        guard let since = path.insistsSince, since > lastUse else {
            paths[index].insistsSince = now
            return false
        }
        return now - since >= Self.insistence
    }

    /// Of the paths that live the nominated ones, and of those the one of the highest priority.
    private func bestPath(at now: Instant) -> Path? {
        paths.filter { !$0.isOutdated && $0.lastCheck + Self.selectedSilence >= now }
            .max { left, right in
                let isNominated = (left.lastNomination != nil, right.lastNomination != nil)
                return isNominated.0 == isNominated.1 ? left.priority < right.priority : isNominated.1
            }
    }

    private mutating func select(_ pair: AddressPair?) {
        selected = pair
        lastMedia = nil
        for index in paths.indices { paths[index].insistsSince = nil }
    }

    /// RFC 8445 §7.3: USERNAME begins with our ufrag and a colon.
    private func isAddressed(_ message: STUNMessage, to local: ICECredentials, in bytes: RawSpan) -> Bool {
        message.hasUsernamePrefix(local.usernameFragment, in: bytes)
    }

    private mutating func isAuthentic(_ message: STUNMessage, bytes: RawSpan, key: HMACSHA1) -> Bool {
        scratch.removeAll(keepingCapacity: true)
        guard let expected = message.integrityInput(in: bytes, into: &scratch) else { return false }
        return scratch.withUnsafeBytes { input in
            expected.withUnsafeBytes { expected in
                guard let base = expected.baseAddress else { return false }
                return key.verifies(input, against: base, length: 20)
            }
        }
    }

    private func refuse(
        _ message: STUNMessage,
        code: Int,
        unknownAttribute: UInt16?,
        key: HMACSHA1,
        limit: Int,
        reply: inout [UInt8]
    ) {
        var builder = STUNBuilder(.error, transactionID: message.transactionID, buffer: reply)
        builder.addErrorCode(code)
        if let unknownAttribute { builder.addUnknownAttribute(unknownAttribute) }
        Self.seal(&builder, key: key)
        let answered = builder.finish()
        if answered.count - reply.count <= limit { reply = answered }
    }

    static func seal(_ builder: inout STUNBuilder, key: HMACSHA1) {
        builder.addMessageIntegrity { message, tag in
            tag = [UInt8](repeating: 0, count: HMACSHA1.tagLength)
            tag.withUnsafeMutableBufferPointer { tag in
                guard let base = tag.baseAddress else { return }
                key.authenticate(message, tag: base, length: HMACSHA1.tagLength)
            }
        }
        builder.addFingerprint()
    }
}
