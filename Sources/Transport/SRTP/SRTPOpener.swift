public import Wire

/// Why an SRTP or SRTCP packet was not opened.
public enum SRTPRejection: Error, Sendable, Hashable {
    /// Too short, or not encrypted where it has to be.
    case malformed
    /// The authentication tag is wrong.
    case authentication
    /// Received before, or too old to tell.
    case replay
    /// From a new source, and the peer has as many as it may have.
    case tooManySources
}

/// What became of a packet.
public enum SRTPOpenResult: Sendable {
    /// Decrypted in place; its first `length` bytes are the RTP or RTCP packet. `packetIndex` is SRTP's 48-bit or SRTCP's
    /// 31-bit index.
    case opened(length: Int, packetIndex: UInt64)
    case rejected(SRTPRejection)
}

/// Checks and decrypts what one peer sends (RFC 3711, RFC 7714). Allocates only for a source that is new.
public final class SRTPOpener {
    /// How many packets in all may be tried with the next rollover counter as well before only every sixteenth is: enough for a
    /// source to be found at once, and little for garbage to cost.
    private static let guesses = 16

    private let profile: SRTPProfile
    private let rtp: SRTPCipher
    private let rtcp: SRTPCipher
    private var rtpSources: SRTPSourceTable
    private var rtcpSources: SRTPSourceTable
    private var guessesLeft = SRTPOpener.guesses
    private var guessesRefused: UInt = 0
    /// How many packets have been tried with the next rollover counter.
    private(set) var guessesMade = 0

    /// - Parameter maximumSources: Most SSRCs that the peer may use at a time; when it uses another, what of the one that was silent for
    ///   longest comes out of order is not accepted any more.
    public init(
        profile: SRTPProfile,
        masterKey: [UInt8],
        masterSalt: [UInt8],
        maximumSources: Int
    ) throws(SRTPError) {
        self.profile = profile
        rtp = try SRTPCipher(profile, .rtp, masterKey: masterKey, masterSalt: masterSalt, encrypts: false)
        rtcp = try SRTPCipher(profile, .rtcp, masterKey: masterKey, masterSalt: masterSalt, encrypts: false)
        rtpSources = SRTPSourceTable(capacity: maximumSources)
        rtcpSources = SRTPSourceTable(capacity: maximumSources)
    }

    /// Opens an SRTP packet in place.
    ///
    /// - Parameter header: The packet's header.
    public func open(_ packet: UnsafeMutableRawBufferPointer, header: RTPHeader) -> SRTPOpenResult {
        let length = packet.count - profile.rtpTagLength
        guard length >= header.payloadOffset else { return .rejected(.malformed) }
        let place = rtpSources.find(header.ssrc)
        if case .full = place { return .rejected(.tooManySources) }
        let estimate = Self.index(of: header.sequenceNumber, near: rtpSources.highest(at: place))
        guard var index = estimate, rtpSources.accepts(index, at: place) else {
            return openOfNextCycle(packet, header, at: place, estimate: estimate)
        }

        if let rejection = decrypt(packet, header, index: index) {
            guard rejection == .authentication, mayGuess() else { return .rejected(rejection) }
            // RFC 3711 §3.3.1: who missed the packets around the wrap, be they the first of all, doesn't know of it.
            // AEAD has decrypted it already: with the same key stream again it is as it came.
            if profile.isAEAD { _ = decrypt(packet, header, index: index) }
            index += 1 << 16
            if let rejection = decrypt(packet, header, index: index) { return .rejected(rejection) }
            guessesLeft = Self.guesses
        }
        rtpSources.note(index, of: header.ssrc, at: place)
        return .opened(length: length, packetIndex: index)
    }

    /// Opens a packet that is too old by its estimated index, if it is one of the next cycle, whose beginning was lost.
    private func openOfNextCycle(
        _ packet: UnsafeMutableRawBufferPointer,
        _ header: RTPHeader,
        at place: SRTPSourceTable.Place,
        estimate: UInt64?
    ) -> SRTPOpenResult {
        let next = estimate.map { $0 + 1 << 16 } ?? UInt64(header.sequenceNumber)
        guard estimate.map({ rtpSources.isTooOld($0, at: place) }) ?? true, rtpSources.accepts(next, at: place),
            mayGuess(), decrypt(packet, header, index: next) == nil
        else { return .rejected(.replay) }
        guessesLeft = Self.guesses
        rtpSources.note(next, of: header.ssrc, at: place)
        return .opened(length: packet.count - profile.rtpTagLength, packetIndex: next)
    }

    /// Whether a packet is worth a second look: each costs as much as the first.
    private func mayGuess() -> Bool {
        if guessesLeft > 0 {
            guessesLeft -= 1
        } else {
            guessesRefused &+= 1
            guard guessesRefused & 15 == 0 else { return false }
        }
        guessesMade &+= 1
        return true
    }

