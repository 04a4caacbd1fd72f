import Foundation
import Testing

@testable import Control

/// Tokens as such; `Tests/EndToEnd/test_tokens.py` has what they open.
@Suite struct TokenTests {
    private static let secret = "a-secret-of-the-tests-that-is-long-enough"

    private static func token(
        _ role: AccessRole = .publish,
        secret: String = secret,
        expires: Date = Date(timeIntervalSinceNow: 60)
    ) async throws -> String {
        try await TokenKeys(secret: secret).sign(
            role: role,
            room: "some-room",
            stream: nil,
            privacy: nil,
            endsCalls: false,
            expires: expires
        )
    }

    @Test(arguments: AccessRole.allCases)
    func whatWasSignedIsVerified(role: AccessRole) async throws {
        let token = try await TokenKeys(secret: Self.secret).verify(try await Self.token(role))
        #expect(token.role == role && token.room == "some-room" && token.stream == nil && !token.endsCalls)
    }

    @Test func refusesForeignAndExpiredTokens() async throws {
        let keys = await TokenKeys(secret: Self.secret)
        let foreign = try await Self.token(secret: "another-secret-that-is-long-enough-as-well")
        let expired = try await Self.token(expires: Date(timeIntervalSinceNow: -1))
        await #expect(throws: TokenKeys.Refusal.foreign) { try await keys.verify(foreign) }
        await #expect(throws: TokenKeys.Refusal.expired) { try await keys.verify(expired) }
        for text in ["", ".", "..", "a.b.c", String(repeating: "x", count: 10_000), "e30.e30."] {
            await #expect(throws: TokenKeys.Refusal.foreign, "\(text.prefix(20))") { try await keys.verify(text) }
        }
        // Each character counts, wherever it stands.
        let good = try await Self.token()
        for place in [0, 20, good.count / 2, good.count - 2] {
            var characters = Array(good)
            characters[place] = characters[place] == "A" ? "B" : "A"
            let changed = String(characters)
            await #expect(throws: TokenKeys.Refusal.self) { try await keys.verify(changed) }
        }
    }

    @Test func withoutAKeyNothingIsVerified() async throws {
        let keys = await TokenKeys(secret: nil)
        let token = try await Self.token()
        await #expect(throws: TokenKeys.Refusal.foreign) { try await keys.verify(token) }
    }

    @Test func publicKeysAreToldFromOtherTexts() {
        let key = """
            -----BEGIN PUBLIC KEY-----
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
            -----END PUBLIC KEY-----
            """
        #expect(TokenKeys.isPublicKey(key))
        for text in ["", "key", String(key.prefix(60))] {
            #expect(!TokenKeys.isPublicKey(text))
        }
    }
}
