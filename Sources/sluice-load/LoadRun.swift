import Foundation
import Transport

/// One run, from the first publisher's offer to the report.
struct LoadRun: Sendable {
    /// Viewers whose signalling is under way at a time.
    static let parallelJoins = 64
    private static let publisherPatience = Duration.seconds(20)
    /// What a server may take to recover from a surge.
    private static let recovery = Duration.seconds(2)
    /// What was sent has so long to arrive after the window.
    private static let drain = Duration.milliseconds(700)

    let plan: LoadPlan
    let signalling: any Signalling
    let showsProgress: Bool

    func run() async throws -> Report {
        if let process = plan.serverProcess { _ = try ProcessTime(process: process) }
        let media = try MediaThread(plan: plan)
        let line = showsProgress ? Task { try await showProgress(media) } : nil
        defer { line?.cancel() }

        for publisher in 0..<plan.publishers { media.send(.add(try await signalling.publish(publisher))) }
        guard try await wait(Self.publisherPatience, media, { $0.publishersConnected == plan.publishers }) else {
            throw LoadError(
                "only \(try media.progress().publishersConnected) of \(plan.publishers) publishers connected"
            )
        }

        try await join(0..<plan.firstViewers, media)
        let firstSessions = plan.firstViewers * plan.sessionsPerViewer
        _ = try await wait(plan.patience, media) { $0.viewersWithPicture >= firstSessions }
        media.send(.markFirstViewers)
        let joinStart = ContinuousClock.now
        try await join(plan.firstViewers..<plan.viewers, media)
        let joined = ContinuousClock.now - joinStart
        let sessions = plan.viewers * plan.sessionsPerViewer
        _ = try await wait(plan.patience, media) { $0.viewersWithPicture + $0.handshakesFailed >= sessions }
        try await Task.sleep(for: plan.warmUp)
        if plan.surge > 1 {
            media.send(.beginSurge)
            try await Task.sleep(for: plan.surgeDuration)
            media.send(.endSurge)
            try await Task.sleep(for: Self.recovery)
        }

        let before = try plan.serverProcess.map { process throws(LoadError) in try ProcessTime(process: process) }
        let ownBefore = try ProcessTime(process: getpid())
        media.send(.beginWindow)
        try await Task.sleep(for: plan.duration)
        media.send(.pause)
        try await Task.sleep(for: Self.drain)
        let after = try plan.serverProcess.map { process throws(LoadError) in try ProcessTime(process: process) }
        let ownAfter = try ProcessTime(process: getpid())
        media.send(.stop)
        let outcome = try await media.outcome()
        try? await signalling.finish()

        var report = Report(outcome, plan: plan)
        report.joinSeconds = joined.seconds
        report.loadCPUSeconds = ownAfter.seconds - ownBefore.seconds
        if let before, let after {
            report.serverCPUSeconds = after.seconds - before.seconds
            report.serverThreadSeconds = after.threads.reduce(into: [:]) { threads, thread in
                threads[thread.key] = thread.value - (before.threads[thread.key] ?? 0)
            }
            report.serverResidentMegabytes = Double(after.residentBytes) / 1e6
        }
        return report
    }

    /// Lets viewers join at the plan's rate.
    private func join(_ viewers: Range<Int>, _ media: MediaThread) async throws {
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            var running = 0
            for (place, viewer) in viewers.enumerated() {
                if running >= Self.parallelJoins {
                    try await group.next()
                    running -= 1
                }
                if plan.joinsPerSecond > 0 {
                    try await Task.sleep(until: start + .seconds(Double(place) / plan.joinsPerSecond))
                }
                running += 1
                group.addTask {
                    let streams = (0..<plan.streamsPerViewer).map { (viewer + 1 + $0) % plan.publishers }
                    let startedAt = Instant.now.nanoseconds
                    for peer in try await signalling.watch(streams, viewer: viewer, startedAt: startedAt) {
                        media.send(.add(peer))
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// - Returns: Whether it came to hold in time.
    private func wait(
        _ patience: Duration,
        _ media: MediaThread,
        _ condition: (Progress) -> Bool
    ) async throws -> Bool {
        let deadline = ContinuousClock.now + patience
        while ContinuousClock.now < deadline {
            if condition(try media.progress()) { return true }
            try await Task.sleep(for: .milliseconds(50))
        }
        return condition(try media.progress())
    }

    private func showProgress(_ media: MediaThread) async throws {
        var last = try media.progress()
        while true {
            try await Task.sleep(for: .seconds(1))
            let now = try media.progress()
            let lost = now.packetsLost - last.packetsLost
            let received = now.packetsReceived - min(now.packetsReceived, last.packetsReceived)
            let part = received + lost > 0 ? Double(lost) / Double(received + lost) * 100 : 0
            let text =
                "viewers \(now.viewersConnected), with a picture \(now.viewersWithPicture) | "
                + "in \(received) packets/s, lost \(part.formatted(.number.precision(.fractionLength(2)))) % | "
                + "p99 \(now.latency.video.milliseconds(at: 0.99).formatted(.number.precision(.fractionLength(1)))) ms | "
                + "keyframe requests \(now.keyframeRequests)"
            FileHandle.standardError.write(Data("\r\u{1B}[K\(text)".utf8))
            last = now
        }
    }
}
