import Foundation
import Testing

/// A layer imports only what stands below it: what `Docs/Architecture.md` says, held against the source.
@Suite struct LayerTests {
    /// What each target of ours may import of ours and of the C libraries.
    static let allowed: [String: Set<String>] = [
        "Wire": [],
        "Commands": ["Wire"],
        "Negotiation": ["Commands", "Wire"],
        "Transport": ["CIPsecMB", "COpenSSL", "Wire"],
        "Forwarding": ["Commands", "Transport", "Wire"],
        "Worker": ["CLibuv", "CLinux", "Commands", "Forwarding", "Transport", "Wire"],
        "Control": ["Commands", "Negotiation", "Transport", "Wire", "Worker"],
        "sluice": ["Control"],
        "sluice-load": ["CLinux", "Transport", "Wire"],
    ]
    /// From Forwarding down nothing reads a clock, opens a socket or starts a thread: so not even the C library is imported.
    static let sansIO: Set<String> = ["Wire", "Commands", "Negotiation", "Transport", "Forwarding"]
    /// What of others those may import.
    static let pure: Set<String> = ["Synchronization"]

    static let sources = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Sources")

    static func imports(of target: String) throws -> [(file: String, module: String)] {
        let folder = sources.appendingPathComponent(target)
        let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
        var imports: [(String, String)] = []
        while let file = files?.nextObject() as? URL {
            guard file.pathExtension == "swift" else { continue }
            for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
                let words = line.split(separator: " ")
                guard let place = words.firstIndex(of: "import"), place <= 2,
                    words[..<place].allSatisfy({ ["public", "internal", "private", "@_exported"].contains($0) }),
                    let module = words.last
                else { continue }
                imports.append((file.lastPathComponent, String(module)))
            }
        }
        return imports
    }

    @Test(arguments: allowed.keys.sorted())
    func importsOnlyLowerLayers(target: String) throws {
        let ours = Set(Self.allowed.keys).union(["CIPsecMB", "CLibuv", "COpenSSL", "CLibsrtp", "CLinux"])
        let imports = try Self.imports(of: target)
        #expect(!imports.isEmpty || target == "Wire", "no import was found in \(target): is the folder there?")
        for (file, module) in imports where ours.contains(module) {
            #expect(Self.allowed[target]?.contains(module) == true, "\(target)/\(file) imports \(module)")
        }
    }

    @Test(arguments: sansIO.sorted())
    func importsNoInputOrOutput(target: String) throws {
        let allowed = Self.pure.union(Self.allowed[target] ?? [])
        for (file, module) in try Self.imports(of: target) {
            #expect(allowed.contains(module), "\(target)/\(file) imports \(module)")
        }
    }
}
