import Foundation

/// The clock that tokens' dates are meant by.
enum WallClock {
    /// Waits until a date, or until the task is cancelled. Other clocks stand still while the machine sleeps, or go on where the wall's
    /// is set to another time: so it is looked at again and again.
    static func wait(
        until date: Date,
        lookingEach interval: Duration,
        now: @Sendable () -> Date = { Date() }
    ) async {
        while !Task.isCancelled {
            let left = date.timeIntervalSince(now())
            guard left > 0 else { return }
            try? await Task.sleep(for: min(.seconds(min(left, 1e8)), interval))
        }
    }
}
