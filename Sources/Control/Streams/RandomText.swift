import Transport

/// Random text that nobody can guess: session ids, ETags and ICE credentials.
enum RandomText {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")

    /// - Parameter length: Characters, each worth 5.9 bits.
    static func make(length: Int) -> String {
        var random = SecureRandom()
        return String((0..<length).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] })
    }
}
