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
        return layers.current.spatial < carriedLayers.spatial || (lackedSwitchPoint && awaitsSwitchPoint)
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

    /// The highest layers that come and that the viewer can make use of.
    private var highestLayer: LayerLimit {
        var highest = track.encoding?.highestLayer ?? .lowest
        if decodesLowestLayer { highest.spatial = 0 }
        return highest
    }

    /// Those of them that the viewer is to get.
    private var carriedLayers: LayerLimit { layers.target.limited(to: highestLayer) }

    private func place(of encoding: Track) -> Int { encodings.firstIndex { $0 === encoding } ?? 0 }
}
