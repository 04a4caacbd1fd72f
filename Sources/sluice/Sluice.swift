import ArgumentParser
import Control
import Foundation

@main
struct Sluice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice",
        abstract: "A selective forwarding unit for WebRTC: publish once, watch from everywhere.",
        subcommands: [Serve.self, CheckConfig.self, Version.self]
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
                // Not print, which holds lines back when the output is a pipe.
                FileHandle.standardOutput.write(Data("Sluice is ready: open \(page)\n".utf8))
            }
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
            _ = try ServerConfiguration.load(file: file)
        } catch {
            try fail("\(error)")
        }
    }
}

struct Version: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the version.")

    func run() { print("sluice \(SluiceVersion.text)") }
}

/// Says on standard error what went wrong, and ends with status 1.
private func fail(_ message: String) throws -> Never {
    FileHandle.standardError.write(Data("\(message)\n".utf8))
    throw ExitCode(1)
}
