import Commands
import Transport
import Wire

/// Writes the RTP headers of one subscription: what its viewer negotiated in place of what the publisher sent.
struct OutgoingHeader {
    /// Longest MID that is written. Browsers use one or two characters; longer ones are left out, and the SSRC in our
    /// answer tells the viewer which m-line a packet belongs to.
    static let maximumMIDBytes = 16
    /// How much longer than the publisher's header ours can be at most: each element's prefix by a byte, a MID, a send time,
    /// a transport-wide sequence number, and alignment.
    static let maximumGrowth = PacketRecord.maximumExtensions + (2 + maximumMIDBytes) + 5 + 4 + 3

    private let payloadType: UInt8
    /// The viewer's identifier of each extension, by `HeaderExtension.rawValue`; 0 where it has none.
    private var identifiers = InlineArray<32, UInt8>(repeating: 0)
    private var mid = InlineArray<16, UInt8>(repeating: 0)
    private let midLength: Int
    private let allowsTwoByteElements: Bool
    private let needsTwoByteElements: Bool

    /// - Parameter parameters: As negotiated with the viewer.
    init(_ parameters: MediaParameters, payloadType: UInt8, repeatsExactly: Bool) {
        self.payloadType = payloadType
        var largest: UInt8 = 0
        for mapping in parameters.headerExtensions {
            // A packet that is sent twice with one SRTP index must be the same to the bit: with another send time or transport-wide
            // number in its header, GCM's nonce would be used for two messages (RFC 7714 §8.1).
            if repeatsExactly, mapping.meaning == .absoluteSendTime || mapping.meaning == .transportSequenceNumber {
                continue
            }
            identifiers[Int(mapping.meaning.rawValue)] = mapping.id
            largest = max(largest, mapping.id)
        }
        let midBytes = Array(parameters.mid.utf8)
        midLength = midBytes.count <= Self.maximumMIDBytes ? midBytes.count : 0
        for index in 0..<midLength { mid[index] = midBytes[index] }
        needsTwoByteElements = largest > 14
        allowsTwoByteElements = parameters.allowsMixedHeaderExtensions || needsTwoByteElements
    }

    /// Whether packets say their transport-wide sequence number.
    @inline(__always)
    var hasTransportSequence: Bool { identifiers[Int(HeaderExtension.transportSequenceNumber.rawValue)] != 0 }

    /// The length in bytes of the header that `write` would write.
    @inline(__always)
    func length(of record: UnsafePointer<PacketRecord>, includesMID: Bool) -> Int {
        let usesTwoBytes = needsTwoByteElements || (allowsTwoByteElements && holdsLongElement(record))
        let prefix = usesTwoBytes ? 2 : 1
        var length = 0
        func add(_ meaning: UInt8, _ value: Int) {
            if identifiers[Int(meaning)] != 0, usesTwoBytes || (1...16).contains(value) { length += prefix + value }
        }
        if includesMID, midLength > 0 { add(HeaderExtension.mid.rawValue, midLength) }
        add(HeaderExtension.absoluteSendTime.rawValue, 3)
        add(HeaderExtension.transportSequenceNumber.rawValue, 2)
        for index in 0..<Int(record.pointee.extensionCount) {
            let element = record.pointee.extensions[index]
            add(element.meaning, Int(element.length))
        }
        return length == 0 ? 12 : 16 + (length + 3) & ~3
    }

