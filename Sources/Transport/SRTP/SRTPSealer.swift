/// Encrypts and authenticates what we send to one peer (RFC 3711, RFC 7714). Allocates nothing per packet.
public final class SRTPSealer {
    private let profile: SRTPProfile
    private let rtp: SRTPCipher
    private let rtcp: SRTPCipher
    private var nextRTCPIndex: UInt32 = 1

    public init(profile: SRTPProfile, masterKey: [UInt8], masterSalt: [UInt8]) throws(SRTPError) {
        self.profile = profile
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

        if let authenticator = rtp.authenticator {
            let isTransformed = rtp.transformCounterMode(
                ssrc: ssrc,
                index: index,
                from: source,
                to: body,
                count: payload.count,
                padding: padding
            )
            guard isTransformed else { return 0 }
            var counter = rolloverCounter.bigEndian
            var tag = InlineArray<20, UInt8>(repeating: 0)
            withUnsafeBytes(of: &counter) { counter in
                withUnsafeMutableBytes(of: &tag) { tag in
                    guard let base = tag.baseAddress else { return }
                    authenticator.authenticate(
                        UnsafeRawBufferPointer(start: output, count: length),
                        counter,
                        tag: base.assumingMemoryBound(to: UInt8.self)
                    )
                    (output + length).copyMemory(from: base, byteCount: 10)
                }
            }
            return length + 10
        }
        var iv = rtp.rtpIV(ssrc: ssrc, index: index)
        let sealed = rtp.seal(
            iv: &iv,
            UnsafeRawBufferPointer(start: output, count: header.count),
            from: source,
            to: body,
            count: payload.count,
            padding: padding
        )
        return sealed ? length + 16 : 0
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
        var trailer = (index | 1 << 31).bigEndian
        let bodyLength = packet.count - 8

        if let authenticator = rtcp.authenticator {
            let isTransformed = rtcp.transformCounterMode(
                ssrc: ssrc,
                index: UInt64(index),
                from: base + 8,
                to: output + 8,
                count: bodyLength
            )
            guard isTransformed else { return 0 }
            output.storeBytes(of: trailer, toByteOffset: packet.count, as: UInt32.self)
            let length = packet.count + 4
            var tag = InlineArray<20, UInt8>(repeating: 0)
            withUnsafeMutableBytes(of: &tag) { tag in
                guard let tagBase = tag.baseAddress else { return }
                authenticator.authenticate(
                    UnsafeRawBufferPointer(start: output, count: length),
                    tag: tagBase.assumingMemoryBound(to: UInt8.self)
                )
                (output + length).copyMemory(from: tagBase, byteCount: 10)
            }
            return length + 10
        }
        var iv = rtcp.rtcpIV(ssrc: ssrc, index: index)
        let sealed = withUnsafeBytes(of: &trailer) { trailer in
            rtcp.seal(
                iv: &iv,
                UnsafeRawBufferPointer(start: output, count: 8),
                trailer,
                from: base + 8,
                to: output + 8,
                count: bodyLength
            )
        }
        guard sealed else { return 0 }
        output.storeBytes(of: trailer, toByteOffset: packet.count + 16, as: UInt32.self)
        return packet.count + 20
    }
}
