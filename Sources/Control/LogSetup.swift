import Foundation
public import Logging

/// The one logger set-up.
public enum LogSetup {
    /// - Returns: A logger that writes to standard error.
    public static func makeLogger(_ configuration: ServerConfiguration) -> Logger {
        let format = configuration.logFormat
        var logger = Logger(label: "sluice") { label in
            switch format {
            case .text: StreamLogHandler.standardError(label: label)
            case .json: JSONLogHandler()
            }
        }
        logger.logLevel = configuration.logLevel
        return logger
    }
}

/// One JSON object a line.
private struct JSONLogHandler: LogHandler {
    private struct Line: Encodable {
        let time: Date
        let level: String
        let message: String
        let metadata: [String: String]
    }

    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = self.metadata.merging(event.metadata ?? [:]) { $1 }
        let line = Line(
            time: Date(),
            level: event.level.rawValue,
            message: event.message.description,
            metadata: all.mapValues(\.description)
        )
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = .sortedKeys
        guard var data = try? encoder.encode(line) else { return }
        data.append(0x0A)
        FileHandle.standardError.write(data)
    }
}
