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
        let signals = await StopSignals()
        for warning in configuration.warnings { logger.warning("\(warning)") }
        let descriptors = try limitConnections()
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
        let authorizer = Authorizer(configuration, keys: await TokenKeys(configuration))
        let addresses = clientAddresses(authorizer)
        let openRequests = OpenRequests()
        let handler = RequestHandler(
            configuration: configuration,
            directory: directory,
            workers: pool.workers,
            assets: assets,
            addresses: addresses,
            authorizer: authorizer,
            limiter: limiter,
            openRequests: openRequests
        )
        let http = Application(
            responder: handler,
            server: try httpServer(
                directory: directory,
                addresses: addresses,
                authorizer: authorizer,
                limiter: limiter
            ),
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.httpHost, port: configuration.httpPort),
                serverName: "sluice",
                availableConnectionsDelegate: MaximumAvailableConnections(descriptors, logger: libraryLogger)
            ),
            onServerRunning: { [configuration, logger] channel in
                try? await channel.eventLoop.submit {
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoff(logger: logger), position: .first)
                }.get()
                onReady(Self.pageURL(configuration, port: channel.localAddress?.port ?? configuration.httpPort))
            },
            logger: libraryLogger
        )
        let intervals = [
            Task { for await event in events { await directory.handle(event) } },
            repeating(configuration.limits.speakerInterval) { await directory.updateSpeakers() },
            repeating(configuration.limits.qualityInterval) { await directory.updateQuality() },
        ]
        let group = ServiceGroup(configuration: .init(services: [http], logger: libraryLogger))
        let life = ServerLife(limits: configuration.limits, connections: addresses.connections, logger: logger)
        do {
            try await life.run(group, until: signals) {
                await directory.drain()
            } isIdle: {
                guard openRequests.isEmpty else { return false }
                return await directory.isEmpty
            }
        } catch let error as IOError {
            throw StartError(
                description: "http.listen: \(configuration.httpHost):\(configuration.httpPort) can't be listened on: "
                    + "\(String(cString: strerror(error.errnoCode)))."
            )
        }
        for interval in intervals { interval.cancel() }
        await life.end(pool)
    }

    /// Does something again and again, until it is cancelled.
    private func repeating(_ interval: Duration, work: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)
                await work()
            }
        }
    }

    /// - Returns: How many HTTP connections there may be, so that calls and files have descriptors left.
    private func limitConnections() throws -> Int {
        let (before, now) = DescriptorLimit.raise()
        if now > before { logger.info("The limit of open files was raised from \(before) to \(now).") }
        let processors = ProcessInfo.processInfo.activeProcessorCount
        let workers = configuration.workers ?? processors
        let possible = now - DescriptorLimit.reserve(workers: workers, processors: processors)
        guard possible >= DescriptorLimit.fewestConnections else {
            throw StartError(
                description: "The limit of open files is \(now), and at least "
                    + "\(now - possible + DescriptorLimit.fewestConnections) are needed: raise it (ulimit -n, LimitNOFILE)."
            )
        }
        let wanted = configuration.limits.httpConnections
        if possible < wanted {
            logger.warning(
                "limits.httpConnections is \(wanted), but the limit of open files, \(now), has room for \(possible)."
            )
        }
        return min(wanted, possible)
    }

    private func clientAddresses(_ authorizer: Authorizer) -> ClientAddress {
        let proxies = TrustedProxies(configuration.trustedProxies)
        return ClientAddress(
            connections: ClientConnections(
                limit: configuration.limits.peersPerAddress * configuration.limits.httpConnectionsPerPeer,
                unwelcomePerSecond: configuration.limits.unwelcomeConnectionsPerSecond,
                proxies: proxies,
                isUnwelcome: { authorizer.refusesTokens(of: $0) }
            ),
            proxies: proxies
        )
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
            announced: announcedAddresses(),
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
        addresses: ClientAddress,
        authorizer: Authorizer,
        limiter: RateLimiter
    ) throws -> HTTPServerBuilder {
        let backlog = ControlBacklog(maximumBytes: configuration.limits.controlBacklogBytes)
        let http1 = HTTPServerBuilder { [configuration, logger] responder in
            ControlChannel(
                responder: responder,
                addresses: addresses,
                limits: configuration.limits,
                allowedOrigins: configuration.allowedOrigins
            ) { webSocket in
                await ControlSession(
                    directory: directory,
                    configuration: configuration,
                    authorizer: authorizer,
                    limiter: limiter,
                    backlog: backlog,
                    connections: addresses.connections,
                    logger: logger,
                    address: webSocket.address,
                    size: webSocket.size
                ).run(webSocket.channel)
            }
        }
        guard let files = configuration.tls else { return http1 }
        do {
            return try .tls(http1, tlsConfiguration: files.load())
        } catch let error as TLSFilesError {
            throw StartError(description: "http.tls: found \(error.reason).")
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
