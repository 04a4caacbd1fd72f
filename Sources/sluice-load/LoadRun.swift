import Foundation
import Transport

/// One run, from the first publisher's offer to the report.
struct LoadRun: Sendable {
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

        var costs: JoinCosts?
        let joining: Duration
        if plan.measuredJoins > 0, let server = plan.serverProcess {
            (joining, costs) = try await joinMeasured(media, server: server)
        } else {
            joining = try await joinInTwo(media)
        }
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
        let received = signalling.received
        media.send(.stop)
        let outcome = try await media.outcome()
        try? await signalling.finish()

        var report = Report(outcome, plan: plan)
        report.joinSeconds = joining.seconds
        report.joinCosts = costs
        report.messages = received
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

    /// - Returns: Whether it came to hold in time.
    func wait(
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
