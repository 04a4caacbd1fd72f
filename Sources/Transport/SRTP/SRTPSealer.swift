/// Encrypts and authenticates what we send to one peer (RFC 3711, RFC 7714). Allocates nothing per packet.
public final class SRTPSealer {
    private let rtp: SRTPCipher
    private let rtcp: SRTPCipher
    private var nextRTCPIndex: UInt32 = 1

    /// - Throws: When the master key or salt is not as long as the profile needs.
    public init(profile: SRTPProfile, masterKey: [UInt8], masterSalt: [UInt8]) throws(SRTPError) {
        rtp = try SRTPCipher(profile, .rtp, masterKey: masterKey, masterSalt: masterSalt, encrypts: true)
        rtcp = try SRTPCipher(profile, .rtcp, masterKey: masterKey, masterSalt: masterSalt, encrypts: true)
    }

    /// Seals one RTP packet.
    ///
    /// - Parameters:
    ///   - header: The RTP header with its extension, at least 12 bytes; it may already lie at `output`.
    ///   - payload: What is encrypted; it may already lie behind the header at `output`, else it must not overlap it.
    ///   - padding: Bytes of RTP padding behind the payload, 0 to 255 (RFC 3550 §5.1); the header's P bit says that there is some.
    ///   - rolloverCounter: How often the sequence number has wrapped (RFC 3711 §3.3.1).
    ///   - output: Room for header, payload, padding and `rtpTagLength` bytes.
    /// - Returns: The sealed packet's length in bytes; 0 when OpenSSL failed.
    @inline(__always)
    public func seal(
        header: UnsafeRawBufferPointer,
        payload: UnsafeRawBufferPointer,
        padding: Int = 0,
        rolloverCounter: UInt32,
        into output: UnsafeMutableRawPointer
    ) -> Int {
        guard header.count >= 12, let headerBase = header.baseAddress else { return 0 }
        if headerBase != UnsafeRawPointer(output) { output.copyMemory(from: headerBase, byteCount: header.count) }
        let ssrc = UInt32(bigEndian: output.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        let sequenceNumber = UInt16(bigEndian: output.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        let index = UInt64(rolloverCounter) << 16 | UInt64(sequenceNumber)
        let body = output + header.count
        let source = payload.baseAddress ?? UnsafeRawPointer(body)
        let length = header.count + payload.count + padding

        switch rtp {
        case .gcm(let cipher):
            let sealed = cipher.seal(
                ssrc: ssrc,
                index: index,
                UnsafeRawBufferPointer(start: output, count: header.count),
                from: source,
                to: body,
                count: payload.count,
                padding: padding
            )
            return sealed ? length + GCMKey.tagLength : 0
        case .counterMode(let cipher):
            let isTransformed = cipher.transform(
                ssrc: ssrc,
                index: index,
                from: source,
                to: body,
                count: payload.count,
                padding: padding
            )
            guard isTransformed else { return 0 }
            var counter = rolloverCounter.bigEndian
            withUnsafeBytes(of: &counter) { counter in
                cipher.authenticator.authenticate(
                    UnsafeRawBufferPointer(start: output, count: length),
                    counter,
                    tag: output + length,
                    length: CounterModeCipher.tagLength
                )
            }
            return length + CounterModeCipher.tagLength
        }
    }

    /// Seals one RTCP compound packet.
    ///
    /// - Parameters:
    ///   - packet: At least 8 bytes; not overlapping `output`.
    ///   - output: Room for `packet` and `rtcpOverhead` bytes.
    /// - Returns: The sealed packet's length in bytes; 0 when the packet is too short or OpenSSL failed.
    public func sealRTCP(_ packet: UnsafeRawBufferPointer, into output: UnsafeMutableRawPointer) -> Int {
        guard packet.count >= 8, let base = packet.baseAddress else { return 0 }
        output.copyMemory(from: base, byteCount: 8)
        let ssrc = UInt32(bigEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        // RFC 3711 §3.4: 31 bits, and 2^31 packets end the keys' life. At a hundred a second that is eight months; a session
        // that gets there falls silent rather than use an index twice.
        guard nextRTCPIndex < 1 << 31 else { return 0 }
        let index = nextRTCPIndex
        nextRTCPIndex += 1
        let trailer = (index | 1 << 31).bigEndian
        let bodyLength = packet.count - 8
        switch rtcp {
        case .gcm(let cipher):
            // RFC 7714 §9.2: the header and the trailer are authenticated as one.
            var associated = InlineArray<12, UInt8>(repeating: 0)
            let sealed = withUnsafeMutableBytes(of: &associated) { associated in
                associated.copyMemory(from: UnsafeRawBufferPointer(start: base, count: 8))
                associated.storeBytes(of: trailer, toByteOffset: 8, as: UInt32.self)
                return cipher.seal(
                    ssrc: ssrc,
                    index: UInt64(index),
                    UnsafeRawBufferPointer(associated),
                    from: base + 8,
                    to: output + 8,
                    count: bodyLength
                )
            }
            guard sealed else { return 0 }
            output.storeBytes(of: trailer, toByteOffset: packet.count + GCMKey.tagLength, as: UInt32.self)
            return packet.count + GCMKey.tagLength + 4
        case .counterMode(let cipher):
            let isTransformed = cipher.transform(
                ssrc: ssrc,
                index: UInt64(index),
                from: base + 8,
                to: output + 8,
                count: bodyLength
            )
            guard isTransformed else { return 0 }
            output.storeBytes(of: trailer, toByteOffset: packet.count, as: UInt32.self)
            let length = packet.count + 4
            cipher.authenticator.authenticate(
                UnsafeRawBufferPointer(start: output, count: length),
                tag: output + length,
                length: CounterModeCipher.tagLength
            )
            return length + CounterModeCipher.tagLength
        }
    }
}