    /// Writes a header at `target`.
    ///
    /// - Parameters:
    ///   - record: The packet's record.
    ///   - packet: The packet as it was received, for the values of its header extensions.
    ///   - marker: Whether the M bit is set.
    ///   - padding: Whether the P bit is set.
    ///   - includesMID: Whether the MID is written, when the viewer negotiated it.
    ///   - transportSequence: The packet's transport-wide sequence number, where the viewer negotiated it.
    ///   - frameNumberOffset: Added to the dependency descriptor's frame number.
    /// - Returns: The header's length.
    @inline(__always)
    func write(
        to target: UnsafeMutableRawPointer,
        record: UnsafePointer<PacketRecord>,
        packet: UnsafeRawPointer,
        sequenceNumber: UInt16,
        timestamp: UInt32,
        ssrc: UInt32,
        marker: Bool,
        padding: Bool,
        includesMID: Bool,
        transportSequence: UInt16,
        frameNumberOffset: UInt16,
        now: Instant
    ) -> Int {
        let usesTwoBytes = needsTwoByteElements || (allowsTwoByteElements && holdsLongElement(record))
        let start = target + 16
        var cursor = start

        if includesMID, midLength > 0 {
            let id = identifiers[Int(HeaderExtension.mid.rawValue)]
            if id != 0, let value = Self.element(id, length: midLength, twoBytes: usesTwoBytes, at: &cursor) {
                for index in 0..<midLength { value.storeBytes(of: mid[index], toByteOffset: index, as: UInt8.self) }
            }
        }
        let sendTimeID = identifiers[Int(HeaderExtension.absoluteSendTime.rawValue)]
        if sendTimeID != 0, let value = Self.element(sendTimeID, length: 3, twoBytes: usesTwoBytes, at: &cursor) {
            let time = Self.absoluteSendTime(now)
            value.storeBytes(of: UInt8(truncatingIfNeeded: time >> 16), as: UInt8.self)
            value.storeBytes(of: UInt8(truncatingIfNeeded: time >> 8), toByteOffset: 1, as: UInt8.self)
            value.storeBytes(of: UInt8(truncatingIfNeeded: time), toByteOffset: 2, as: UInt8.self)
        }
        let numberID = identifiers[Int(HeaderExtension.transportSequenceNumber.rawValue)]
        if numberID != 0, let value = Self.element(numberID, length: 2, twoBytes: usesTwoBytes, at: &cursor) {
            value.storeBytes(of: transportSequence.bigEndian, as: UInt16.self)
        }
        for index in 0..<Int(record.pointee.extensionCount) {
            let element = record.pointee.extensions[index]
            let id = identifiers[Int(element.meaning)]
            let length = Int(element.length)
            if id != 0, let value = Self.element(id, length: length, twoBytes: usesTwoBytes, at: &cursor) {
                value.copyMemory(from: packet + Int(element.offset), byteCount: length)
                if frameNumberOffset != 0, element.meaning == HeaderExtension.dependencyDescriptor.rawValue, length >= 3
                {
                    let number = UInt16(bigEndian: value.loadUnaligned(fromByteOffset: 1, as: UInt16.self))
                    value.storeBytes(of: (number &+ frameNumberOffset).bigEndian, toByteOffset: 1, as: UInt16.self)
                }
            }
        }

        let hasExtension = cursor != start
        var first: UInt8 = 0x80
        if padding { first |= 0x20 }
        if hasExtension { first |= 0x10 }
        target.storeBytes(of: first, as: UInt8.self)
        target.storeBytes(of: payloadType | (marker ? 0x80 : 0), toByteOffset: 1, as: UInt8.self)
        target.storeBytes(of: sequenceNumber.bigEndian, toByteOffset: 2, as: UInt16.self)
        target.storeBytes(of: timestamp.bigEndian, toByteOffset: 4, as: UInt32.self)
        target.storeBytes(of: ssrc.bigEndian, toByteOffset: 8, as: UInt32.self)
        guard hasExtension else { return 12 }

        while (cursor - start) & 3 != 0 {
            cursor.storeBytes(of: 0, as: UInt8.self)
            cursor += 1
        }
        // RFC 8285 §4.2 and §4.3.
        let profile: UInt16 = usesTwoBytes ? 0x1000 : 0xBEDE
        target.storeBytes(of: profile.bigEndian, toByteOffset: 12, as: UInt16.self)
        target.storeBytes(of: UInt16((cursor - start) / 4).bigEndian, toByteOffset: 14, as: UInt16.self)
        return cursor - target
    }

    /// Whether an element that the viewer wants does not fit the one-byte form: 1 to 16 bytes.
    private func holdsLongElement(_ record: UnsafePointer<PacketRecord>) -> Bool {
        for index in 0..<Int(record.pointee.extensionCount) {
            let element = record.pointee.extensions[index]
            if identifiers[Int(element.meaning)] != 0, element.length == 0 || element.length > 16 { return true }
        }
        return false
    }

    /// Writes an element's prefix and steps over its value.
    ///
    /// - Returns: Where the value goes; nil when the one-byte form can't hold it.
    @inline(__always)
    private static func element(
        _ id: UInt8,
        length: Int,
        twoBytes: Bool,
        at cursor: inout UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer? {
        if twoBytes {
            cursor.storeBytes(of: id, as: UInt8.self)
            cursor.storeBytes(of: UInt8(truncatingIfNeeded: length), toByteOffset: 1, as: UInt8.self)
            cursor += 2
        } else {
            guard length >= 1, length <= 16 else { return nil }
            cursor.storeBytes(of: id << 4 | UInt8(length - 1), as: UInt8.self)
            cursor += 1
        }
        defer { cursor += length }
        return cursor
    }

    /// Seconds in 6.18 fixed point.
    private static func absoluteSendTime(_ now: Instant) -> UInt32 {
        let (seconds, fraction) = now.nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        return UInt32(seconds & 63) << 18 | UInt32((fraction << 18) / 1_000_000_000)
    }
}
