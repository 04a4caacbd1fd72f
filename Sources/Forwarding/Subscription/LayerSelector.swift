import Wire

/// Decides, frame by frame, which layers of a scalable encoding a viewer is sent.
///
/// Layers are given up with the next picture. They are taken up again only where a decoder can follow: temporal ones at a switch point,
/// spatial ones with a keyframe.
struct LayerSelector {
    /// What the viewer is to be sent.
    var target = LayerLimit.none
    /// What it is sent.
    private(set) var current = LayerLimit.none
    /// The RTP timestamp of the picture that came last; nil before the first.
    private var timestamp: UInt32?

    /// Whether nothing is left out, nor is to be.
    @inline(__always)
    var isIdle: Bool { target == .none && current == .none }

    /// Looks at a packet that is newer than all before it. What is `current` then holds for it.
    mutating func observe(_ layer: LayerInfo, timestamp: UInt32, startsKeyframe: Bool) {
        if self.timestamp != timestamp {
            self.timestamp = timestamp
            current.spatial = min(current.spatial, target.spatial)
            current.temporal = min(current.temporal, target.temporal)
        }
        if startsKeyframe {
            current = target
            return
        }
        guard layer.flags.contains(.startsFrame), layer.spatial == 0, layer.flags.contains(.isSwitchPoint),
            layer.temporal > current.temporal, layer.temporal <= target.temporal
        else { return }
        current.temporal = layer.temporal
    }
}
