internal import COpenSSL

/// HMAC-SHA1 (RFC 2104) with its key schedule kept: two SHA-1 states that are copied for each message, so that a message
/// costs no allocation and no key set-up.
struct HMACSHA1 {
    static let tagLength = 20
    private static let blockLength = 64

    private var inner = SHA_CTX()
    private var outer = SHA_CTX()

    init(key: some Collection<UInt8>) {
        var block = [UInt8](repeating: 0, count: Self.blockLength)
        if key.count > Self.blockLength {
            let bytes = Array(key)
            SHA1(bytes, bytes.count, &block)
        } else {
            for (index, byte) in key.enumerated() { block[index] = byte }
        }
        SHA1_Init(&inner)
        SHA1_Update(&inner, block.map { $0 ^ 0x36 }, Self.blockLength)
        SHA1_Init(&outer)
        SHA1_Update(&outer, block.map { $0 ^ 0x5C }, Self.blockLength)
        OPENSSL_cleanse(&block, block.count)
    }

    /// Writes the first `length` bytes of the message's code to `tag`. The message may come in two parts.
    @inline(__always)
    func authenticate(
        _ message: UnsafeRawBufferPointer,
        _ rest: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        tag: UnsafeMutableRawPointer,
        length: Int
    ) {
        withCode(message, rest) { tag.copyMemory(from: $0, byteCount: length) }
    }

    /// Whether the first `length` bytes of the message's code are those at `expected`, compared in constant time.
    @inline(__always)
    func verifies(
        _ message: UnsafeRawBufferPointer,
        _ rest: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        against expected: UnsafeRawPointer,
        length: Int
    ) -> Bool {
        withCode(message, rest) { CRYPTO_memcmp($0, expected, length) == 0 }
    }

    @inline(__always)
    private func withCode<Result>(
        _ message: UnsafeRawBufferPointer,
        _ rest: UnsafeRawBufferPointer,
        _ body: (UnsafeMutablePointer<UInt8>) -> Result
    ) -> Result {
        var context = inner
        var code: (UInt64, UInt64, UInt32) = (0, 0, 0)
        return withUnsafeMutablePointer(to: &code) { code in
            code.withMemoryRebound(to: UInt8.self, capacity: Self.tagLength) { code in
                SHA1_Update(&context, message.baseAddress, message.count)
                if rest.count > 0 { SHA1_Update(&context, rest.baseAddress, rest.count) }
                SHA1_Final(code, &context)
                context = outer
                SHA1_Update(&context, code, Self.tagLength)
                SHA1_Final(code, &context)
                return body(code)
            }
        }
    }
}
