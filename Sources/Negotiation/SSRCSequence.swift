/// The SSRCs that a session sends with, none of them twice.
///
/// SRTP's keys live as long as the session, and an SSRC that came again would begin at an index that it has had: with AES-GCM the same
/// nonce for other plaintext gives both away, and the key that authenticates (RFC 7714 §8.4, RFC 3550 §8). So they are not drawn, which
/// would need all of them to be remembered: a random step from a random start on visits each number once.
public struct SSRCSequence: Sendable {
    private var next: UInt32
    private let stride: UInt32

    /// - Parameter stride: Is made odd: then it has no divisor in common with how many numbers there are.
    init(first: UInt32, stride: UInt32) {
        next = first
        self.stride = stride | 1
    }

    public init(using random: inout some RandomNumberGenerator) {
        self.init(first: random.next(), stride: random.next())
    }

    /// Never 0, which is nobody's.
    public mutating func draw() -> UInt32 {
        if next == 0 { next &+= stride }
        defer { next &+= stride }
        return next
    }
}
