// One libFuzzer program for every parser; FUZZ_TARGET picks which. `Tests/Fuzz/run` builds it together with the layers that
// parse, as one module.

import Glibc

private let targets: [String: @Sendable (RawSpan, [UInt8]) -> Void] = [
    "stun": fuzzSTUN, "rtp": fuzzRTP, "rtcp": fuzzRTCP, "payload": fuzzPayload, "sdp": fuzzSDP, "sdpfrag": fuzzFragment,
    "offer": fuzzOffer, "answer": fuzzAnswer, "text": fuzzText,
    "message": fuzzMessage, "proxy": fuzzProxy, "frames": fuzzFrames,
]

let fuzzTargetName = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""

private let target: @Sendable (RawSpan, [UInt8]) -> Void = {
    guard let target = targets[fuzzTargetName] else {
        print("FUZZ_TARGET has to be one of \(targets.keys.sorted().joined(separator: ", "))")
        exit(2)
    }
    return target
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(data: UnsafePointer<UInt8>?, count: Int) -> Int32 {
    let bytes = Array(UnsafeBufferPointer(start: data, count: count))
    if isTimed { checkTime(bytes) } else { target(bytes.span.bytes, bytes) }
    return 0
}

// MARK: Time

/// Whether an input that takes too long for its length is a finding.
private let isTimed = getenv("FUZZ_TIMED") != nil

/// A message of the largest size (256 KB) may take 20 ms, so 76 ns a byte. What libFuzzer compiles in to see where an input leads, without
/// a sanitizer, doubles that; and whatever takes the square of a length of some kilobytes takes many times as much.
private let nanosecondsPerByte: UInt64 = 150
/// What our own side of it takes, however short the input is: an offer of many m-lines and the like.
private let nanosecondsAtLeast: UInt64 = 2_000_000
/// So often too slow, each time: then it isn't the machine, which does other things too.
private let repetitions = 8

private func checkTime(_ bytes: [UInt8]) {
    let mayTake = nanosecondsAtLeast + nanosecondsPerByte * UInt64(bytes.count)
    var least = UInt64.max
    for _ in 0..<repetitions {
        // The thread's own time: what others do on the machine counts for nothing but the caches.
        let before = threadTime()
        target(bytes.span.bytes, bytes)
        least = min(least, threadTime() - before)
        if least <= mayTake { return }
    }
    fatalError("\(bytes.count) bytes take \(least / 1000) µs, and may take \(mayTake / 1000)")
}

/// Writes the worst messages that we know (`Benchmarks/Signalling`), as long as an input may be, to begin with.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(_: UnsafeMutableRawPointer?, _: UnsafeMutableRawPointer?) -> Int32 {
    guard let folder = getenv("FUZZ_SEEDS").map({ String(cString: $0) }) else { return 0 }
    let carriers: [WorstMessage.Carrier] =
        switch fuzzTargetName {
        case "offer": [.whip, .whep, .publish]
        case "answer": [.answer]
        case "sdpfrag": [.patch]
        default: [.other]
        }
    for (number, message) in worstMessages.enumerated() where !carriers.allSatisfy({ !message.carriers.contains($0) }) {
        for size in [4096, 32_768] {
            guard let file = fopen("\(folder)/worst-\(number)-\(size)", "w") else { continue }
            fputs(message.make(size), file)
            fclose(file)
        }
    }
    exit(0)
}

