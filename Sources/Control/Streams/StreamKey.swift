/// A room's or a stream's id: 1 to 128 of `[A-Za-z0-9_-]`. It is a secret: whoever knows it may ask for the stream, so it is
/// never logged.
public struct ResourceIdentifier: Hashable, Sendable {
    let text: String

    /// Names of fixed paths, which no room or stream may have.
    private static let reserved: Set<String> = [
        "assets", "healthz", "metrics", "operator", "publish", "readyz", "room", "sdk", "v1", "watch", "whep", "whip",
    ]

    public init?(_ text: some StringProtocol) {
        guard (1...128).contains(text.utf8.count),
            text.utf8.allSatisfy({ byte in
                (byte >= 0x30 && byte <= 0x39) || (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A) || byte == 0x2D
                    || byte == 0x5F
            }),
            !Self.reserved.contains(String(text))
        else { return nil }
        self.text = String(text)
    }
}

/// Where a stream is: its room and its own id.
public struct StreamKey: Hashable, Sendable {
    let room: ResourceIdentifier
    let stream: ResourceIdentifier
}
