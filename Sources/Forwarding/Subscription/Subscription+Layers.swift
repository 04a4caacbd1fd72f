import Transport
import Wire

/// What a viewer is sent less of when its network does not carry all: other encodings, or layers.
extension Subscription {
    /// Whether there is anything that it can do without.
    var isScalable: Bool { !encodings.isEmpty || highestLayer != .lowest }

    /// Whether the viewer gets less than it wants, as its network seems to carry no more.
    var isLimited: Bool {
        guard !isHeld else { return false }
        return highestCarried < min(highestWanted, encodings.count - 1) || carriedLayers != highestLayer
    }

    /// Whether there is less that the viewer could get.
    var canBeLowered: Bool { !isHeld && (place(of: track) > 0 || carriedLayers != .lowest) }

    /// Whether only a keyframe brings back layers that the viewer is to get again.
    var awaitsLayers: Bool {
        guard !isHeld else { return false }
        return layers.current.spatial < carriedLayers.spatial || (lacksSwitchPoint && awaitsSwitchPoint)
    }

    /// Whether a temporal layer is to come back with its next switch point. Some encoders mark none.
    var awaitsSwitchPoint: Bool { !isHeld && layers.current.temporal < carriedLayers.temporal }

    /// The viewer gets a lower encoding, or of the lowest one layer less: half of the frames go before the size does.
    func lower(isSevere: Bool) {
        let place = place(of: track)
        if place > 0 {
            highestCarried = place - 1
            return
        }
        var carried = carriedLayers
        let hasAllFrames = carried.temporal == highestLayer.temporal
        if !isSevere, carried.temporal > 0, hasAllFrames || carried.spatial == 0 {
            carried.temporal -= 1
        } else if carried.spatial > 0 {
            carried = LayerLimit(spatial: carried.spatial - 1, temporal: highestLayer.temporal)
        } else {
            carried.temporal = 0
        }
        limit(to: carried)
    }

    /// The viewer gets one layer more, or where it has all of them the next encoding.
    func raise() {
        var carried = carriedLayers
        if carried == highestLayer {
            highestCarried += 1
            return
        }
        if carried.temporal < highestLayer.temporal { carried.temporal += 1 } else { carried.spatial += 1 }
        limit(to: carried == highestLayer ? .none : carried)
    }

    /// The ways in which the track can be sent now, with ascending rates.
    ///
    /// - Returns: The place in the list of the way in which it is sent; nil where that is none of them.
    func appendOptions(
        to list: inout ContiguousArray<Allocator.Option>,
        silence: Duration,
        now: Instant
    ) -> Int? {
        guard !encodings.isEmpty else { return appendLayers(of: track, place: 0, to: &list, now: now) }
        guard let latest = encodings.lazy.compactMap({ $0.encoding?.lastReceivedAt }).max() else { return nil }
        let first = list.count
        var current: Int?
        for (place, track) in encodings.enumerated() {
            // Where nothing lower comes, the lowest that does.
            guard place <= highestWanted || list.count == first else { break }
            guard let encoding = track.encoding, !encoding.isSilent(at: latest, silence: silence) else { continue }
            if list.count == first {
                current = appendLayers(of: track, place: place, to: &list, now: now) ?? current
            } else if let rate = encoding.rates.bitsPerSecond(upTo: .none, now: now),
                rate > list[list.count - 1].bitsPerSecond
            {
                if track === goal { current = list.count }
                list.append(
                    Allocator.Option(
                        place: place,
                        limit: .none,
                        bitsPerSecond: rate,
                        peakBitsPerSecond: rate * encoding.rates.peakFactor(now: now)
                    )
                )
            }
        }
        return current
    }

    /// What it is sent, or will be from the next keyframe on.
    private var goal: Track { next ?? track }

    private func appendLayers(
        of track: Track,
        place: Int,
        to list: inout ContiguousArray<Allocator.Option>,
        now: Instant
    ) -> Int? {
        guard let encoding = track.encoding else { return nil }
        var highest = encoding.highestLayer
        if decodesLowestLayer { highest.spatial = 0 }
        var current: Int?
        var last: Double?
        let peak = encoding.rates.peakFactor(now: now)
        for spatial in 0...min(highest.spatial, 3) {
            let top = min(highest.temporal, 3)
            // Half of the frames of a larger picture are worth as much as all of a smaller one; fewer are not.
            let bottom = spatial == 0 ? 0 : top - min(top, 1)
            for temporal in bottom...top {
                let limit = LayerLimit(spatial: spatial, temporal: temporal)
                let rate = encoding.rates.bitsPerSecond(upTo: limit, now: now)
                guard last == nil || rate ?? 0 > last ?? 0 else { continue }
                let isHighest = limit == highest
                if track === goal, layers.target.limited(to: highest) == limit { current = list.count }
                list.append(
                    Allocator.Option(
                        place: place,
                        limit: isHighest ? .none : limit,
                        bitsPerSecond: rate ?? 0,
                        peakBitsPerSecond: (rate ?? 0) * peak
                    )
                )
                last = rate ?? 0
            }
        }
        return current
    }

    /// The viewer is sent the track in this way, as soon as it can be.
    func allocate(_ option: Allocator.Option) {
        highestCarried = option.place
        limit(to: option.limit)
        if !encodings.isEmpty { next = encodings[option.place] === track ? nil : encodings[option.place] }
    }

    /// The highest layers that come and that the viewer can make use of.
    var highestLayer: LayerLimit {
        var highest = track.encoding?.highestLayer ?? .lowest
        if decodesLowestLayer { highest.spatial = 0 }
        return highest
    }

    /// Those of them that the viewer is to get.
    private var carriedLayers: LayerLimit { layers.target.limited(to: highestLayer) }

    private func place(of encoding: Track) -> Int { encodings.firstIndex { $0 === encoding } ?? 0 }
}