// MARK: Targets

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
            guard var feedback = TransportFeedbackReader(offset: offset, length: length, in: span) else { break }
            var steps = 0
            while feedback.next(in: span) != nil { steps += 1 }
            precondition(steps <= length * 8, "as long as the packet is")
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
    if let descriptor = VP8Descriptor(parsing: span) { precondition(descriptor.length < bytes.count) }
    if let descriptor = VP9Descriptor(parsing: span) { precondition(descriptor.length < bytes.count) }
    let descriptor = DependencyDescriptor(parsing: span)
    for codec in Codec.allCases {
        var layer = LayerInfo(parsing: span, codec: codec, marker: false)
        if let descriptor { layer.take(descriptor, known: nil) }
        precondition(bytes.isEmpty || layer.pictureIDOffset < bytes.count)
        precondition(bytes.isEmpty || layer.temporalLevelZeroIndexOffset < bytes.count)
    }
    _ = OpusPacket(parsing: span)
    for codec in Codec.allCases {
        var reader = ParameterSetReader(codec: codec)
        var units: [[UInt8]] = []
        while let unit = reader.next(in: span) {
            precondition(unit.length > 0 && unit.offset + unit.length <= bytes.count)
            units.append(Array(bytes[unit.offset..<(unit.offset + unit.length)]))
        }
        _ = ParameterSetReader.isBareKeyframe(span, codec: codec)
        // What is put together is read again as the same.
        var again: [[UInt8]] = []
        for payload in ParameterSetWriter.payloads(of: units, codec: codec, maximumBytes: 1100) {
            var reader = ParameterSetReader(codec: codec)
            while let unit = reader.next(in: payload.span.bytes) {
                again.append(Array(payload[unit.offset..<(unit.offset + unit.length)]))
            }
        }
        precondition(again == units.filter { $0.count <= 1100 })
    }
}

@Sendable private func fuzzSDP(_ span: RawSpan, _ bytes: [UInt8]) {
    guard let description = try? SessionDescription(parsing: bytes) else { return }
    // What was read is written so that it is read again as the same.
    guard let again = try? read(Array(description.text.utf8)) else { preconditionFailure("our own text is refused") }
    precondition(again.mediaSections.count == description.mediaSections.count)
}

@Sendable private func fuzzFragment(_ span: RawSpan, _ bytes: [UInt8]) {
    _ = try? PatchRequest(parsing: bytes, local: local.credentials, remote: local.credentials, limits: Limits())
    guard let fragment = try? TrickleFragment(parsing: bytes) else { return }
    _ = fragment.credentials
    for section in fragment.sections { for candidate in section.candidates { _ = ICECandidate(candidate) } }
}

private let local = LocalEndpoint(
    credentials: ICECredentials(usernameFragment: "localUfrag12", password: "localPassword1234567890a"),
    fingerprint: CertificateFingerprint(algorithm: .sha256, digest: Array(repeating: 1, count: 32)),
    addresses: [SocketAddress(ip: .loopbackV4, port: 1)],
    privacy: .transport,
    sessionID: .max
)

private let roomLimits = Limits().ofRooms

@Sendable private func fuzzOffer(_ span: RawSpan, _ bytes: [UInt8]) {
    // In rooms more is allowed than by HTTP, and nothing less.
    guard let offer = try? Offer(parsing: bytes, limits: roomLimits) else {
        precondition((try? Offer(parsing: bytes, limits: Limits())) == nil)
        return
    }
    if let answer = try? offer.answerPublisher(local: local) {
        check(answer.text, answers: bytes)
        _ = try? answer.sources.checkAsStream(roomLimits)
    }
    let tracks = Codec.allCases.map {
        ForwardableTrack(track: TrackID(rawValue: 1), home: WorkerIndex(rawValue: 0), codec: $0, formatParameters: "")
    }
    if let answer = try? offer.answerViewer(
        tracks: tracks,
        streamLabel: "l",
        cname: "c",
        local: local,
        ssrcs: SSRCSequence(first: 1, stride: 1)
    ) {
        check(answer.text, answers: bytes)
        let ssrcs = answer.subscriptions.flatMap { [$0.ssrc] + ($0.retransmissionSSRC.map { [$0] } ?? []) }
        precondition(Set(ssrcs).count == ssrcs.count)
    }
}

/// What every answer has to be: as many m-lines, of the same kinds, and a bundle of those that it takes (RFC 9143 §7.3).
private func check(_ answer: String, answers offer: [UInt8]) {
    guard let answer = try? read(Array(answer.utf8)), let offer = try? read(offer) else {
        preconditionFailure("our own text is refused")
    }
    precondition(answer.mediaSections.map(\.kind) == offer.mediaSections.map(\.kind))
    precondition(zip(answer.mediaSections, offer.mediaSections).allSatisfy { Set($0.formats).isSubset(of: $1.formats) })
    guard let group = answer.value("group")?.split(separator: " ").map(String.init) else { return }
    let taken = answer.mediaSections.filter { $0.port != 0 }.compactMap { $0.value("mid") }
    precondition(group.first == "BUNDLE" && Set(group.dropFirst()) == Set(taken))
    if let tagged = group.dropFirst().first,
        let place = answer.mediaSections.firstIndex(where: { $0.value("mid") == tagged })
    {
        // Another than the first only where it has a transport of its own.
        let suggested = offer.attributes.lazy.filter { $0.name == "group" }.compactMap { $0.value?.words(atMost: 3) }
            .contains { $0.count > 1 && $0[1] == tagged }
        precondition(suggested || offer.mediaSections[place].port != 0)
        precondition(answer.mediaSections[place].has("ice-ufrag") && answer.mediaSections[place].has("fingerprint"))
    }
}

