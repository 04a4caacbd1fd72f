import Foundation
import Testing
import Worker

@testable import Control

@Suite struct WallClockTests {
    /// The machine slept, or its clock was set: what another clock calls an hour is over.
    @Test(.timeLimit(.minutes(1))) func aDateComesWhenTheWallClockSaysSo() async {
        let readings = Locked<[Double]>([0, 10, 20, 3601])
        let looks = Locked(0)
        await WallClock.wait(until: Date(timeIntervalSince1970: 3600), lookingEach: .milliseconds(1)) {
            looks.withLock { $0 += 1 }
            return Date(timeIntervalSince1970: readings.withLock { $0.isEmpty ? 1e9 : $0.removeFirst() })
        }
        #expect(looks.withLock { $0 } == 4)
    }

    @Test(.timeLimit(.minutes(1))) func aPastDateIsThere() async {
        await WallClock.wait(until: Date(timeIntervalSince1970: 0), lookingEach: .seconds(3600))
        await WallClock.wait(until: .distantPast, lookingEach: .seconds(3600))
    }

    @Test(.timeLimit(.minutes(1))) func aWaitCanBeCancelled() async {
        let wait = Task { await WallClock.wait(until: .distantFuture, lookingEach: .seconds(3600)) }
        wait.cancel()
        await wait.value
    }
}
