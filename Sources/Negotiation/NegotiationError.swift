/// Why an offer was refused.
public struct NegotiationError: Error, Sendable, Hashable {
    /// What kind of refusal it is; Control maps each to an HTTP status.
    public enum Kind: Sendable, Hashable {
        /// The text is not an offer.
        case malformed
        /// An m-line has no codec that both sides know.
        case noCommonCodec
        /// A well-formed offer asks for something that we don't do.
        case unservable
    }

    public var kind: Kind
    /// The m-line it is about, from 1; nil when it is about the whole offer.
    public var mediaLine: Int?
    /// For people: what was found, and what would be right.
    public var reason: String

    public init(_ kind: Kind, mediaLine: Int? = nil, _ reason: String) {
        self.kind = kind
        self.mediaLine = mediaLine
        self.reason = reason
    }
}
