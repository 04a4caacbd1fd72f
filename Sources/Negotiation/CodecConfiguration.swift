public import Wire

/// What decides whether a decoder plays what an encoder makes: a codec with what matters of its `a=fmtp`, and nothing of what doesn't.
///
/// There are few of them, so that each has its payload type in a session whoever publishes what (`OutgoingMedia`).
public enum CodecConfiguration: Sendable, Hashable {
    case opus(isStereo: Bool)
    case vp8
    /// `profile-id`, 0 to 3.
    case vp9(profile: Int)
    case h264(H264Profile, PacketizationMode)
    /// `profile-id`: 1 is Main, 2 Main 10, 3 Main Still Picture, 4 the range extensions.
    case h265(profile: Int)
    /// `profile`, 0 to 2.
    case av1(profile: Int)

    /// - Parameter parameters: `a=fmtp`'s, by any side.
    /// - Returns: Nil for what nobody makes, and we don't know how to compare.
    public init?(_ codec: Codec, _ parameters: String) {
        let parameters = FormatParameters(text: parameters)
        func profile(_ name: String, default value: Int, in range: ClosedRange<Int>) -> Int? {
            guard let text = parameters[name] else { return value }
            return Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
        switch codec {
        case .opus:
            // RFC 7587 §6.1: `stereo` is what its writer would rather be sent, `sprop-stereo` what it is likely to send.
            self = .opus(isStereo: (parameters["sprop-stereo"] ?? parameters["stereo"]) == "1")
        case .vp8: self = .vp8
        case .vp9:
            guard let profile = profile("profile-id", default: 0, in: 0...3) else { return nil }
            self = .vp9(profile: profile)
        case .h264:
            guard let profile = H264Profile(parameters["profile-level-id"]),
                let mode = PacketizationMode(parameters["packetization-mode"])
            else { return nil }
            self = .h264(profile, mode)
        case .h265:
            guard let profile = profile("profile-id", default: 1, in: 1...4) else { return nil }
            self = .h265(profile: profile)
        case .av1:
            guard let profile = profile("profile", default: 0, in: 0...2) else { return nil }
            self = .av1(profile: profile)
        }
    }

    /// What a codec without parameters is.
    init(_ codec: Codec) {
        switch codec {
        case .opus: self = .opus(isStereo: false)
        case .vp8: self = .vp8
        case .vp9: self = .vp9(profile: 0)
        case .h264: self = .h264(.baseline, .unknown)
        case .h265: self = .h265(profile: 1)
        case .av1: self = .av1(profile: 0)
        }
    }

    public var codec: Codec {
        switch self {
        case .opus: .opus
        case .vp8: .vp8
        case .vp9: .vp9
        case .h264: .h264
        case .h265: .h265
        case .av1: .av1
        }
    }

    /// How well a decoder for this plays that: 0 is best, nil is not at all.
    func fitness(for sent: CodecConfiguration) -> Int? {
        switch (self, sent) {
        case (.opus, .opus), (.vp8, .vp8): return 0
        case (.vp9(let profile), .vp9(let other)): return profile == other ? 0 : nil
        case (.h264(let profile, let mode), .h264(let other, let otherMode)):
            guard let profileFitness = profile.fitness(for: other), let modeFitness = mode.fitness(for: otherMode)
            else {
                return nil
            }
            return profileFitness * 4 + modeFitness
        // Main 10 contains Main, and the range extensions both (H.265 §A.3); AV1's profiles contain those before them (§6.4.1).
        case (.h265(let profile), .h265(let other)):
            return profile >= other && other != 3 || profile == other ? profile - other : nil
        case (.av1(let profile), .av1(let other)): return profile >= other ? profile - other : nil
        default: return nil
        }
    }

    /// How few decoders play it: of two the lower one is what a publisher is asked for.
    var rarity: Int {
        switch self {
        case .opus, .vp8: 0
        case .vp9(let profile), .h265(let profile), .av1(let profile): profile
        case .h264(let profile, let mode): profile.rarity * 4 + mode.rarity
        }
    }

    /// As we offer it, where a client can take it or leave it: what its decoder is called by most.
    ///
    /// All of Baseline, Main and High have one name, and a stream of single NAL units goes where fragments go too: Decision 006.
    var offered: CodecConfiguration {
        guard case .h264(let profile, _) = self else { return self }
        return .h264(profile.isCommon ? .baseline : profile, .nonInterleaved)
    }

    /// `a=fmtp` of what we offer.
    var offeredParameters: String {
        switch self {
        case .opus(let isStereo): "minptime=10;useinbandfec=1" + (isStereo ? ";stereo=1;sprop-stereo=1" : "")
        case .vp8: ""
        case .vp9(let profile): "profile-id=\(profile)"
        case .h264(let profile, let mode):
            "level-asymmetry-allowed=1;packetization-mode=\(mode == .single ? 0 : 1);profile-level-id=\(profile.identifier)1f"
        case .h265(let profile): "level-id=93;profile-id=\(profile);tier-flag=0;tx-mode=SRST"
        case .av1(let profile): "level-idx=5;profile=\(profile);tier=0"
        }
    }
}

/// The profile in an H.264 `profile-level-id` (RFC 6184 §8.1), as far as it decides who can decode whom.
public enum H264Profile: UInt8, Sendable, Hashable, CaseIterable {
    /// Baseline and Constrained Baseline: nobody uses what they differ in.
    case baseline = 0x42
    case main = 0x4D
    case extended = 0x58
    /// High and Constrained High.
    case high = 0x64
    case high10 = 0x6E
    case high422 = 0x7A
    case high444 = 0xF4
    case cavlc444 = 0x2C

