import Foundation
import HTTPTypes
import Hummingbird

/// The web pages and their parts, read once at start.
struct WebAssets: Sendable {
    private struct Asset: Sendable {
        let bytes: ByteBuffer
        let type: String
        let tag: String

        init(_ data: Data, type: String) {
            bytes = ByteBuffer(bytes: data)
            self.type = type
            // FNV-1a: a tag has to change with the content, not to withstand anybody.
            let hash = data.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
            tag = "\"\(String(hash, radix: 36))\""
        }
    }

    /// Where scripts, styles and connections of our pages may go: to this server only.
    private static let contentSecurityPolicy = """
        default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
        connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
        """
    private static let types = [
        "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    ]

    private let assets: [String: Asset]

    /// - Returns: Nil when the folder can't be read, or holds no index page.
    init?(folder: String) {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else { return nil }
        var assets: [String: Asset] = [:]
        for name in names {
            guard let type = name.split(separator: ".").last.flatMap({ Self.types[String($0)] }),
                let data = FileManager.default.contents(atPath: "\(folder)/\(name)")
            else { continue }
            assets[name] = Asset(data, type: type)
        }
        // One module for whoever uses the SDK, several files for whoever reads it.
        if let data = Self.sdk(in: folder) { assets["sluice.js"] = Asset(data, type: Self.types["js"] ?? "") }
        guard assets["index.html"] != nil else { return nil }
        self.assets = assets
    }

    /// What the encryption's worker is made of.
    private static let workerParts: Set = ["frames.js", "sframe.js", "worker.js"]

    /// `sluice.js`, whose parts are joined in the order of their names. Behind them stands the worker's code once more as text: wherever a
    /// bundler puts the module, it can start that, and not itself.
    private static func sdk(in folder: String) -> Data? {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/sdk") else { return nil }
        var parts: [Data] = []
        var worker: [Data] = []
        for name in names.filter({ $0.hasSuffix(".js") }).sorted() {
            guard let part = FileManager.default.contents(atPath: "\(folder)/sdk/\(name)") else { return nil }
            parts.append(part)
            if workerParts.contains(name) { worker.append(part) }
        }
        let newline = Data("\n".utf8)
        let source = String(decoding: Data(worker.joined(separator: newline)), as: UTF8.self)
        guard let text = try? JSONEncoder().encode(source) else { return nil }
        parts.append(Data("const WORKER_SOURCE = ".utf8) + text + Data(";".utf8))
        return Data(parts.joined(separator: newline))
    }

    /// The folder beside the program that the package's build puts them into. Not `Bundle.module`, which would trap where it
    /// is missing and the operator should be told.
    static var builtFolder: String {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("sluice_Control.resources/Web").path
    }

    /// A file by its name; nil when there is none.
    func response(_ name: String, ifNoneMatch: String?) -> Response? {
        guard let asset = assets[name] else { return nil }
        var headers: HTTPFields = [
            .contentType: asset.type,
            .cacheControl: "no-cache",
            .eTag: asset.tag,
            .xContentTypeOptions: "nosniff",
        ]
        headers[.contentSecurityPolicy] = Self.contentSecurityPolicy
        headers[.referrerPolicy] = "no-referrer"
        headers[.permissionsPolicy] = "camera=(self), microphone=(self), display-capture=(self)"
        if ifNoneMatch == asset.tag { return Response(status: .notModified, headers: headers) }
        return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: asset.bytes))
    }
}

extension HTTPField.Name {
    static let referrerPolicy = Self("Referrer-Policy")!
    static let permissionsPolicy = Self("Permissions-Policy")!
    static let sluicePrivacy = Self("Sluice-Privacy")!
    static let whep = Self("WHEP")!
    static let acceptPost = Self("Accept-Post")!
    static let acceptPatch = Self("Accept-Patch")!
    static let link = Self("Link")!
}
