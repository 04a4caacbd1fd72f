import Transport

/// How the encoding that is forwarded maps onto the source that a viewer sees.
struct Mapping {
    var generation: UInt32
    /// The packet that the viewer started with, as the publisher and as we number it.
    let firstSequence: UInt64
    let firstOutgoing: UInt64
    /// The latest packet that came; kept while layers are left out.
    var latestSequence: UInt64
    var map: SequenceMap
    /// Added, with wrapping, to the publisher's timestamps.
    var timestampOffset: UInt32
    /// What the viewer was sent directly before that packet, and our timestamp and time of it.
    var preamble: ParameterSets?
    var startTimestamp: UInt32
    var startedAt: Instant
}

/// What becomes of a packet on its way to the viewer.
struct OutgoingForm {
    /// In bytes; 0 where only the packet's number is sent, as its layer is left out.
    var payloadLength: Int
    var marker: Bool
    var numbering: FrameNumbering

    /// - Parameter span: Which layers are sent, and how their frames are numbered; nil for what has no frames of its own.
    @inline(__always)
    init(of record: UnsafePointer<PacketRecord>, in span: SequenceMap.Span?) {
        payloadLength = record.pointee.payloadLength
        marker = record.pointee.marker
        numbering = span?.numbering ?? FrameNumbering()
        guard let limit = span?.limit, limit != .none else { return }
        let isSelected = limit.includes(record.pointee.layer)
        if !isSelected { payloadLength = 0 }
        marker = isSelected && (marker || limit.endsPicture(record.pointee.layer))
    }
}
