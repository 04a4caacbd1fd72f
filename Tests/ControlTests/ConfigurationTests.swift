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

    /// They say who may do what: without them the server would start open.
    @Test(arguments: [
        ("SLUICE_AUTH_MOD", "SLUICE_AUTH_MODE"), ("SLUICE_AUTH_OPERATORTOKEN", "SLUICE_AUTH_OPERATOR_TOKEN"),
        ("SLUICE_AUHT_MODE", "SLUICE_AUTH_MODE"), ("SLUICE_AUTHMODE", "SLUICE_AUTH_MODE"),
        ("SLUICE_PRIVACY_MODE", "SLUICE_PRIVACY_DEFAULT_MODE"),
        ("SLUICE_AUTH_SECRETFILE", "SLUICE_AUTH_SECRET_FILE"), ("SLUICE_AUTH_PORT_8080_TLS", "SLUICE_AUTH"),
        ("SLUICE_AUTH_", "SLUICE_AUTH"),
        ("SLUICE_AUTH_MODE_FILE", "SLUICE_AUTH_MODE"),
        ("SLUICE_AUTH_\(String(repeating: "X", count: 500))", "that exists:"),
    ])
    func misspeltVariablesThatMatterStopTheStart(name: String, suggestion: String) {
        let error = #expect(throws: ConfigurationError.self) { try load("", environment: [name: "token-of-mine"]) }
        #expect(error?.problems.map(\.key) == [name])
        #expect(error?.description.contains("exists") == true && error?.description.contains("token-of-mine") == false)
        #expect(error?.problems.first?.expected.contains(suggestion) == true)
    }

    /// A Service called sluice, and others beside it.
    @Test(arguments: [
        "SLUICE_PORT", "SLUICE_SERVICE_HOST", "SLUICE_SERVICE_PORT", "SLUICE_SERVICE_PORT_HTTP_ALT",
        "SLUICE_PORT_8080_TCP", "SLUICE_PORT_8080_TCP_PROTO", "SLUICE_PORT_8080_TCP_PORT",
        "SLUICE_PORT_8080_TCP_ADDR", "SLUICE_HTTP_PORT", "SLUICE_HTTP_SERVICE_HOST", "SLUICE_HTTP_SERVICE_PORT",
        "SLUICE_HTTP_SERVICE_PORT_WEB", "SLUICE_HTTP_PORT_80_TCP", "SLUICE_HTTP_PORT_80_TCP_ADDR",
        "SLUICE_HTTP_PORT_40000_UDP", "SLUICE_HTTP_PORT_9_SCTP_PROTO", "SLUICE_AUTH_PORT",
        "SLUICE_AUTH_PROXY_SERVICE_HOST", "SLUICE_MEDIA_PORT_40000_UDP_PORT", "SLUICE_TYPO", "SLUICE_LOG_LEVL",
        "SLUICE_HTTP_ALLOWED_ORIGIN", "SLUICE_CLUSTER_SECRET",
    ])
    func othersAreOnlyTold(name: String) throws {
        let configuration = try load("", environment: [name: "tcp://10.0.0.1:80"])
        #expect(configuration.warnings.map { $0.hasPrefix("\(name):") } == [true])
    }

    @Test(arguments: ["", "\n", "\r\n", "\n\n"])
    func secretsAreReadFromFiles(end: String) throws {
        let secret = "0123456789abcdef 0123456789ABCDEF"
        try withFile(Data((secret + end).utf8)) { path in
            let configuration = try load(
                "auth: { mode: token, secret: another-secret-of-32-characters-or-more }\n",
                environment: ["SLUICE_AUTH_SECRET_FILE": path, "SLUICE_AUTH_OPERATOR_TOKEN_FILE": path]
            )
            #expect(configuration.tokenSecret == secret && configuration.operatorToken == secret)
            #expect(configuration.warnings.isEmpty)
        }
    }

    @Test func secretsInFilesAreChecked() throws {
        for (text, found) in [
            ("short\n", "5 characters"), ("\n", "0 characters"), ("replace-me-replace-me", "the word"),
        ] {
            try withFile(Data(text.utf8)) { path in
                let error = #expect(throws: ConfigurationError.self) {
                    try load("", environment: ["SLUICE_AUTH_OPERATOR_TOKEN_FILE": path])
                }
                #expect(error?.problems.map(\.key) == ["auth.operatorToken"])
                #expect(error?.problems.first?.found.hasPrefix(found) == true)
            }
        }
    }

    @Test func filesOfSecretsThatCannotBeUsedStopTheStart() throws {
        let mode = "auth: { mode: token }\n"
        for path in ["/nowhere/at-all", "/", ""] {
            #expect(problems(mode, environment: ["SLUICE_AUTH_SECRET_FILE": path]) == ["SLUICE_AUTH_SECRET_FILE"])
        }
        try withFile(Data([0xFF, 0xFE, 0x00])) { path in
            #expect(problems(mode, environment: ["SLUICE_AUTH_SECRET_FILE": path]) == ["SLUICE_AUTH_SECRET_FILE"])
        }
        try withFile(Data("the-token-of-a-file".utf8)) { path in
            let both = ["SLUICE_AUTH_OPERATOR_TOKEN": "a-token-of-my-own", "SLUICE_AUTH_OPERATOR_TOKEN_FILE": path]
            let error = #expect(throws: ConfigurationError.self) { try load(mode, environment: both) }
            #expect(error?.problems.map(\.key) == ["SLUICE_AUTH_OPERATOR_TOKEN_FILE"])
            #expect(error?.description.contains("SLUICE_AUTH_OPERATOR_TOKEN as well") == true)
        }
        // What is no secret has no such variable.
        #expect(problems("", environment: ["SLUICE_AUTH_MODE_FILE": "/dev/null"]) == ["SLUICE_AUTH_MODE_FILE"])
    }

    private func withFile(_ data: Data, _ body: (String) throws -> Void) throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-\(UUID())")
        try data.write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        try body(file.path)
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
