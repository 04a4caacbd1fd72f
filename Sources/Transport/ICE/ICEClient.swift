public import Wire

/// The client's side of ICE towards one remote address: what a load generator or a node-to-node relay needs to reach a
/// server. One local and one remote candidate make one pair, nominated with its first check (RFC 8445 §8.1.1 lets a controlling
/// agent nominate as it likes).
public struct ICEClient {
    /// RFC 8445 §14.3: the first retransmission; doubles each time up to `maximumInterval`.
    private static let firstInterval = Duration.milliseconds(50)
    private static let maximumInterval = Duration.milliseconds(1600)
    /// RFC 7675 §5.1: a consent check every 5 s, randomised by a fifth.
    private static let consentInterval = Duration.seconds(5)

    /// Whether the server has answered a check.
    public private(set) var isConnected = false
    /// Our address as the server sees it.
    public private(set) var mappedAddress: SocketAddress?
    /// When `nextRequest` has to be called next.
    public private(set) var nextDeadline: Instant

    private let local: ICECredentials
    private let remote: ICECredentials
    private let localKey: HMACSHA1
    private let remoteKey: HMACSHA1
    private let isControlling: Bool
    private let tieBreaker: UInt64
    private var random: any RandomNumberGenerator & Sendable
    private var interval = ICEClient.firstInterval
    private var pending: STUNMessage.TransactionID?
    private var scratch: [UInt8] = []

    /// - Parameter isControlling: True for the one who offered, and towards any lite server (RFC 8445 §6.1.1).
    public init(
        local: ICECredentials,
        remote: ICECredentials,
        isControlling: Bool = true,
        now: Instant,
        random: any RandomNumberGenerator & Sendable = SecureRandom()
    ) {
        self.local = local
        self.remote = remote
        self.isControlling = isControlling
        self.random = random
        localKey = HMACSHA1(key: local.password.utf8)
        remoteKey = HMACSHA1(key: remote.password.utf8)
        tieBreaker = self.random.next()
        nextDeadline = now
    }

    /// Writes the check that is due by `now`, in place of what `buffer` holds.
    ///
    /// - Returns: False when none is due.
    public mutating func nextRequest(now: Instant, into buffer: inout [UInt8]) -> Bool {
        guard nextDeadline <= now else { return false }
        let transaction: STUNMessage.TransactionID
        if let pending, !isConnected {
            transaction = pending
        } else {
            transaction = STUNMessage.TransactionID(high: random.next(), low: UInt32(truncatingIfNeeded: random.next()))
        }
        pending = transaction
        buffer.removeAll(keepingCapacity: true)
        var builder = STUNBuilder(.request, transactionID: transaction, buffer: buffer)
        builder.addUsername(remote.usernameFragment, local.usernameFragment)
        if isControlling {
            builder.addControlling(tieBreaker: tieBreaker)
            builder.addUseCandidate()
        } else {
            builder.addControlled(tieBreaker: tieBreaker)
        }
        // RFC 8445 §5.1.2: a peer-reflexive candidate's type preference of 110.
        builder.addPriority(110 << 24 | 0xFFFF << 8 | 255)
        ICEAgent.seal(&builder, key: remoteKey)
        buffer = builder.finish()
        if isConnected {
            let jitter = Int64(truncatingIfNeeded: random.next() % 2000) - 1000
            nextDeadline = now + Self.consentInterval + .milliseconds(jitter)
        } else {
            nextDeadline = now + interval
            interval = min(interval * 2, Self.maximumInterval)
        }
        return true
    }

    /// Takes a response in.
    ///
    /// - Returns: Whether it is the authentic answer to our last check.
    public mutating func receive(_ datagram: RawSpan, now: Instant) -> Bool {
        guard let message = try? STUNMessage(parsing: datagram), message.messageClass == .success,
            message.transactionID == pending
        else { return false }
        guard isAuthentic(message, in: datagram, key: remoteKey) else { return false }
        pending = nil
        mappedAddress = message.mappedAddress
        if !isConnected {
            isConnected = true
            nextDeadline = now + Self.consentInterval
        }
        return true
    }

    /// Answers a check of a server that is no lite one (RFC 8445 §7.3): it sends media only where it got an answer from.
    ///
    /// - Parameters:
    ///   - server: Where the check came from.
    ///   - reply: Replaced by the answer.
    /// - Returns: False when the datagram is no authentic check.
    public mutating func answer(_ datagram: RawSpan, from server: SocketAddress, reply: inout [UInt8]) -> Bool {
        guard let message = try? STUNMessage(parsing: datagram), message.messageClass == .request,
            message.method == STUNMessage.bindingMethod,
            message.hasUsernamePrefix(local.usernameFragment, in: datagram),
            isAuthentic(message, in: datagram, key: localKey)
        else { return false }
        reply.removeAll(keepingCapacity: true)
        var builder = STUNBuilder(.success, transactionID: message.transactionID, buffer: reply)
        builder.addXORMappedAddress(server)
        ICEAgent.seal(&builder, key: localKey)
        reply = builder.finish()
        return true
    }

    private mutating func isAuthentic(_ message: STUNMessage, in datagram: RawSpan, key: HMACSHA1) -> Bool {
        scratch.removeAll(keepingCapacity: true)
        guard let expected = message.integrityInput(in: datagram, into: &scratch) else { return false }
        return scratch.withUnsafeBytes { input in
            expected.withUnsafeBytes { expected in
                guard let base = expected.baseAddress else { return false }
                return key.verifies(input, against: base, length: 20)
            }
        }
    }
}
