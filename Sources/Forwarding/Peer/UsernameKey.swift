import Wire

/// A local ICE ufrag of up to 16 bytes, packed so that it can be looked up without allocating.
///
/// Ours are made by Control and always fit; a longer one belongs to nobody here.
struct UsernameKey: Hashable {
    private var high: UInt64 = 0
    private var low: UInt64 = 0

    /// Longest ufrag in bytes.
    static let maximumBytes = 16

    init?(_ usernameFragment: String) {
        self.init(bytes: usernameFragment.utf8)
    }

    init?(bytes: some Collection<UInt8>) {
        guard !bytes.isEmpty, bytes.count <= Self.maximumBytes else { return nil }
        for byte in bytes {
            high = high << 8 | low >> 56
            low = low << 8 | UInt64(byte)
        }
    }
}

extension STUNMessage {
    /// The local ufrag that a request to us names: the part of USERNAME before its first colon (RFC 8445 §7.2.2).
    ///
    /// - Parameter bytes: What the message was parsed from.
    func localUsernameFragment(in bytes: RawSpan) -> UsernameKey? {
        guard let username = usernameSpan(in: bytes) else { return nil }
        return username.withUnsafeBytes { username in
            guard let colon = username.firstIndex(of: UInt8(ascii: ":")) else { return nil }
            return UsernameKey(bytes: username[..<colon])
        }
    }
}
