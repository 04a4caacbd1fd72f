/// Reads JSON as clients send it: RFC 8259, and as strict as I-JSON (RFC 7493) about what readers disagree on, such as halves of
/// surrogate pairs and numbers that no `Double` holds.
///
/// It walks over the bytes and builds nothing that isn't asked for, so that what a hostile message costs is bounded by its length;
/// and what clients send each other is passed on as they wrote it.
struct JSONReader {
    /// What is wrong with a text, and where.
    struct Malformed: Error {
        enum Reason: Equatable {
            case notUTF8
            case notJSON
            case tooDeep(maximum: Int)
            /// There is something else: what it has to be.
            case otherType(String)
            /// In other words.
            case other(String)
        }

        let reason: Reason
        /// Names and places in lists, from the outermost.
        let path: [String]
    }

    private let bytes: [UInt8]
    private let maximumDepth: Int
    private var position = 0
    private var depth = 0
    /// Of what is being read; where an error was found it stays.
    private var path: [String] = []

    /// - Parameter maximumDepth: How deep objects and arrays may be nested.
    init(_ bytes: [UInt8], maximumDepth: Int) throws(Malformed) {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw Malformed(reason: .notUTF8, path: []) }
        self.bytes = bytes
        self.maximumDepth = maximumDepth
    }

    // MARK: What is asked for

    /// Reads an object.
    ///
    /// - Parameter member: Reads the value of a name, whatever it is.
    mutating func readObject(_ member: (String, inout JSONReader) throws(Malformed) -> Void) throws(Malformed) {
        try expect(UInt8(ascii: "{"), "an object")
        try enter()
        var isFirst = true
        while try hasAnother(before: UInt8(ascii: "}"), isFirst: isFirst) {
            isFirst = false
            guard next() == UInt8(ascii: "\"") else { throw malformed(.notJSON) }
            let name = try readString()
            guard take(UInt8(ascii: ":")) else { throw malformed(.notJSON) }
            path.append(name)
            try member(name, &self)
            path.removeLast()
        }
        depth -= 1
    }

    /// Reads an object of which some names are known: the others are skipped, and one that is known may be there once, as readers
    /// disagree on which one counts.
    ///
    /// - Parameter member: Reads the value of a known name, whatever it is.
    mutating func readMembers(
        of names: Set<String>,
        _ member: (String, inout JSONReader) throws(Malformed) -> Void
    ) throws(Malformed) {
        var seen: Set<String> = []
        try readObject { name, reader throws(Malformed) in
            guard names.contains(name) else { return try reader.skip() }
            guard seen.insert(name).inserted else { throw reader.malformed(.other("is there twice")) }
            try member(name, &reader)
        }
    }

    /// Reads an array of what `element` reads.
    mutating func readArray<Element>(
        atMost count: Int,
        _ element: (inout JSONReader) throws(Malformed) -> Element
    ) throws(Malformed) -> [Element] {
        try expect(UInt8(ascii: "["), "an array")
        try enter()
        var list: [Element] = []
        while try hasAnother(before: UInt8(ascii: "]"), isFirst: list.isEmpty) {
            guard list.count < count else { throw malformed(.other("has at most \(count) entries")) }
            path.append(String(list.count))
            list.append(try element(&self))
            path.removeLast()
        }
        depth -= 1
        return list
    }

    mutating func readString() throws(Malformed) -> String {
        try expect(UInt8(ascii: "\""), "a string")
        let start = position
        while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
        if current == UInt8(ascii: "\"") {
            defer { position += 1 }
            return String(decoding: bytes[start..<position], as: UTF8.self)
        }
        var text = Array(bytes[start..<position])
        try readRest(into: &text)
        return String(decoding: text, as: UTF8.self)
    }

    mutating func readBool() throws(Malformed) -> Bool {
        switch next() {
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        default: throw malformed(.otherType("true or false"))
        }
        return bytes[position - 4] == UInt8(ascii: "t")
    }

    /// Reads a whole number that is not negative.
    mutating func readUnsigned() throws(Malformed) -> UInt64 {
        guard let first = next(), Self.startsNumber(first) else { throw malformed(.otherType("a number")) }
        let text = try readNumber()
        guard let number = UInt64(text) ?? Double(text).flatMap({ UInt64(exactly: $0) }) else {
            throw malformed(.otherType("a whole number"))
        }
        return number
    }

    /// Whether `null` comes next; it is read then.
    mutating func readNull() throws(Malformed) -> Bool {
        guard next() == UInt8(ascii: "n") else { return false }
        try word("null")
        return true
    }

    /// Whether what comes next is a string or a number.
    mutating func isStringOrNumber() -> Bool {
        guard let byte = next() else { return false }
        return byte == UInt8(ascii: "\"") || Self.startsNumber(byte)
    }

    /// Reads any value, and returns its text as it was written.
    mutating func readText() throws(Malformed) -> String {
        _ = next()
        let start = position
        try skip()
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    /// Reads any value, and checks that it is one.
    mutating func skip() throws(Malformed) {
        switch next() {
        case UInt8(ascii: "{"):
            position += 1
            try enter()
            var isFirst = true
            while try hasAnother(before: UInt8(ascii: "}"), isFirst: isFirst) {
                isFirst = false
                guard take(UInt8(ascii: "\"")) else { throw malformed(.notJSON) }
                try skipString()
                guard take(UInt8(ascii: ":")) else { throw malformed(.notJSON) }
                try skip()
            }
            depth -= 1
        case UInt8(ascii: "["):
            position += 1
            try enter()
            var isFirst = true
            while try hasAnother(before: UInt8(ascii: "]"), isFirst: isFirst) {
                isFirst = false
                try skip()
            }
            depth -= 1
        case UInt8(ascii: "\""):
            position += 1
            try skipString()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        case let byte? where Self.startsNumber(byte): _ = try readNumber()
        default: throw malformed(.notJSON)
        }
    }

    /// Nothing but white space may follow.
    mutating func finish() throws(Malformed) {
        guard next() == nil else { throw malformed(.notJSON) }
    }

    func malformed(_ reason: Malformed.Reason) -> Malformed { Malformed(reason: reason, path: path) }

    // MARK: Parts

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    /// The byte after white space, which is not taken.
    private mutating func next() -> UInt8? {
        while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
        return current
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next() == byte else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ byte: UInt8, _ type: String) throws(Malformed) {
        guard let found = next() else { throw malformed(.notJSON) }
        guard found == byte else { throw malformed(.otherType(type)) }
        position += 1
    }

    private mutating func enter() throws(Malformed) {
        depth += 1
        guard depth <= maximumDepth else { throw malformed(.tooDeep(maximum: maximumDepth)) }
    }

    /// Between two members or elements, or at the end, which is taken.
    private mutating func hasAnother(before end: UInt8, isFirst: Bool) throws(Malformed) -> Bool {
        if take(end) { return false }
        if isFirst || take(UInt8(ascii: ",")) { return true }
        throw malformed(.notJSON)
    }

    private mutating func word(_ word: StaticString) throws(Malformed) {
        let end = position + word.utf8CodeUnitCount
        let isThere = end <= bytes.count && word.withUTF8Buffer { $0.elementsEqual(bytes[position..<end]) }
        guard isThere else { throw malformed(.notJSON) }
        position = end
    }

    private static func startsNumber(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "-") || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    /// A number of so many digits and nothing else is one that a `Double` holds.
    private static let plainDigits = 300

    /// RFC 8259 §6.
    private mutating func readNumber() throws(Malformed) -> String {
        let start = position
        if current == UInt8(ascii: "-") { position += 1 }
        if current == UInt8(ascii: "0") { position += 1 } else { try digits() }
        let isPlain = position - start <= Self.plainDigits
        let integerEnd = position
        if current == UInt8(ascii: ".") {
            position += 1
            try digits()
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            position += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            try digits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isPlain, position == integerEnd { return text }
        guard let number = Double(text), number.isFinite else {
            throw malformed(.other("is a number that is too large"))
        }
        return text
    }

    private mutating func digits() throws(Malformed) {
        let start = position
        while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        guard position > start else { throw malformed(.notJSON) }
    }

    /// The rest of a string, up to and with its quotation mark.
    private mutating func readRest(into text: inout [UInt8]) throws(Malformed) {
        while let byte = current, byte >= 0x20 {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return
            case UInt8(ascii: "\\"): text.append(contentsOf: String(try escaped()).utf8)
            default: text.append(byte)
            }
        }
        throw malformed(.notJSON)
    }

    private mutating func skipString() throws(Malformed) {
        while let byte = current, byte >= 0x20 {
            position += 1
            if byte == UInt8(ascii: "\"") { return }
            if byte == UInt8(ascii: "\\") { _ = try escaped() }
        }
        throw malformed(.notJSON)
    }

    /// What follows a backslash.
    private mutating func escaped() throws(Malformed) -> Unicode.Scalar {
        guard let byte = current else { throw malformed(.notJSON) }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): return try unicode()
        default: throw malformed(.notJSON)
        }
    }

    /// What follows `\u`: a character, or the first half of a surrogate pair, whose second has to come then.
    private mutating func unicode() throws(Malformed) -> Unicode.Scalar {
        let first = try hexadecimal()
        if let scalar = Unicode.Scalar(first) { return scalar }
        let isPair =
            first < 0xDC00 && position + 1 < bytes.count && bytes[position] == UInt8(ascii: "\\")
            && bytes[position + 1] == UInt8(ascii: "u")
        guard isPair else { throw malformed(.other("holds half a surrogate pair")) }
        position += 2
        let second = try hexadecimal()
        guard (0xDC00...0xDFFF).contains(second),
            let scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
        else { throw malformed(.other("holds half a surrogate pair")) }
        return scalar
    }

    private mutating func hexadecimal() throws(Malformed) -> UInt32 {
        guard position + 4 <= bytes.count else { throw malformed(.notJSON) }
        var value: UInt32 = 0
        for byte in bytes[position..<(position + 4)] {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { throw malformed(.notJSON) }
            value = value << 4 | UInt32(digit)
        }
        position += 4
        return value
    }
}
