import Transport

/// How viewers come in.
extension LoadRun {
    /// How long the server's CPU is looked at while nobody joins.
    private static let quiet = Duration.seconds(2)

    /// Lets the first viewers in and waits until they have a picture, then the others.
    ///
    /// - Returns: How long the others' signalling took.
    func joinInTwo(_ media: MediaThread) async throws -> Duration {
        try await join(0..<plan.firstViewers, media)
        let firstSessions = plan.firstViewers * plan.sessionsPerViewer
        _ = try await wait(plan.patience, media) { $0.viewersWithPicture >= firstSessions }
        media.send(.markFirstViewers)
        let start = ContinuousClock.now
        try await join(plan.firstViewers..<plan.viewers, media)
        let joined = ContinuousClock.now - start
        try await waitForPictures(media)
        return joined
    }

    /// Lets all viewers in and looks at what the first and the last of them cost the server.
    func joinMeasured(_ media: MediaThread, server: Int32) async throws -> (joining: Duration, costs: JoinCosts) {
        func measure(_ body: () async throws -> Void) async throws -> JoinCosts.Stretch {
            let before = try ProcessTime(process: server)
            let start = ContinuousClock.now
            try await body()
            let seconds = (ContinuousClock.now - start).seconds
            return JoinCosts.Stretch(
                seconds: seconds,
                cpuSeconds: try ProcessTime(process: server).seconds - before.seconds
            )
        }
        func joinAndConnect(_ viewers: Range<Int>) async throws {
            try await join(viewers, media)
            let sessions = viewers.upperBound * plan.sessionsPerViewer
            _ = try await wait(plan.patience, media) { $0.viewersConnected + $0.handshakesFailed >= sessions }
        }
        let joins = plan.measuredJoins
        let idle = try await measure { try await Task.sleep(for: Self.quiet) }
        media.send(.markFirstViewers)
        let start = ContinuousClock.now
        let first = try await measure { try await joinAndConnect(0..<joins) }
        try await joinAndConnect(joins..<(plan.viewers - joins))
        let last = try await measure { try await joinAndConnect((plan.viewers - joins)..<plan.viewers) }
        let joining = ContinuousClock.now - start
        try await waitForPictures(media)
        let busy = try await measure { try await Task.sleep(for: Self.quiet) }
        let costs = JoinCosts(idle: idle, first: first, last: last, busy: busy, joins: joins, viewers: plan.viewers)
        return (joining, costs)
    }

    private func waitForPictures(_ media: MediaThread) async throws {
        let sessions = plan.viewers * plan.sessionsPerViewer
        _ = try await wait(plan.patience, media) {
            min($0.viewersWithPicture, $0.viewersWithAllStreams) + $0.handshakesFailed >= sessions
        }
    }

    /// Lets viewers join at the plan's rate.
    private func join(_ viewers: Range<Int>, _ media: MediaThread) async throws {
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            var running = 0
            for (place, viewer) in viewers.enumerated() {
                if running >= plan.parallelJoins {
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
}
