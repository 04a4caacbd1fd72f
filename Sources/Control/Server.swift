import Commands
import Foundation
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
public import Logging
import NIOCore
import NIOSSL
import ServiceLifecycle
import Transport
import UnixSignals
import Wire
import Worker

/// Why the server did not start: one sentence for the operator.
public struct StartError: Error, CustomStringConvertible {
    public let description: String
}

/// The whole server: workers, directory and HTTP.
public struct Server: Sendable {
    private let configuration: ServerConfiguration
    private let logger: Logger

    public init(configuration: ServerConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// Runs until SIGTERM or SIGINT, then drains and returns.
    ///
    /// - Parameter onReady: Called with the page to open, once everything listens.
    /// - Throws: `StartError`.
    public func run(onReady: @escaping @Sendable (String) -> Void) async throws {
        guard let assets = WebAssets(folder: WebAssets.builtFolder) else {
            throw StartError(
                description: "The web pages are missing: \(WebAssets.builtFolder) has to lie there as built."
            )
        }
        let certificate: DTLSCertificate
        do throws(DTLSError) {
            certificate = try DTLSCertificate()
        } catch {
            throw StartError(description: "OpenSSL could not make a DTLS certificate.")
        }
        let (events, continuation) = AsyncStream.makeStream(of: Event.self)
        let pool = try startWorkers(certificate: certificate) { continuation.yield($0) }
        let limiter = RateLimiter(limit: configuration.limits.sessionsPerAddressPerMinute)
        let directory = StreamDirectory(
            workers: pool.workers,
            limits: configuration.limits,
            defaultPrivacy: configuration.defaultPrivacy,
            limiter: limiter,
            fingerprint: certificate.fingerprint,
            announce: announcedAddresses(),
            logger: logger
        )
        var keys: TokenKeys?
        if configuration.tokenSecret != nil || !configuration.tokenPublicKeys.isEmpty {
            keys = await TokenKeys(secret: configuration.tokenSecret, publicKeys: configuration.tokenPublicKeys)
        }
        let authorizer = Authorizer(configuration, keys: keys)
        let handler = RequestHandler(
            configuration: configuration,
            directory: directory,
            workers: pool.workers,
            assets: assets,
            authorizer: authorizer,
            limiter: limiter
        )
        let http = Application(
            responder: handler,
            server: try httpServer(directory: directory, authorizer: authorizer, limiter: limiter),
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.httpHost, port: configuration.httpPort),
                serverName: "sluice",
                availableConnectionsDelegate: MaximumAvailableConnections(
                    configuration.limits.httpConnections,
                    logger: libraryLogger
                )
            ),
            onServerRunning: { [configuration] channel in
                onReady(Self.pageURL(configuration, port: channel.localAddress?.port ?? configuration.httpPort))
            },
            logger: libraryLogger
        )
        // Services stop in the opposite order: no new sessions, then HTTP, then the peers.
        var services = ServiceGroupConfiguration(
            services: [
                .init(service: WorkerService(pool: pool)),
                .init(service: EventService(events: events, directory: directory)),
                .init(
                    service: IntervalService(configuration.limits.speakerInterval) { await directory.updateSpeakers() }
                ),
                .init(
                    service: IntervalService(configuration.limits.qualityInterval) { await directory.updateQuality() }
                ),
                .init(service: http),
                .init(service: DrainService(directory: directory)),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: libraryLogger
        )
        services.maximumGracefulShutdownDuration = configuration.limits.drain
        let group = ServiceGroup(configuration: services)
        do {
            try await group.run()
        } catch let error as IOError {
            throw StartError(
                description: "http.listen: \(configuration.httpHost):\(configuration.httpPort) can't be listened on: "
                    + "\(String(cString: strerror(error.errnoCode)))."
            )
        }
    }

    /// The libraries' chatter concerns nobody who operates this server.
    private var libraryLogger: Logger {
        var logger = logger
        logger.logLevel = max(.error, logger.logLevel)
        return logger
    }

    private func startWorkers(
        certificate: DTLSCertificate,
        onEvent: @escaping @Sendable (Event) -> Void
    ) throws -> WorkerPool {
        let workers = WorkerConfiguration(
            listen: configuration.mediaListen,
            firstPort: configuration.mediaPort,
            workerCount: configuration.workers ?? ProcessInfo.processInfo.activeProcessorCount,
            limits: configuration.limits,
            certificate: certificate
        )
        do throws(WorkerError) {
            return try WorkerPool(configuration: workers, onEvent: onEvent)
        } catch {
            switch error {
            case .bind(let address, let reason):
                throw StartError(description: "media.listen and media.port: UDP \(address) can't be bound: \(reason).")
            case .dtls: throw StartError(description: "OpenSSL could not set DTLS up.")
            case .loop(let reason): throw StartError(description: "A worker could not start: \(reason).")
            }
        }
    }

