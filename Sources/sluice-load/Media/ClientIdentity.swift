import Transport
import Wire

/// The certificate that all clients of a run show: a thousand would take longer to make than to use.
struct ClientIdentity: Sendable {
    static let shared = ClientIdentity()

    let certificate: DTLSCertificate

    private init() {
        do {
            certificate = try DTLSCertificate()
        } catch {
            preconditionFailure("OpenSSL can't make a certificate: \(error)")
        }
    }

    /// Fresh ICE credentials.
    static func makeCredentials() -> ICECredentials {
        let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        func text(_ length: Int) -> String { String((0..<length).map { _ in letters.randomElement() ?? "a" }) }
        return ICECredentials(usernameFragment: text(8), password: text(24))
    }
}
