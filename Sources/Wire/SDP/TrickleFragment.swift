/// A `application/trickle-ice-sdpfrag` body (RFC 8840 §9).
public struct TrickleFragment: Sendable, Hashable {
    /// One m-section's part, or the session's.
    public struct Section: Sendable, Hashable {
        /// Nil for what stands before the first m-line.
        public var mid: String?
        public var usernameFragment: String?
        public var password: String?
        /// Values of `a=candidate` lines.
        public var candidates: [String]
        public var endOfCandidates: Bool

        public init(
            mid: String? = nil,
            usernameFragment: String? = nil,
            password: String? = nil,
            candidates: [String] = [],
            endOfCandidates: Bool = false
        ) {
            self.mid = mid
            self.usernameFragment = usernameFragment
            self.password = password
            self.candidates = candidates
            self.endOfCandidates = endOfCandidates
        }
    }

    public var sections: [Section]

    public init(sections: [Section]) { self.sections = sections }

    /// Parses a fragment. Unknown lines are skipped; candidates beyond `maximumCandidates` are ignored.
    public init(
        parsing text: [UInt8],
        maximumBytes: Int = 64 * 1024,
        maximumMediaSections: Int = 16,
        maximumCandidates: Int = 64,
        maximumLines: Int = 10_000
    ) throws(SDPError) {
        var lines = try SDPLines(text, maximumBytes: maximumBytes, maximumLines: maximumLines)
        var sections = [Section()]
        var candidates = 0
        while let line = try lines.next() {
            if line.type == UInt8(ascii: "m") {
                guard sections.count <= maximumMediaSections else {
                    throw .tooManyMediaSections(maximum: maximumMediaSections)
                }
                sections.append(Section())
            }
            guard line.type == UInt8(ascii: "a") else { continue }
            let attribute = SDPAttribute(line: line.value)
            let last = sections.count - 1
            switch (attribute.name, attribute.value) {
            case ("mid", let mid?): sections[last].mid = mid
            case ("ice-ufrag", let ufrag?): sections[last].usernameFragment = ufrag
            case ("ice-pwd", let password?): sections[last].password = password
            case ("candidate", let candidate?):
                candidates += 1
                if candidates <= maximumCandidates { sections[last].candidates.append(candidate) }
            case ("end-of-candidates", _): sections[last].endOfCandidates = true
            default: break
            }
        }
        self.init(sections: sections)
    }

    /// The first credentials in it, wherever they stand: an ICE restart repeats them in each section.
    public var credentials: ICECredentials? {
        guard let ufrag = sections.lazy.compactMap(\.usernameFragment).first,
            let password = sections.lazy.compactMap(\.password).first
        else { return nil }
        return ICECredentials(validatingUsernameFragment: ufrag, password: password)
    }

    /// The fragment's text, with CRLF.
    public var text: String {
        var text = ""
        for section in sections {
            if let mid = section.mid { text += "m=audio 9 RTP/AVP 0\r\na=mid:\(mid)\r\n" }
            if let ufrag = section.usernameFragment { text += "a=ice-ufrag:\(ufrag)\r\n" }
            if let password = section.password { text += "a=ice-pwd:\(password)\r\n" }
            for candidate in section.candidates { text += "a=candidate:\(candidate)\r\n" }
            if section.endOfCandidates { text += "a=end-of-candidates\r\n" }
        }
        return text
    }
}
