import Wire

/// The parameter sets of one encoding, in packets of their own that go before a keyframe that brings none: some encoders send them once
/// at the start, and a viewer that comes later would have none.
///
/// `@unchecked Sendable`: nothing of it changes once it is made. The records' bytes lie in `storage`, which is written by `init` only
/// and freed with it.
final class ParameterSets: @unchecked Sendable {
    /// Bytes of a payload at most, as encoders make them.
    private static let payloadBytes = 1100
    /// Units that are kept; H.264 has up to 32 sequence and 256 picture parameter sets, and encoders one of each.
    private static let maximumUnits = 12

    private struct Unit: Equatable {
        let key: UInt16
        let bytes: [UInt8]
    }

    private let units: [Unit]
    private let storage: UnsafeMutableRawPointer
    private let records: UnsafeMutablePointer<PacketRecord>
    /// Packets that they take.
    let packetCount: Int

    private init(_ units: [Unit], codec: Codec) {
        self.units = units
        let payloads = ParameterSetWriter.payloads(
            of: units.map(\.bytes),
            codec: codec,
            maximumBytes: Self.payloadBytes
        )
        packetCount = payloads.count
        storage = .allocate(byteCount: max(1, payloads.reduce(0) { $0 + $1.count }), alignment: 8)
        records = .allocate(capacity: max(1, payloads.count))
        var place = storage
        for (index, payload) in payloads.enumerated() {
            var record = PacketRecord()
            record.bytes = UnsafeRawPointer(place)
            record.payloadEnd = UInt16(clamping: payload.count)
            payload.withUnsafeBytes { bytes in
                if let base = bytes.baseAddress { place.copyMemory(from: base, byteCount: bytes.count) }
            }
            place += payload.count
            (records + index).initialize(to: record)
        }
    }

    deinit {
        records.deallocate()
        storage.deallocate()
    }

    /// One of the packets, valid as long as this is: its payload, and nothing else.
    func packet(at index: Int) -> UnsafePointer<PacketRecord> {
        precondition(index >= 0 && index < packetCount)
        return UnsafePointer(records + index)
    }

    /// What is known once a payload's parameter sets have come as well.
    ///
    /// - Parameter known: What was known before.
    /// - Returns: Nil when that was all of it.
    static func noting(_ payload: RawSpan, codec: Codec, known: ParameterSets?) -> ParameterSets? {
        var reader = ParameterSetReader(codec: codec)
        var units: [Unit]?
        while let unit = reader.next(in: payload) {
            let current = units ?? known?.units ?? []
            let place = current.firstIndex { $0.key == unit.key }
            if let place, isSame(current[place].bytes, unit, in: payload) { continue }
            guard unit.length <= payloadBytes, place != nil || current.count < maximumUnits else { continue }
            var changed = current
            let bytes = payload.extracting(unit.offset..<(unit.offset + unit.length)).withUnsafeBytes { Array($0) }
            let new = Unit(key: unit.key, bytes: bytes)
            if let place { changed[place] = new } else { changed.append(new) }
            units = changed.sorted { $0.key < $1.key }
        }
        return units.map { ParameterSets($0, codec: codec) }
    }

    private static func isSame(_ bytes: [UInt8], _ unit: ParameterSetUnit, in payload: RawSpan) -> Bool {
        payload.extracting(unit.offset..<(unit.offset + unit.length)).withUnsafeBytes { bytes.elementsEqual($0) }
    }

    // MARK: To other workers

    /// Hands it to another worker, which has to take it over once.
    func handOver() -> UInt { UInt(bitPattern: Unmanaged.passRetained(self).toOpaque()) }

    /// What `handOver` gave.
    static func takenOver(_ reference: UInt) -> ParameterSets? {
        UnsafeRawPointer(bitPattern: reference).map { Unmanaged<ParameterSets>.fromOpaque($0).takeRetainedValue() }
    }
}
