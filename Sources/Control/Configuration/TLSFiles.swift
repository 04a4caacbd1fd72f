import NIOSSL

/// Why a certificate and its key can't be used, for the operator.
struct TLSFilesError: Error {
    enum Part: Sendable { case certificate, privateKey, pair }

    let part: Part
    /// What was found.
    let reason: String
}

extension ServerConfiguration.TLSFiles {
    /// Reads both files, and checks that they belong together.
    func load() throws(TLSFilesError) -> TLSConfiguration {
        let chain: [NIOSSLCertificate]
        do {
            chain = try NIOSSLCertificate.fromPEMFile(certificate)
        } catch {
            throw TLSFilesError(part: .certificate, reason: "no PEM certificate")
        }
        guard !chain.isEmpty else { throw TLSFilesError(part: .certificate, reason: "no PEM certificate") }
        let key: NIOSSLPrivateKey
        do {
            key = try NIOSSLPrivateKey(file: privateKey, format: .pem)
        } catch {
            throw TLSFilesError(part: .privateKey, reason: "no PEM private key without a passphrase")
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) },
            privateKey: .privateKey(key)
        )
        // RFC 8996: 1.0 and 1.1 are deprecated.
        configuration.minimumTLSVersion = .tlsv12
        do {
            _ = try NIOSSLContext(configuration: configuration)
        } catch {
            throw TLSFilesError(part: .pair, reason: "a key that doesn't belong to the certificate")
        }
        return configuration
    }
}
