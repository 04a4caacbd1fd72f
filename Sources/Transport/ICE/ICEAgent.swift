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
    /// An attribute that ICE requires is missing.
    case malformed
}

/// The ICE-lite side of one peer (RFC 8445 §2.5): answers connectivity checks, follows the peer's nomination, and takes its
/// checks as consent to send (RFC 7675). It needs no candidates of the peer's: whoever sends an authentic check is reachable
/// there (§7.3.1.3 peer-reflexive).
public struct ICEAgent {
    /// Addresses of one peer that are remembered; a client with more interfaces loses the one it used least recently.
    private static let maximumAddresses = 8
    /// A peer that checks another address without nominating it has moved there, when nothing came to the selected one for
    /// so long: longer than libwebrtc waits between two checks of the pair it uses (2.5 s), not much longer than others.
    private static let selectedSilence = Duration.seconds(4)

    private struct Path {
        let address: SocketAddress
        var lastCheck: Instant
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

    /// Where media goes; nil until the first authentic check.
    public private(set) var selected: SocketAddress?

    private var current: Side
    /// The new credentials of an ICE restart, until the first check that uses them.
    private var next: Side?
    private var paths: [Path] = []
    private var lastCheck: Instant
    private let connectTimeout: Duration
    private let consentTimeout: Duration
    private let tieBreaker: UInt64
    private var scratch: [UInt8] = []

    /// - Parameters:
    ///   - local: Our credentials; the peer's checks are authenticated with our password.
    ///   - tieBreaker: Random; decides role conflicts (RFC 8445 §7.3.1.1).
    ///   - connectTimeout: The agent expires when no check has come by then.
    ///   - consentTimeout: The agent expires when no check came for so long.
    public init(
        local: ICECredentials,
        tieBreaker: UInt64,
        now: Instant,
        connectTimeout: Duration,
        consentTimeout: Duration
    ) {
        current = Side(local)
        lastCheck = now
        self.tieBreaker = tieBreaker
        self.connectTimeout = connectTimeout
        self.consentTimeout = consentTimeout
    }

    /// Whether any address is validated.
    public var isValidated: Bool { selected != nil }
    /// Whether this address has sent an authentic check.
    public func isValidated(_ address: SocketAddress) -> Bool { paths.contains { $0.address == address } }
    /// The addresses that have sent an authentic check.
    public var addresses: [SocketAddress] { paths.map(\.address) }
    /// When the agent expires unless a check comes.
    public var nextDeadline: Instant { lastCheck + (isValidated ? consentTimeout : connectTimeout) }
    /// Whether the time for a check is over.
    public func isExpired(at now: Instant) -> Bool { nextDeadline <= now }
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
    ///   - source: Where it came from.
    ///   - reply: An answer to `source` is appended. Never longer than the request unless `source` is validated.
    public mutating func receive(
        _ message: STUNMessage,
        bytes: RawSpan,
        from source: SocketAddress,
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
        // RFC 8445 §7.1: checks carry both; RFC 8445 §16.1 says the same of the role.
        guard message.hasFingerprint, message.priority != nil,
            message.controlling != nil || message.controlled != nil
        else { return .rejected(.malformed) }

        if let unknown = message.unknownRequiredAttribute {
            refuse(message, code: 420, unknownAttribute: unknown, key: side.key, reply: &reply)
            return .rejected(.unexpected)
        }
        if message.controlled != nil {
            // RFC 8445 §7.3.1.1: a lite agent is controlled by a full one whatever the tie-breakers say (§6.1.1), so the
            // peer has to change its role.
            refuse(message, code: 487, unknownAttribute: nil, key: side.key, reply: &reply)
            return .rejected(.unexpected)
        }

        var builder = STUNBuilder(.success, transactionID: message.transactionID, buffer: reply)
        builder.addXORMappedAddress(source)
        Self.seal(&builder, key: side.key)
        let answered = builder.finish()
        guard answered.count - reply.count <= bytes.byteCount || isValidated(source) else {
            return .rejected(.malformed)
        }
        reply = answered

        if usesNext, let next {
            current = next
            self.next = nil
            for index in paths.indices { paths[index].isOutdated = true }
        }
        lastCheck = now
        return .handled(selectedChanged: note(source, isNominated: message.usesCandidate, now: now))
    }

    /// Notes a check from `source` and decides where media goes.
    private mutating func note(_ source: SocketAddress, isNominated: Bool, now: Instant) -> Bool {
        if let index = paths.firstIndex(where: { $0.address == source }) {
            paths[index].lastCheck = now
            paths[index].isOutdated = false
        } else {
            if paths.count >= Self.maximumAddresses,
                let oldest = paths.indices.filter({ paths[$0].address != selected })
                    .min(by: { paths[$0].lastCheck < paths[$1].lastCheck })
            {
                paths.remove(at: oldest)
            }
            paths.append(Path(address: source, lastCheck: now))
        }
        if isNominated { paths.removeAll { $0.isOutdated } }
        guard source != selected else { return false }
        // RFC 8445 §7.3.1.5: nominated. Before the first nomination any validated address will do, so that DTLS can begin.
        let heard = paths.first { $0.address == selected }?.lastCheck
        let isSilent = heard.map { $0 + Self.selectedSilence < now } ?? true
        guard isNominated || isSilent else { return false }
        selected = source
        return true
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
        reply: inout [UInt8]
    ) {
        var builder = STUNBuilder(.error, transactionID: message.transactionID, buffer: reply)
        builder.addErrorCode(code)
        if let unknownAttribute { builder.addUnknownAttribute(unknownAttribute) }
        Self.seal(&builder, key: key)
        reply = builder.finish()
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
