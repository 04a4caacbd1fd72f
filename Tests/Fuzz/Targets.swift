// One libFuzzer program for every parser; FUZZ_TARGET picks which. `Tests/Fuzz/run` builds it together with the layers that
// parse, as one module.

import Glibc

private let targets: [String: @Sendable (RawSpan, [UInt8]) -> Void] = [
    "stun": fuzzSTUN, "rtp": fuzzRTP, "rtcp": fuzzRTCP, "payload": fuzzPayload, "sdp": fuzzSDP, "sdpfrag": fuzzFragment,
    "offer": fuzzOffer, "answer": fuzzAnswer, "text": fuzzText,
    "message": fuzzMessage,
]

private let target: @Sendable (RawSpan, [UInt8]) -> Void = {
    guard let name = getenv("FUZZ_TARGET").map({ String(cString: $0) }), let target = targets[name] else {
        print("FUZZ_TARGET has to be one of \(targets.keys.sorted().joined(separator: ", "))")
        exit(2)
    }
    return target
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(data: UnsafePointer<UInt8>?, count: Int) -> Int32 {
    let bytes = Array(UnsafeBufferPointer(start: data, count: count))
    target(bytes.span.bytes, bytes)
    return 0
}

@Sendable private func fuzzSTUN(_ span: RawSpan, _ bytes: [UInt8]) {
    guard let message = try? STUNMessage(parsing: span) else { return }
    _ = message.hasUsernamePrefix("abcd", in: span)
    _ = message.usernameSpan(in: span)
    var input: [UInt8] = []
    if let tag = message.integrityInput(in: span, into: &input) { precondition(tag.byteCount == 20) }
}

@Sendable private func fuzzRTP(_ span: RawSpan, _ bytes: [UInt8]) {
    guard let header = try? RTPHeader(parsing: span) else { return }
    precondition(header.payloadOffset <= bytes.count)
    if let padding = try? header.paddingLength(in: span) { precondition(header.payloadOffset + padding <= bytes.count) }
    var reader = HeaderExtensionReader(header)
    while let element = reader.next(in: span) {
        precondition(element.offset + element.length <= header.payloadOffset)
        _ = DependencyDescriptor(parsing: span.extracting(element.offset..<(element.offset + element.length)))
    }
}

@Sendable private func fuzzRTCP(_ span: RawSpan, _ bytes: [UInt8]) {
    var reader = RTCPReader()
    while let packet = try? reader.next(in: span) {
        switch packet {
        case .senderReport(let report): read(report.reports, span)
        case .receiverReport(_, let reports): read(reports, span)
        case .goodbye(let list): for index in 0..<list.count { _ = list.ssrc(at: index, in: span) }
        case .nack(_, _, let list): for index in 0..<list.count { _ = list.item(at: index, in: span) }
        case .fullIntraRequest(_, let list): for index in 0..<list.count { _ = list.request(at: index, in: span) }
        case .receiverEstimatedMaximumBitrate(_, _, let list):
            for index in 0..<list.count { _ = list.ssrc(at: index, in: span) }
        case .transportFeedback(_, _, let offset, let length):
            _ = TransportFeedback.read(offset: offset, length: length, in: span)
        case .extendedReport(_, let offset, let length):
            var blocks = ExtendedReportReader(offset: offset, length: length)
            while blocks.next(in: span) != nil {}
        case .pictureLossIndication, .sourceDescription, .other: break
        }
    }
}

private func read(_ reports: RTCPPacket.ReportBlockList, _ span: RawSpan) {
    for index in 0..<reports.count { _ = reports.block(at: index, in: span) }
}

@Sendable private func fuzzPayload(_ span: RawSpan, _ bytes: [UInt8]) {
    for codec in Codec.allCases { _ = codec.startsKeyframe(payload: span) }
    if let descriptor = VP8Descriptor(parsing: span) { precondition(descriptor.length < bytes.count) }
    if let descriptor = VP9Descriptor(parsing: span) { precondition(descriptor.length < bytes.count) }
    _ = DependencyDescriptor(parsing: span)?.layer(known: nil)
    _ = OpusPacket(parsing: span)
}

@Sendable private func fuzzSDP(_ span: RawSpan, _ bytes: [UInt8]) {
    guard let description = try? SessionDescription(parsing: bytes) else { return }
    // What was read is written so that it is read again as the same.
    guard let again = try? SessionDescription(parsing: Array(description.text.utf8), maximumBytes: .max) else {
        preconditionFailure("our own text is refused")
    }
    precondition(again.mediaSections.count == description.mediaSections.count)
}

@Sendable private func fuzzFragment(_ span: RawSpan, _ bytes: [UInt8]) {
    guard let fragment = try? TrickleFragment(parsing: bytes) else { return }
    _ = fragment.credentials
    for section in fragment.sections { for candidate in section.candidates { _ = ICECandidate(candidate) } }
}

@Sendable private func fuzzOffer(_ span: RawSpan, _ bytes: [UInt8]) {
    guard let offer = try? Offer(parsing: bytes, limits: Limits()) else { return }
    let local = LocalEndpoint(
        credentials: ICECredentials(usernameFragment: "localUfrag12", password: "localPassword1234567890a"),
        fingerprint: CertificateFingerprint(algorithm: .sha256, digest: Array(repeating: 1, count: 32)),
        addresses: [SocketAddress(ip: .loopbackV4, port: 1)],
        privacy: .transport,
        sessionID: .max
    )
    if let answer = try? offer.answerPublisher(local: local) {
        precondition((try? SessionDescription(parsing: Array(answer.text.utf8), maximumBytes: .max)) != nil)
    }
    let tracks = Codec.allCases.map {
        ForwardableTrack(track: TrackID(rawValue: 1), home: WorkerIndex(rawValue: 0), codec: $0, formatParameters: "")
    }
    _ = try? offer.answerViewer(tracks: tracks, streamLabel: "l", cname: "c", local: local) { 1 }
}

@Sendable private func fuzzText(_ span: RawSpan, _ bytes: [UInt8]) {
    guard let text = String(validating: bytes, as: UTF8.self) else { return }
    if let address = IPAddress(text) { precondition(IPAddress(address.description) == address) }
    if let candidate = ICECandidate(text) { precondition(ICECandidate(candidate.text) != nil) }
    _ = RTPMap(text)
    _ = FormatParameters(text: text)["apt"]
    _ = ExtensionMap(text)
    _ = SSRCGroup(text)
    _ = RestrictionIdentifier(text)
    _ = Simulcast(text)
    if let fingerprint = CertificateFingerprint(text) {
        precondition(CertificateFingerprint(fingerprint.text) == fingerprint)
    }
}

/// The answer to an offer of two tracks, one of which was removed meanwhile.
@Sendable private func fuzzAnswer(_ span: RawSpan, _ bytes: [UInt8]) {
    var media = OutgoingMedia(maximumLines: 4)
    var ssrc: UInt32 = 0
    for (number, codec) in [Codec.opus, .vp8].enumerated() {
        let track = ForwardableTrack(
            track: TrackID(rawValue: UInt64(number)),
            home: WorkerIndex(rawValue: 0),
            codec: codec,
            formatParameters: ""
        )
        _ = try? media.add(track, label: "label", cname: "cname") {
            ssrc += 1
            return ssrc
        }
    }
    let local = LocalEndpoint(
        credentials: ICECredentials(usernameFragment: "abcd", password: "0123456789012345678901"),
        fingerprint: CertificateFingerprint(algorithm: .sha256, digest: Array(repeating: 1, count: 32)),
        addresses: [],
        privacy: .transport,
        sessionID: 1
    )
    _ = media.nextOffer(local: local)
    if bytes.count % 2 == 0 { _ = media.remove(TrackID(rawValue: 0)) }
    guard let accepted = try? media.accept(answer: bytes, limits: Limits()) else { return }
    precondition(accepted.beginning.count + accepted.declined.count <= 2)
    precondition(!media.awaitsAnswer && !accepted.remote.fingerprints.isEmpty)
    _ = media.nextOffer(local: local)
}

@Sendable private func fuzzMessage(_ span: RawSpan, _ bytes: [UInt8]) {
    let limits = Limits()
    let identifier = ClientMessage.identifier(in: bytes, limits: limits)
    guard let message = try? ClientMessage(parsing: bytes, limits: limits) else { return }
    precondition(message.id == identifier)
    precondition(message.streams?.count ?? 0 <= limits.controlListEntries)
    // What is passed on is JSON: it is read again as the same.
    for value in [message.id, message.data] {
        guard let value, case .verbatim(let text) = value else { continue }
        let envelope = JSONValue.object(["data": value, "type": "message", "name": .string(message.name ?? "")]).encoded
        guard let again = try? ClientMessage(parsing: Array(envelope.utf8), limits: limits) else {
            // The name may have brought it past the limit for its length.
            precondition(envelope.utf8.count > limits.peerMessageBytes)
            continue
        }
        precondition(again.data == .verbatim(text) && again.name == message.name ?? "")
    }
}