    /// Checks an SRTP packet and decrypts it in place. With an AEAD profile a packet that is not authentic is changed all the same.
    ///
    /// - Returns: Nil when it is authentic.
    @inline(__always)
    private func decrypt(
        _ packet: UnsafeMutableRawBufferPointer,
        _ header: RTPHeader,
        index: UInt64
    ) -> SRTPRejection? {
        let length = packet.count - profile.rtpTagLength
        guard let base = packet.baseAddress else { return .malformed }
        let body = base + header.payloadOffset
        let bodyLength = length - header.payloadOffset
        switch rtp {
        case .gcm(let cipher):
            let isAuthentic = cipher.open(
                ssrc: header.ssrc,
                index: index,
                UnsafeRawBufferPointer(start: base, count: header.payloadOffset),
                at: body,
                count: bodyLength
            )
            return isAuthentic ? nil : .authentication
        case .counterMode(let cipher):
            var counter = UInt32(truncatingIfNeeded: index >> 16).bigEndian
            let isAuthentic = withUnsafeBytes(of: &counter) {
                cipher.authenticator.verifies(
                    UnsafeRawBufferPointer(start: base, count: length),
                    $0,
                    against: base + length,
                    length: CounterModeCipher.tagLength
                )
            }
            guard isAuthentic else { return .authentication }
            return cipher.transform(ssrc: header.ssrc, index: index, from: body, to: body, count: bodyLength)
                ? nil : .malformed
        }
    }

    /// Opens an SRTCP packet in place. Unencrypted SRTCP (E bit 0) is refused: nobody negotiated it.
    public func openRTCP(_ packet: UnsafeMutableRawBufferPointer) -> SRTPOpenResult {
        let length = packet.count - profile.rtcpOverhead
        guard length >= 8, let base = packet.baseAddress else { return .rejected(.malformed) }
        let ssrc = UInt32(bigEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        let trailerOffset = profile.isAEAD ? packet.count - 4 : length
        let trailer = UInt32(bigEndian: base.loadUnaligned(fromByteOffset: trailerOffset, as: UInt32.self))
        guard trailer & 1 << 31 != 0 else { return .rejected(.malformed) }
        let index = trailer & ~(1 << 31)
        let place = rtcpSources.find(ssrc)
        if case .full = place { return .rejected(.tooManySources) }
        guard rtcpSources.accepts(UInt64(index), at: place) else { return .rejected(.replay) }

        let bodyLength = length - 8
        switch rtcp {
        case .gcm(let cipher):
            // RFC 7714 §9.2: the header and the trailer are authenticated as one.
            var associated = InlineArray<12, UInt8>(repeating: 0)
            let isAuthentic = withUnsafeMutableBytes(of: &associated) { associated in
                associated.copyMemory(from: UnsafeRawBufferPointer(start: base, count: 8))
                associated.storeBytes(of: trailer.bigEndian, toByteOffset: 8, as: UInt32.self)
                return cipher.open(
                    ssrc: ssrc,
                    index: UInt64(index),
                    UnsafeRawBufferPointer(associated),
                    at: base + 8,
                    count: bodyLength
                )
            }
            guard isAuthentic else { return .rejected(.authentication) }
        case .counterMode(let cipher):
            let isAuthentic = cipher.authenticator.verifies(
                UnsafeRawBufferPointer(start: base, count: length + 4),
                against: base + length + 4,
                length: CounterModeCipher.tagLength
            )
            guard isAuthentic else { return .rejected(.authentication) }
            guard
                cipher.transform(ssrc: ssrc, index: UInt64(index), from: base + 8, to: base + 8, count: bodyLength)
            else { return .rejected(.malformed) }
        }
        rtcpSources.note(UInt64(index), of: ssrc, at: place)
        return .opened(length: length, packetIndex: UInt64(index))
    }

    /// The index nearest to the highest received (RFC 3711 §3.3.1, appendix A).
    ///
    /// - Returns: Nil when it would lie before the first cycle.
    static func index(of sequenceNumber: UInt16, near highest: UInt64?) -> UInt64? {
        guard let highest else { return UInt64(sequenceNumber) }
        let cycle = highest >> 16
        let last = UInt16(truncatingIfNeeded: highest)
        if last < 0x8000 {
            if sequenceNumber > last, sequenceNumber - last > 0x8000 {
                return cycle == 0 ? nil : (cycle - 1) << 16 | UInt64(sequenceNumber)
            }
        } else if sequenceNumber < last - 0x8000 {
            return (cycle + 1) << 16 | UInt64(sequenceNumber)
        }
        return cycle << 16 | UInt64(sequenceNumber)
    }
}
