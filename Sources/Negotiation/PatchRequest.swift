public import Commands
public import Wire

/// What a PATCH on a session asks for (RFC 9725 §4.3).
public enum PatchRequest: Sendable, Hashable {
    /// Candidates or their end: an ICE-lite agent needs none of them.
    case trickle
    /// New credentials of the client's, and the first m-line that its fragment names.
    case restart(ICECredentials, mid: String?)

    /// - Parameters:
    ///   - text: An `application/trickle-ice-sdpfrag` body.
    ///   - local: Our credentials. Clients that carry these back instead of their own change nothing.
    ///   - remote: The client's credentials up to now.
    public init(
        parsing text: [UInt8],
        local: ICECredentials,
        remote: ICECredentials,
        limits: Limits
    ) throws(NegotiationError) {
        let fragment: TrickleFragment
        do throws(SDPError) {
            fragment = try TrickleFragment(
                parsing: text,
                maximumBytes: limits.bodyBytes,
                maximumMediaSections: limits.mediaSections,
                maximumCandidates: limits.candidates,
                maximumLines: limits.descriptionLines
            )
        } catch {
            throw NegotiationError(.malformed, error.explanation)
        }
        // Only a new ufrag and a new password are a restart.
        if let credentials = fragment.credentials,
            credentials.usernameFragment != local.usernameFragment,
            credentials.usernameFragment != remote.usernameFragment,
            credentials.password != remote.password
        {
            self = .restart(credentials, mid: fragment.sections.lazy.compactMap(\.mid).first)
        } else {
            self = .trickle
        }
    }
}
