import Worker

/// Counts what each client address asked for within the current minute.
///
/// A new minute forgets all counts, so memory is bounded by what one minute brings.
final class RateLimiter: Sendable {
    private struct State: Sendable {
        var minute: Int64 = 0
        var counts: [String: Int] = [:]
    }

    private let limit: Int
    private let clock = ContinuousClock()
    private let start: ContinuousClock.Instant
    private let state = Locked(State())

    /// - Parameter limit: Requests that one address may make in a minute.
    init(limit: Int) {
        self.limit = limit
        start = clock.now
    }

    /// Whether the address is within its limit, without counting.
    func isWithinLimit(_ address: String) -> Bool {
        let minute = start.duration(to: clock.now).components.seconds / 60
        return state.withLock { state in
            state.minute != minute || state.counts[address, default: 0] < limit
        }
    }

    /// Counts one request.
    ///
    /// - Returns: Whether the address is within its limit.
    func admits(_ address: String) -> Bool {
        let minute = start.duration(to: clock.now).components.seconds / 60
        return state.withLock { state in
            if state.minute != minute {
                state.minute = minute
                state.counts.removeAll()
            }
            state.counts[address, default: 0] += 1
            return state.counts[address, default: 0] <= limit
        }
    }
}
