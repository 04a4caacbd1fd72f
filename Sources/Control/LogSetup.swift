import Dispatch
import Foundation
public import Logging
import Worker

/// The one logger set-up.
public enum LogSetup {
    /// - Returns: A logger that writes to standard error.
    public static func makeLogger(_ configuration: ServerConfiguration) -> Logger {
        let format = configuration.logFormat
        var logger = Logger(label: "sluice") { _ in LineLogHandler(format: format, output: .standardError) }
        logger.logLevel = configuration.logLevel
        return logger
    }
}

/// Standard output or standard error, to which nobody has to listen: a full disk, a closed pipe or a reader that stands still loses
/// lines, and holds nothing up.
public final class LineOutput: Sendable {
    public static let standardOutput = LineOutput(STDOUT_FILENO)
    public static let standardError = LineOutput(STDERR_FILENO)

    /// What waits for a reader at most, in bytes; further lines are left out, and counted.
    private static let maximumWaiting = 1 << 20

    private struct State: Sendable {
        var waiting = 0
        var leftOut = 0
    }

    private let descriptor: Int32
    private let queue = DispatchQueue(label: "sluice.output")
    private let state = Locked(State())

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// Writes a line behind those that wait.
    public func write(_ line: String) { write(Array("\(line)\n".utf8)) }

    func write(_ line: [UInt8]) {
        let isAdmitted = state.withLock { state in
            guard state.waiting + line.count <= Self.maximumWaiting else {
                state.leftOut += 1
                return false
            }
            state.waiting += line.count
            return true
        }
        guard isAdmitted else { return }
        queue.async { [self] in
            put(line)
            let leftOut = state.withLock { state in
                state.waiting -= line.count
                defer { state.leftOut = 0 }
                return state.leftOut
            }
            if leftOut > 0 { put(Array("\(leftOut) lines were left out here: nobody read them.\n".utf8)) }
        }
    }

    /// Waits until all is written, but not for long.
    public func flush() {
        let group = DispatchGroup()
        queue.async(group: group) {}
        _ = group.wait(timeout: .now() + .milliseconds(200))
    }

    private func put(_ bytes: [UInt8]) {
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes {
                Foundation.write(descriptor, $0.baseAddress! + written, $0.count - written)
            }
            if count > 0 {
                written += count
            } else if count < 0, errno == EINTR {
                continue
            } else if count < 0, errno == EAGAIN {
                // Somebody else made it so: wait until there is room.
                var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                if poll(&ready, 1, 1000) < 0, errno != EINTR { return }
            } else {
                return
            }
        }
    }
}

/// One line for each event: as text, or as a JSON object.
struct LineLogHandler: LogHandler {
    private struct Line: Encodable {
        let time: Date
        let level: String
        let message: String
        let metadata: [String: String]
    }

    let format: ServerConfiguration.LogFormat
    let output: LineOutput
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    init(format: ServerConfiguration.LogFormat, output: LineOutput) {
        self.format = format
        self.output = output
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = self.metadata.merging(event.metadata ?? [:]) { $1 }
        switch format {
        case .text:
            let fields = all.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
            output.write("\(Date().formatted(.iso8601)) \(event.level.rawValue) sluice:\(fields) \(event.message)")
        case .json:
            let line = Line(
                time: Date(),
                level: event.level.rawValue,
                message: event.message.description,
                metadata: all.mapValues(\.description)
            )
            let encoder = JSONEncoder()
            encoder.dateEncodingStrategy = .iso8601
            encoder.outputFormatting = .sortedKeys
            guard let data = try? encoder.encode(line) else { return }
            output.write(Array(data) + [0x0A])
        }
    }
}
