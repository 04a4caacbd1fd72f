/// Why text is not a session description that we read (RFC 8866).
public enum SDPError: Error, Sendable, Hashable {
    /// More bytes than a description may have.
    case tooLong(maximum: Int)
    /// The text is not UTF-8, or holds a NUL.
    case notText
    /// A line is not `<letter>=<value>`. Lines count from 1.
    case badLine(Int)
    /// The first line is not `v=0`.
    case badVersion
    /// More m-lines than are allowed.
    case tooManyMediaSections(maximum: Int)
    /// More lines than are allowed.
    case tooManyLines(maximum: Int)
    /// More attributes before the first m-line, or in the m-line that this line is of, than are allowed.
    case tooManyAttributes(maximum: Int, line: Int)
    /// An m-line has no kind, port, protocol and format.
    case badMediaLine(Int)
    /// A required line is missing: `o=`, or `v=`.
    case missing(String)
}
