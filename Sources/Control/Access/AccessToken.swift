public import Foundation
import JWTKit
import Negotiation

/// What somebody may do.
public enum AccessRole: String, Codable, Sendable, CaseIterable {
    /// Watch streams, and be in rooms without publishing.
    case view
    /// Publish too.
    case publish
    /// In rooms also mute and remove others, lock and end the room.
    case host
    /// Everything, and the statistics of streams and peers.
    case `operator`

    var mayPublish: Bool { self != .view }
}

/// A signed token (JWT, RFC 7519) that was checked: who may do what, where, and until when.
struct AccessToken: Sendable {
    var role: AccessRole
    /// The one room and the one stream that it is for; nil for all.
    var room: String?
    var stream: String?
    /// The privacy mode that the room has to be in; nil for any.
    var privacy: PrivacyMode?
    /// Whether its expiry also ends what it began; otherwise nothing new begins with it.
    var endsCalls: Bool
    /// Who it was given to, as whoever made it calls him: tokens with one subject take each other's streams over.
    var subject: String?
    var expires: Date
}

/// A token's claims, as they come. All are optional here, so that one that is missing is told apart from a foreign signature.
private struct Claims: JWTPayload {
    var role: String?
    var room: String?
    var stream: String?
    var privacy: String?
    var endsCalls: Bool?
    var sub: SubjectClaim?
    /// One text or a list of them (RFC 7519 §4.1.3).
    var aud: Audience?
    var exp: ExpirationClaim?
    var nbf: NotBeforeClaim?

    func verify(using algorithm: some JWTAlgorithm) throws {
        try exp?.verifyNotExpired()
        try nbf?.verifyNotBefore()
    }
}

/// Not JWTKit's, which traps on an empty list.
private struct Audience: Codable {
    var value: [String]

    init(_ value: [String]) { self.value = value }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let one = try? container.decode(String.self) {
            value = [one]
        } else {
            value = try container.decode([String].self)
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if value.count == 1 { try container.encode(value[0]) } else { try container.encode(value) }
    }
}

/// Makes and checks tokens.
public struct TokenKeys: Sendable {
    /// Shortest `auth.secret` in bytes: as long as HMAC-SHA256's output (RFC 7518 §3.2).
    static let shortestSecret = 32
    /// Longest token that is looked at, in bytes.
    private static let longestToken = 4096

    /// Why a token is not accepted.
    enum Refusal: Error {
        /// Its signature is wrong, or it is no token at all.
        case foreign
        /// It is over, or has not begun.
        case expired
        case notYet
        /// A claim is missing or makes no sense.
        case incomplete
        /// It names another audience, or none where it has to name one.
        case otherAudience
        /// Its header asks for what is not done here, such as an extension that has to be understood.
        case unsupported
    }

    /// A key, and the one algorithm that it is for: a token's header has to name that one (RFC 8725 §3.1), so that nobody has a key used
    /// in another way than it was made for.
    private struct Key: Sendable {
        let algorithm: String
        let collection: JWTKeyCollection
    }

    private var keys: [Key] = []
    private let signer: JWTKeyCollection?
    /// Who we are to those who make tokens: a token has to be for one of these names. Without any, it may be for nobody in particular.
    private let audience: [String]

    /// - Parameters:
    ///   - secret: Signs and checks HS256.
    ///   - publicKeys: PEM texts that check EdDSA, ES256 or RS256; those for which `isPublicKey` is false are left out.
    ///   - audience: What `aud` has to have one of; none where tokens have no `aud`.
    public init(secret: String?, publicKeys: [String] = [], audience: [String] = []) async {
        self.audience = audience
        if let secret {
            let collection = await JWTKeyCollection().add(hmac: HMACKey(from: secret), digestAlgorithm: .sha256)
            keys.append(Key(algorithm: "HS256", collection: collection))
            signer = collection
        } else {
            signer = nil
        }
        for text in publicKeys {
            let collection = JWTKeyCollection()
            if let key = try? EdDSA.PublicKey(pem: text) {
                keys.append(Key(algorithm: "EdDSA", collection: await collection.add(eddsa: key)))
            } else if let key = try? ES256PublicKey(pem: text) {
                keys.append(Key(algorithm: "ES256", collection: await collection.add(ecdsa: key)))
            } else if let key = try? Insecure.RSA.PublicKey(pem: text) {
                await collection.add(rsa: key, digestAlgorithm: .sha256)
                keys.append(Key(algorithm: "RS256", collection: collection))
            }
        }
    }

    /// The configured ones; nil when no signed tokens are accepted.
    init?(_ configuration: ServerConfiguration) async {
        guard configuration.tokenSecret != nil || !configuration.tokenPublicKeys.isEmpty else { return nil }
        await self.init(
            secret: configuration.tokenSecret,
            publicKeys: configuration.tokenPublicKeys,
            audience: configuration.tokenAudience
        )
    }

    /// What `privacy` may be.
    public static let privacyModes = PrivacyMode.allCases.map(\.rawValue)

    /// Whether a PEM text is a key that tokens can be checked with.
    static func isPublicKey(_ text: String) -> Bool {
        (try? EdDSA.PublicKey(pem: text)) != nil || (try? ES256PublicKey(pem: text)) != nil
            || (try? Insecure.RSA.PublicKey(pem: text)) != nil
    }

    /// Signs a token with the secret.
    ///
    /// - Throws: When there is no secret.
    public func sign(
        role: AccessRole,
        room: String?,
        stream: String?,
        privacy: String?,
        endsCalls: Bool,
        expires: Date
    ) async throws -> String {
        guard let signer else { throw MissingSecret() }
        return try await signer.sign(
            Claims(
                role: role.rawValue,
                room: room,
                stream: stream,
                privacy: privacy,
                endsCalls: endsCalls ? true : nil,
                aud: audience.isEmpty ? nil : Audience(audience),
                exp: ExpirationClaim(value: expires)
            )
        )
    }

    /// There is nothing to sign with.
    public struct MissingSecret: Error {}

    /// Checks a token, in a time that does not depend on where it is wrong.
    func verify(_ text: String) async throws(Refusal) -> AccessToken {
        guard text.utf8.count <= Self.longestToken else { throw .foreign }
        let algorithm = try TokenShape.algorithm(of: text)
        let claims = try await verifySignature(text, algorithm)
        // RFC 7519 §4.1.3: whoever isn't among those whom it names rejects it.
        if let named = claims.aud?.value ?? (audience.isEmpty ? nil : []), !named.contains(where: audience.contains) {
            throw .otherAudience
        }
        guard let role = claims.role.flatMap(AccessRole.init), let expires = claims.exp?.value,
            claims.room.map({ ResourceIdentifier($0) != nil }) ?? true,
            claims.stream.map({ ResourceIdentifier($0) != nil }) ?? true,
            claims.privacy.map({ PrivacyMode(rawValue: $0) != nil }) ?? true
        else { throw .incomplete }
        return AccessToken(
            role: role,
            room: claims.room,
            stream: claims.stream,
            privacy: claims.privacy.flatMap(PrivacyMode.init),
            endsCalls: claims.endsCalls ?? false,
            subject: claims.sub?.value,
            expires: expires
        )
    }

    private func verifySignature(_ text: String, _ algorithm: String) async throws(Refusal) -> Claims {
        for key in keys where key.algorithm == algorithm {
            do {
                return try await key.collection.verify(text, as: Claims.self)
            } catch let error as JWTError where error.errorType == .claimVerificationFailure {
                throw error.failedClaim is NotBeforeClaim ? .notYet : .expired
            } catch {
                // Not this key's.
            }
        }
        throw .foreign
    }
}