    private func httpServer(
        directory: StreamDirectory,
        authorizer: Authorizer,
        limiter: RateLimiter
    ) throws -> HTTPServerBuilder {
        let backlog = ControlBacklog(maximumBytes: configuration.limits.controlBacklogBytes)
        let connections = ConnectionCount(
            limit: configuration.limits.peersPerAddress * configuration.limits.httpConnectionsPerPeer,
            unwelcomePerSecond: configuration.limits.unwelcomeConnectionsPerSecond,
            isUnwelcome: { authorizer.refusesTokens(of: $0) }
        )
        let http1 = HTTPServerBuilder { [configuration, logger] responder in
            ControlChannel(
                responder: { request, writer, channel in
                    try await responder(request, writer, channel)
                    // Whoever guesses has to come again for each guess.
                    if authorizer.closes(after: request.head, from: ClientAddress.of(channel)) {
                        throw ChannelError.outputClosed
                    }
                },
                connections: connections,
                idleTimeout: .seconds(configuration.limits.httpIdle.components.seconds),
                maximumMessageBytes: configuration.limits.controlMessageBytes,
                allowedOrigins: configuration.allowedOrigins
            ) { channel, address in
                await ControlSession(
                    directory: directory,
                    configuration: configuration,
                    authorizer: authorizer,
                    limiter: limiter,
                    backlog: backlog,
                    logger: logger,
                    address: address
                ).run(channel)
            }
        }
        guard let files = configuration.tls else { return http1 }
        do {
            let chain = try NIOSSLCertificate.fromPEMFile(files.certificate).map {
                NIOSSLCertificateSource.certificate($0)
            }
            let key = try NIOSSLPrivateKey(file: files.privateKey, format: .pem)
            return try .tls(
                http1,
                tlsConfiguration: .makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(key))
            )
        } catch {
            throw StartError(
                description:
                    "http.tls: the certificate and the key can't be used; both have to be PEM, and belong together."
            )
        }
    }

    /// The addresses that clients are told.
    private func announcedAddresses() -> [IPAddress] {
        if !configuration.announce.isEmpty { return configuration.announce }
        guard configuration.mediaListen.isUnspecified else { return [configuration.mediaListen] }
        let devices = (try? System.enumerateDevices()) ?? []
        let all = devices.compactMap { device in
            // A link-local address means nothing without its interface.
            device.address?.ipAddress.flatMap { $0.contains("%") || $0.hasPrefix("fe80") ? nil : IPAddress($0) }
        }
        let reachable = all.filter { address in
            !address.isLoopback && (configuration.mediaListen.family == .v6 || address.family == .v4)
        }
        return reachable.isEmpty ? [.loopbackV4] : reachable
    }

    private static func pageURL(_ configuration: ServerConfiguration, port: Int) -> String {
        if let url = configuration.publicURL { return "\(url)/" }
        let scheme = configuration.tls == nil ? "http" : "https"
        let host =
            switch configuration.httpHost {
            case "0.0.0.0", "::": "localhost"
            case let host where host.contains(":"): "[\(host)]"
            case let host: host
            }
        return "\(scheme)://\(host):\(port)/"
    }
}

/// Keeps the workers until everything above them has stopped.
private struct WorkerService: Service {
    let pool: WorkerPool

    func run() async throws {
        try? await gracefulShutdown()
        pool.stop()
    }
}

/// Hands the workers' events to the directory.
private struct EventService: Service {
    let events: AsyncStream<Event>
    let directory: StreamDirectory

    func run() async throws {
        for await event in events.cancelOnGracefulShutdown() { await directory.handle(event) }
    }
}

/// Does something again and again: lets rooms know who speaks, and how well streams get through.
private struct IntervalService: Service {
    private let interval: Duration
    private let work: @Sendable () async -> Void

    init(_ interval: Duration, work: @escaping @Sendable () async -> Void) {
        self.interval = interval
        self.work = work
    }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)
                await work()
            }
        }
    }
}

/// The first to hear of a stop: from then on new sessions are refused.
private struct DrainService: Service {
    let directory: StreamDirectory

    func run() async throws {
        try? await gracefulShutdown()
        await directory.drain()
    }
}
