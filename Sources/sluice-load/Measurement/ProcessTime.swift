import Foundation

/// CPU time that a process has used, all its threads together.
struct ProcessTime: Sendable {
    /// `utime + stime`, in seconds.
    var seconds: Double
    /// Resident memory in bytes.
    var residentBytes: Int

    /// - Throws: When there is no such process.
    init(process: Int32) throws(LoadError) {
        guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
            let fields = text.split(separator: ")").last?.split(separator: " "), fields.count > 22,
            let user = Double(fields[11]), let system = Double(fields[12]), let pages = Int(fields[21])
        else { throw LoadError("there is no process \(process): give the server's process id") }
        seconds = (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
        residentBytes = pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
}
