import Commands
import Control
import Foundation
import Testing
import Wire

@Suite struct ConfigurationTests {
    private func load(_ yaml: String, environment: [String: String] = [:]) throws -> ServerConfiguration {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-\(UUID()).yaml")
        try Data(yaml.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        return try ServerConfiguration.load(file: file.path, environment: environment)
    }

    private func problems(_ yaml: String, environment: [String: String] = [:]) -> [String] {
        do {
            _ = try load(yaml, environment: environment)
            return []
        } catch let error as ConfigurationError {
            return error.problems.map(\.key)
        } catch {
            return ["\(error)"]
        }
    }

    @Test func nothingIsAConfiguration() throws {
        let configuration = try load("# only a comment\n")
        #expect(configuration.httpPort == 8080 && configuration.mediaPort == 40_000)
        #expect(configuration.authorization == .open)
    }

    @Test func laterSourcesWin() throws {
        let yaml = "http: { listen: \"127.0.0.1:1000\" }\nmedia: { port: 5000, workers: 3 }\n"
        var flags = ConfigurationFlags()
        flags.mediaPort = "7000"
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-\(UUID()).yaml")
        try Data(yaml.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let configuration = try ServerConfiguration.load(
            file: file.path,
            environment: ["SLUICE_MEDIA_PORT": "6000", "SLUICE_HTTP_LISTEN": "127.0.0.1:2000"],
            flags: flags
        )
        #expect(configuration.mediaPort == 7000)
        #expect(configuration.httpPort == 2000)
        #expect(configuration.workers == 3)
    }

    @Test func jsonIsReadToo() throws {
        let json = #"{"media": {"announce": ["192.0.2.1", "2001:db8::1"]}, "limits": {"consent": "20s", "peers": 5}}"#
        let configuration = try load(json)
        #expect(configuration.announce.map(\.description) == ["192.0.2.1", "2001:db8::1"])
        #expect(configuration.limits.consent == .seconds(20) && configuration.limits.peers == 5)
    }

    @Test func everyProblemIsNamed() {
        #expect(
            problems(
                """
                http: { listen: nonsense, tls: { certificate: /nowhere.pem } }
                media: { port: 80, listen: example.org, workers: 0, unknown: 1 }
                limits: { peers: many }
                log: { level: loud }
                """
            ) == [
                "http.listen", "http.tls.privateKey", "limits.peers", "log.level", "media.listen", "media.port",
                "media.unknown", "media.workers",
            ]
        )
        #expect(problems("auth: { operatorToken: [a], secret: [b], publicKeys: { c: d } }\n").count == 3)
        #expect(problems("auth: { operatorToken: replace-me-with-something-long }\n") == ["auth.operatorToken"])
        #expect(problems("- a\n- list\n").count == 1)
        #expect(problems("http: [unclosed\n").count == 1)
    }

    /// Kubernetes sets variables that begin like ours.
    @Test func unknownVariablesAreTold() throws {
        let configuration = try load(
            "",
            environment: ["SLUICE_PORT": "tcp://10.0.0.1:80", "SLUICE_LOG_LEVEL": "debug"]
        )
        #expect(configuration.warnings.count == 1 && configuration.warnings[0].hasPrefix("SLUICE_PORT:"))
        #expect(!configuration.warnings[0].contains("10.0.0.1"))
    }

    @Test func proxiesAndAudiencesAreRead() throws {
        let yaml = "http: { trustedProxies: [127.0.0.1, \"fd00::/8\"] }\nauth: { audience: sluice }\n"
        let configuration = try load(yaml)
        #expect(configuration.trustedProxies.count == 2 && configuration.tokenAudience == ["sluice"])
        let many = try load("", environment: ["SLUICE_AUTH_AUDIENCE": "one, two"])
        #expect(many.tokenAudience == ["one", "two"])
    }

    @Test func listeningToOthersNeedsAMode() throws {
        #expect(problems("http: { listen: \"0.0.0.0:8080\" }\n") == ["auth.mode"])
        #expect(problems("media: { listen: 0.0.0.0 }\n") == ["auth.mode"])
        #expect(problems("media: { listen: 0.0.0.0 }\nauth: { mode: open }\n") == ["auth.mode"])
        #expect(problems("media: { listen: 0.0.0.0 }\nauth: { mode: token }\n") == ["auth.operatorToken"])
        let configuration = try load(
            "media: { listen: \"::\" }\nauth: { mode: token, operatorToken: 0123456789abcdef }\n"
        )
        #expect(configuration.authorization == .token)
    }

    /// But for the token in them, which is everybody's.
    @Test func theExamplesAreAccepted() throws {
        let folder = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Configs")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        #expect(!files.isEmpty)
        for file in files {
            let configuration = try ServerConfiguration.load(
                file: folder.appendingPathComponent(file).path,
                environment: ["SLUICE_AUTH_OPERATOR_TOKEN": "a-token-of-my-own-making"]
            )
            #expect(configuration.warnings.isEmpty)
        }
    }
}
