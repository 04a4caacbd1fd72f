import Foundation

/// What Linux says about this process (proc(5)). What can't be read is 0.
struct ProcessMetrics: Sendable {
    let cpuSeconds: Double
    let residentBytes: Int
    let virtualBytes: Int
    /// Since the Unix epoch.
    let startSeconds: Double
    let openDescriptors: Int
    let maximumDescriptors: Int
    let threads: Int

    static var current: ProcessMetrics {
        let text = (try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8)) ?? ""
        // The second field is the program's name in parentheses, which may hold spaces.
        let fields = text.split(separator: ")").last.map { $0.split(separator: " ") } ?? []
        // Counted from field 3, the first behind the name.
        func field(_ number: Int) -> Double {
            fields.indices.contains(number - 3) ? Double(fields[number - 3]) ?? 0 : 0
        }
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0
        return ProcessMetrics(
            cpuSeconds: (field(14) + field(15)) / ticks,
            residentBytes: Int(field(24)) * sysconf(Int32(_SC_PAGESIZE)),
            virtualBytes: Int(field(23)),
            startSeconds: bootSeconds + field(22) / ticks,
            openDescriptors: descriptors,
            maximumDescriptors: DescriptorLimit.current,
            threads: Int(field(20))
        )
    }

    private static let bootSeconds: Double = {
        let text = (try? String(contentsOfFile: "/proc/stat", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("btime ") }
        return line.flatMap { Double($0.dropFirst(6)) } ?? 0
    }()
}