private func read(_ text: [UInt8]) throws(SDPError) -> SessionDescription {
    try SessionDescription(
        parsing: text,
        maximumBytes: .max,
        maximumMediaSections: .max,
        maximumLines: .max,
        maximumAttributes: .max
    )
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
    var media = OutgoingMedia(
        privacy: .transport,
        maximumLines: 4,
        maximumLinesPerPublisher: 4,
        ssrcs: SSRCSequence(first: 1, stride: 1)
    )
    for (number, codec) in [Codec.opus, .vp8].enumerated() {
        let track = ForwardableTrack(
            track: TrackID(rawValue: UInt64(number)),
            home: WorkerIndex(rawValue: 0),
            codec: codec,
            formatParameters: ""
        )
        _ = try? media.add(track, of: "p", place: number, label: "label", cname: "cname")
    }
    _ = media.nextOffer(local: local)
    if bytes.count % 2 == 0 { _ = media.remove(TrackID(rawValue: 0)) }
    guard let answer = try? Offer(parsing: bytes, limits: roomLimits), let accepted = try? media.accept(answer: answer)
    else { return }
    precondition(accepted.beginning.count + accepted.declined.count <= 2)
    precondition(!media.awaitsAnswer && !accepted.remote.fingerprints.isEmpty)
    _ = media.nextOffer(local: local)
}

@Sendable private func fuzzMessage(_ span: RawSpan, _ bytes: [UInt8]) {
    let limits = roomLimits
    let identifier = ClientMessage.identifier(in: bytes, limits: limits)
    guard let message = try? ClientMessage(parsing: bytes, limits: limits) else { return }
    precondition(message.id == identifier)
    precondition(message.streams?.count ?? 0 <= limits.controlListEntries)
    if let sdp = message.sdp, let offer = try? Offer(parsing: Array(sdp.utf8), limits: limits) {
        _ = try? offer.answerPublisher(local: local, allowsSilence: true)
    }
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

@Sendable private func fuzzProxy(_ span: RawSpan, _ bytes: [UInt8]) {
    // Whom a proxy speaks for, in each of the ways.
    let text = String(decoding: bytes, as: UTF8.self)
    let proxies = TrustedProxies(["127.0.0.0/8", "::1"].compactMap { IPNetwork($0) })
    for (list, elements) in [([text], []), ([], [text]), ([text], [text])] {
        let client = proxies.client(peer: "127.0.0.1", forwardedFor: list, forwarded: elements)
        let unclear = "unclear, behind "
        precondition(
            IPAddress(client) != nil
                || client.hasPrefix(unclear) && proxies.contains(String(client.dropFirst(unclear.count)))
        )
        precondition(proxies.client(peer: "192.0.2.1", forwardedFor: list, forwarded: elements) == "192.0.2.1")
    }
    _ = IPNetwork(text)
    guard case .header(_, let length) = ProxyHeader.parse(bytes) else { return }
    // It ends where it ends, whatever follows, and before that it is not whole.
    precondition(length <= bytes.count && ProxyHeader.parse(bytes[..<length]) == ProxyHeader.parse(bytes))
    precondition(ProxyHeader.parse(bytes[..<(length - 1)]) == .incomplete)
}

@Sendable private func fuzzFrames(_ span: RawSpan, _ bytes: [UInt8]) {
    // Pieces make no difference.
    var whole = FrameLengths()
    var apart = FrameLengths()
    let isAdmitted = whole.take(bytes, maximum: 1000)
    precondition(isAdmitted == bytes.allSatisfy { apart.take(CollectionOfOne($0), maximum: 1000) })
    var longer = FrameLengths()
    precondition(!isAdmitted || longer.take(bytes, maximum: 2000))
}