    /// - Parameter text: Six hexadecimal digits; what is none of them, or absent, means Baseline.
    init?(_ text: String?) {
        guard let text, text.utf8.count == 6, let value = UInt32(text, radix: 16) else {
            self = .baseline
            return
        }
        self.init(rawValue: UInt8(truncatingIfNeeded: value >> 16))
        // Main with constraint_set0 is Constrained Baseline as well (H.264 §A.2.1).
        if self == .main, value & 0x8000 != 0 { self = .baseline }
    }

    /// 4:2:0 in 8 bits, progressive: every decoder that there is plays all three.
    var isCommon: Bool { self == .baseline || self == .main || self == .high }

    /// How well a decoder that names this profile plays that one.
    func fitness(for sent: H264Profile) -> Int? {
        if self == sent { return 0 }
        guard isCommon, sent.isCommon else { return nil }
        // One that contains it, and then one that names less than it can: Decision 006.
        return rawValue > sent.rawValue ? 1 : 2
    }

    fileprivate var rarity: Int {
        switch self {
        case .baseline: 0
        case .main: 1
        case .high: 2
        case .extended, .high10, .high422, .high444, .cavlc444: 3
        }
    }

    /// The first four digits of `profile-level-id`.
    fileprivate var identifier: String {
        switch self {
        case .baseline: "42e0"
        case .main: "4d00"
        case .extended: "5800"
        case .high: "6400"
        case .high10: "6e00"
        case .high422: "7a00"
        case .high444: "f400"
        case .cavlc444: "2c00"
        }
    }
}

/// H.264's `packetization-mode` (RFC 6184 §6.2). The interleaved one is nobody's.
public enum PacketizationMode: Sendable, Hashable {
    /// Not told. By RFC 6184 §8.1 that means single NAL units, but those that leave it out take both in practice.
    case unknown
    /// 0: single NAL units.
    case single
    /// 1: fragments and aggregates too.
    case nonInterleaved

    init?(_ text: String?) {
        switch text {
        case nil: self = .unknown
        case "0": self = .single
        case "1": self = .nonInterleaved
        default: return nil
        }
    }

    fileprivate func fitness(for sent: PacketizationMode) -> Int? {
        switch (self, sent) {
        case (.single, .single), (.unknown, .unknown), (.nonInterleaved, .nonInterleaved): 0
        // Whoever takes fragments takes what has none.
        case (.nonInterleaved, _), (.single, .unknown): 1
        case (.unknown, _): 2
        case (.single, .nonInterleaved): nil
        }
    }

    fileprivate var rarity: Int {
        switch self {
        case .nonInterleaved: 0
        case .unknown: 1
        case .single: 2
        }
    }
}
