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
    var exp: ExpirationClaim?
    var nbf: NotBeforeClaim?

    func verify(using algorithm: some JWTAlgorithm) throws {
        try exp?.verifyNotExpired()
        try nbf?.verifyNotBefore()
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
    }

    /// One key each: a token is tried with all of them, and the one that signed it says what else is wrong with it.
    private var keys: [JWTKeyCollection] = []
    private let signer: JWTKeyCollection?

    /// - Parameters:
    ///   - secret: Signs and checks HS256.
    ///   - publicKeys: PEM texts that check EdDSA, ES256 or RS256; those for which `isPublicKey` is false are left out.
    public init(secret: String?, publicKeys: [String] = []) async {
        if let secret {
            let collection = await JWTKeyCollection().add(hmac: HMACKey(from: secret), digestAlgorithm: .sha256)
            keys.append(collection)
            signer = collection
        } else {
            signer = nil
        }
        for text in publicKeys {
            let collection = JWTKeyCollection()
            if let key = try? EdDSA.PublicKey(pem: text) {
                await collection.add(eddsa: key)
            } else if let key = try? ES256PublicKey(pem: text) {
                await collection.add(ecdsa: key)
            } else if let key = try? Insecure.RSA.PublicKey(pem: text) {
                await collection.add(rsa: key, digestAlgorithm: .sha256)
            }
            keys.append(collection)
        }
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
                exp: ExpirationClaim(value: expires)
            )
        )
    }

    /// There is nothing to sign with.
    public struct MissingSecret: Error {}

    /// Checks a token, in a time that does not depend on where it is wrong.
    func verify(_ text: String) async throws(Refusal) -> AccessToken {
        guard text.utf8.count <= Self.longestToken else { throw .foreign }
        let claims = try await verifySignature(text)
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

    private func verifySignature(_ text: String) async throws(Refusal) -> Claims {
        for key in keys {
            do {
                return try await key.verify(text, as: Claims.self)
            } catch let error as JWTError where error.errorType == .claimVerificationFailure {
                throw error.failedClaim is NotBeforeClaim ? .notYet : .expired
            } catch {
                // Not this key's.
            }
        }
        throw .foreign
    }
}
