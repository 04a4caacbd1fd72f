// swift-tools-version: 6.2
import PackageDescription

// One target a layer; a target may import only what is listed for it here. `Docs/Architecture.md` draws the picture,
// `Tests/ArchitectureTests` holds the code to it.

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

func layer(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: strict)
}

// intel-ipsec-mb is made for this architecture only; elsewhere OpenSSL does what it would (Decision 005).
#if arch(x86_64)
let ipsecMB: [Target.Dependency] = ["CIPsecMB"]
let ipsecMBTargets: [Target] = [.systemLibrary(name: "CIPsecMB", providers: [.apt(["libipsec-mb-dev"])])]
#else
let ipsecMB: [Target.Dependency] = []
let ipsecMBTargets: [Target] = []
#endif

let package = Package(
    name: "sluice",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "sluice", targets: ["sluice"]),
        .executable(name: "sluice-load", targets: ["sluice-load"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.34.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.0"),
    ],
    targets: ipsecMBTargets + [
        // C libraries: module maps and header-only shims, no logic.
        .systemLibrary(name: "CLibuv", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CLibsrtp", pkgConfig: "libsrtp2", providers: [.apt(["libsrtp2-dev"])]),
        .systemLibrary(name: "CLinux"),

        // The layers, from the lowest to the highest.
        layer("Wire", []),
        layer("Commands", ["Wire"]),
        layer("Negotiation", ["Commands", "Wire"]),
        layer("Transport", ipsecMB + ["COpenSSL", "Wire"]),
        layer("Forwarding", ["Commands", "Transport", "Wire"]),
        layer("Worker", ["CLibuv", "CLinux", "Commands", "Forwarding", "Transport", "Wire"]),
        layer(
            "Control",
            [
                "Commands", "Negotiation", "Transport", "Wire", "Worker",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"),
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
            ],
            resources: [.copy("Web")]
        ),
        .executableTarget(
            name: "sluice",
            dependencies: [
                "Control",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict
        ),

        .executableTarget(
            name: "sluice-load",
            dependencies: [
                "CLinux", "Transport", "Wire",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),

        .executableTarget(
            name: "ForwardingBenchmark",
            dependencies: ["Commands", "Forwarding", "Simulation", "Transport", "Wire"],
            path: "Benchmarks/ForwardingBenchmark",
            swiftSettings: strict
        ),

        tests("WireTests", ["Wire"]),
        tests("NegotiationTests", ["Commands", "Negotiation", "Wire"]),
        tests("TransportTests", ["CLibsrtp", "COpenSSL", "Transport", "Wire"]),
        // Engines and clients on a virtual clock, for tests and benchmarks.
        .target(
            name: "Simulation",
            dependencies: ["Commands", "Forwarding", "Transport", "Wire"],
            path: "Tests/Simulation",
            swiftSettings: strict
        ),
        tests("ForwardingTests", ["Commands", "Forwarding", "Simulation", "Transport", "Wire"]),
        tests("WorkerTests", ["Commands", "Forwarding", "Transport", "Wire", "Worker"]),
        tests(
            "ControlTests",
            [
                "Commands", "Control", "Negotiation", "Wire", "Worker",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdTesting", package: "hummingbird"),
            ]
        ),
        tests("ArchitectureTests", []),
    ]
)
