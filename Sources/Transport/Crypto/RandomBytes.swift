internal import COpenSSL

/// Cryptographically strong random bytes from OpenSSL's generator.
///
/// A `RandomNumberGenerator`, so that tests can put a seeded one in its place.
public struct SecureRandom: RandomNumberGenerator, Sendable {
    public init() {}

    public mutating func next() -> UInt64 {
        var value: UInt64 = 0
        let succeeded = withUnsafeMutableBytes(of: &value) { bytes in
            RAND_bytes(bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(bytes.count)) == 1
        }
        if succeeded { return value }
        // OpenSSL could not seed itself; the kernel's generator, behind Swift's, can't fail.
        var system = SystemRandomNumberGenerator()
        return system.next()
    }
}
