import Commands

extension Limits {
    /// For the descriptions of a room's peers, which have many m-lines.
    var ofRooms: Limits {
        var limits = self
        limits.mediaSections = max(mediaSections, roomMediaSections)
        limits.bodyBytes = max(bodyBytes, controlMessageBytes)
        return limits
    }
}
