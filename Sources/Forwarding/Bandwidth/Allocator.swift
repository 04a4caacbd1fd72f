import Wire

/// Divides what a viewer's network carries over the tracks that it is sent. A pure function of its inputs.
///
/// Each track gets its least first, the first ones first; one whose least does not fit is rationed to what is left. Then, round by round, each
/// gets one step more while that fits. What is more than a track has now needs some room to spare, so that nothing comes and goes with each
/// change of the estimate.
struct Allocator {
    /// One way of sending a track.
    struct Option: BitwiseCopyable {
        /// The place of the encoding.
        var place: Int
        /// Which of its layers.
        var limit: LayerLimit
        var bitsPerSecond: Double
        /// The highest rate that it had lately.
        var peakBitsPerSecond: Double
    }

    /// One track.
    struct Item: BitwiseCopyable {
        /// The place of its first option in the list of all, and the one behind its last. Their rates ascend.
        var first: Int
        var end: Int
        /// The option that it has now; nil where that is none of them.
        var current: Int?
        /// Whether its least did not fit before.
        var isRationed = false
        /// The option that it gets.
        var chosen: Int
        /// What it may take, where that is less than its least, in bits per second.
        var ration: Double?
    }

    /// A step up has to fit so many times.
    private static let headroom = 1.15
    /// What a track has now may take a little more than there seems to be.
    static let tolerance = 1.08
    /// The same for the least of it: without it the picture stands.
    private static let leastTolerance = 1.25

    /// What the tracks get takes so many bits per second together.
    private(set) var allocated = 0.0
    /// What all of them would take at most.
    private(set) var wanted = 0.0
    /// What all of it takes with the cheapest step that did not fit; nil when everything does.
    private(set) var next: Double?

    /// - Parameters:
    ///   - bitsPerSecond: What there is to divide.
    ///   - allowsMore: Whether any track may get more than it has now.
    init(
        of bitsPerSecond: Double,
        options: ContiguousArray<Option>,
        items: inout ContiguousArray<Item>,
        allowsMore: Bool
    ) {
        for index in items.indices {
            items[index].chosen = items[index].first
            wanted += options[items[index].end - 1].peakBitsPerSecond
            let least = options[items[index].first].bitsPerSecond
            let factor = items[index].isRationed ? Self.headroom : 1 / Self.leastTolerance
            if (allocated + least) * factor <= bitsPerSecond {
                allocated += least
            } else {
                let ration = min(least, max(0, bitsPerSecond - allocated))
                items[index].ration = ration
                next = min(next ?? .infinity, allocated + least)
                allocated += ration
            }
        }
        var goesOn = true
        while goesOn {
            goesOn = false
            for index in items.indices where items[index].ration == nil {
                let step = items[index].chosen + 1
                guard step < items[index].end else { continue }
                let total = allocated - options[items[index].chosen].bitsPerSecond + options[step].bitsPerSecond
                let isMore = items[index].current.map { step > $0 } ?? true
                let factor = isMore ? Self.headroom : step == items[index].current ? 1 / Self.tolerance : 1
                guard !isMore || allowsMore, total * factor <= bitsPerSecond else { continue }
                // What comes up has to fit at its peak too.
                let peak = options[step].peakBitsPerSecond - options[step].bitsPerSecond
                guard !isMore || total + peak <= bitsPerSecond else { continue }
                items[index].chosen = step
                allocated = total
                goesOn = true
            }
        }
        for item in items where item.chosen + 1 < item.end && item.ration == nil {
            let total = allocated - options[item.chosen].bitsPerSecond + options[item.chosen + 1].peakBitsPerSecond
            next = min(next ?? total, total)
        }
    }
}
