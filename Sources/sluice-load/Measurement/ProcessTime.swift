import Foundation

/// CPU time that a process has used, all its threads together.
struct ProcessTime: Sendable {
    /// `utime + stime`, in seconds.
    var seconds: Double
    /// Resident memory in bytes.
    var residentBytes: Int
    /// The same of its threads, in seconds, by name; threads of one name together.
    var threads: [String: Double] = [:]

    /// - Throws: When there is no such process.
    init(process: Int32) throws(LoadError) {
        guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
            let fields = text.split(separator: ")").last?.split(separator: " "), fields.count > 22,
            let user = Double(fields[11]), let system = Double(fields[12]), let pages = Int(fields[21])
        else { throw LoadError("there is no process \(process): give the server's process id") }
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        seconds = (user + system) / ticks
        residentBytes = pages * Int(sysconf(Int32(_SC_PAGESIZE)))
        for thread in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? [] {
            guard let text = try? String(contentsOfFile: "/proc/\(process)/task/\(thread)/stat", encoding: .utf8),
                let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")")
            else { continue }
            let fields = text[close...].split(separator: " ")
            guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else { continue }
            threads[String(text[text.index(after: open)..<close]), default: 0] += (user + system) / ticks
        }
    }
}
