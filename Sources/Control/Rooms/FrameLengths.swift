/// Follows the frames of RFC 6455 §5.2 in a client's bytes, without keeping them, and adds up how long each message is.
struct FrameLengths {
    private enum State {
        /// In a frame's header, of which these bytes are there: fourteen at most.
        case header([UInt8])
        /// So many bytes of a frame are still to come.
        case payload(UInt64)
    }

    private var state = State.header([])
    /// What the message has until now, whose last fragment is still to come.
    private var messageBytes: UInt64 = 0

    /// Takes what came in.
    ///
    /// - Returns: Whether no message is longer than the maximum.
    mutating func take(_ bytes: some Collection<UInt8>, maximum: Int) -> Bool {
        var rest = bytes[...]
        while let first = rest.first {
            switch state {
            case .header(let read):
                var header = read
                header.append(first)
                rest = rest.dropFirst()
                guard let (length, isData, isFinal) = Self.frame(header) else {
                    state = .header(header)
                    continue
                }
                let (sum, overflows) = (isData ? messageBytes : 0).addingReportingOverflow(length)
                guard !overflows, sum <= UInt64(maximum) else { return false }
                if isData { messageBytes = isFinal ? 0 : sum }
                state = length == 0 ? .header([]) : .payload(length)
            case .payload(let left):
                let taken = rest.prefix(Int(clamping: left)).count
                rest = rest.dropFirst(taken)
                state = left == UInt64(taken) ? .header([]) : .payload(left - UInt64(taken))
            }
        }
        return true
    }

    /// What a whole header says: the payload's length, whether it is a message's, and its last; nil while bytes are missing.
    private static func frame(_ header: [UInt8]) -> (length: UInt64, isData: Bool, isFinal: Bool)? {
        guard header.count >= 2 else { return nil }
        let extended = header[1] & 0x7F == 126 ? 2 : header[1] & 0x7F == 127 ? 8 : 0
        guard header.count == 2 + extended + (header[1] & 0x80 == 0 ? 0 : 4) else { return nil }
        let length =
            extended == 0
            ? UInt64(header[1] & 0x7F) : header[2..<(2 + extended)].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        // §5.5: opcodes from 8 on are control frames, which come between a message's fragments.
        return (length, header[0] & 0x08 == 0, header[0] & 0x80 != 0)
    }
}
