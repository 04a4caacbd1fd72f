public import ArgumentParser
public import Control
import Foundation

@main
struct Sluice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice",
        abstract: "A selective forwarding unit for WebRTC: publish once, watch from everywhere.",
        subcommands: [Serve.self, CheckConfig.self, Token.self, Version.self]
    )
}

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run the server until SIGTERM or SIGINT.")

    @Option(help: "A YAML or JSON file; see Configs/ for examples.")
    var config: String?
    @Option(help: "Where HTTP is served, HOST:PORT.")
    var httpListen: String?
    @Option(help: "The address that media is received on.")
    var mediaListen: String?
    @Option(help: "The first worker's UDP port; each further worker has the next.")
    var mediaPort: String?
    @Option(help: "An address that clients reach the media ports by; may be given more than once.")
    var announce: [String] = []
    @Option(help: "Worker threads, 1 to 64; one per processor if not given.")
    var workers: String?
    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel: String?

    func run() async throws {
        var flags = ConfigurationFlags()
        flags.httpListen = httpListen
        flags.mediaListen = mediaListen
        flags.mediaPort = mediaPort
        flags.announce = announce
        flags.workers = workers
        flags.logLevel = logLevel
        do {
            let configuration = try ServerConfiguration.load(
                file: config,
                environment: ProcessInfo.processInfo.environment,
                flags: flags
            )
            let server = Server(configuration: configuration, logger: LogSetup.makeLogger(configuration))
            try await server.run { page in
                LineOutput.standardOutput.write("Sluice is ready: open \(page)")
            }
            LineOutput.standardError.flush()
        } catch let error as ConfigurationError {
            try fail("The configuration can't be used:\n\(error)")
        } catch let error as StartError {
            try fail("\(error)")
        }
    }
}

struct CheckConfig: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Check a configuration file: exit 0, or exit 1 and one line for each problem."
    )

    @Argument(help: "The file.")
    var file: String

    func run() throws {
        do throws(ConfigurationError) {
            let configuration = try ServerConfiguration.load(
                file: file,
                environment: ProcessInfo.processInfo.environment
            )
            for warning in configuration.warnings { LineOutput.standardError.write(warning) }
            LineOutput.standardError.flush()
        } catch {
            try fail("\(error)")
        }
    }
}

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a token, signed with auth.secret, that lets its bearer publish or watch."
    )

    @Option(help: "view, publish, host or operator.")
    var role: AccessRole
    @Option(help: "The one room that it is for.")
    var room: String?
    @Option(help: "The one stream that it is for.")
    var stream: String?
    @Option(help: "How long it is valid: 90s, 15m, 1h, 7d.")
    var ttl = "1h"
    @Option(help: "The privacy mode that the room has to be in: transport or e2ee.")
    var privacy: String?
    @Flag(help: "Its expiry also ends what it began.")
    var endsCalls = false
    @Option(help: "The file that has auth.secret; else SLUICE_AUTH_SECRET or SLUICE_AUTH_SECRET_FILE is used.")
    var config: String?

    func validate() throws {
        for (name, value) in [("--room", room), ("--stream", stream)] {
            if let value, ResourceIdentifier(value) == nil {
                throw ValidationError("\(name) has 1 to 128 letters, digits, - or _, and is no name of a fixed path")
            }
        }
        if role == .operator, room != nil || stream != nil {
            throw ValidationError(
                "--role operator is for the whole server: without --room and --stream, or use --role host"
            )
        }
        if let privacy, !TokenKeys.privacyModes.contains(privacy) {
            throw ValidationError("--privacy is \(TokenKeys.privacyModes.joined(separator: " or "))")
        }
        if Self.seconds(ttl) == nil { throw ValidationError("--ttl is a time such as 90s, 15m, 1h or 7d") }
    }

    func run() async throws {
        do {
            let configuration = try ServerConfiguration.load(
                file: config,
                environment: ProcessInfo.processInfo.environment
            )
            guard let secret = configuration.tokenSecret, let seconds = Self.seconds(ttl) else {
                try fail("auth.secret: found nothing, expected the secret that signs tokens (or SLUICE_AUTH_SECRET)")
            }
            let token = try await TokenKeys(secret: secret, audience: configuration.tokenAudience).sign(
                role: role,
                room: room,
                stream: stream,
                privacy: privacy,
                endsCalls: endsCalls,
                expires: Date(timeIntervalSinceNow: seconds)
            )
            print(token)
        } catch let error as ConfigurationError {
            try fail("The configuration can't be used:\n\(error)")
        }
    }

    private static func seconds(_ text: String) -> Double? {
        let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        guard let unit = text.last.flatMap({ units[$0] }), let value = Double(text.dropLast()), value > 0,
            value * unit < 1e10
        else { return nil }
        return value * unit
    }
}

extension AccessRole: ExpressibleByArgument {}

struct Version: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the version.")

    func run() { print("sluice \(SluiceVersion.text)") }
}

/// Says on standard error what went wrong, and ends with status 1.
private func fail(_ message: String) throws -> Never {
    LineOutput.standardError.write(message)
    LineOutput.standardError.flush()
    throw ExitCode(1)
}
