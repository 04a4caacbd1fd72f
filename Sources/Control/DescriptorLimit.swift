import Glibc

/// How many files, sockets among them, the process may have open.
enum DescriptorLimit {
    /// What a server needs besides HTTP connections: each worker's socket and loop, each processor's loop of HTTP, and the files, the
    /// timers and the tools that come and go. Without them calls would end, and libraries that count on them trap.
    static func reserve(workers: Int, processors: Int) -> Int { 48 + 6 * workers + 6 * processors }

    /// HTTP connections below this are no service.
    static let fewestConnections = 16

    /// Raises the soft limit to the hard one: many systems have 1024 for programs that use `select`, which none of ours does.
    ///
    /// - Returns: The limit before and now.
    static func raise() -> (before: Int, now: Int) {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return (0, 1024) }
        let before = limit.rlim_cur
        if limit.rlim_cur < limit.rlim_max {
            var raised = limit
            raised.rlim_cur = limit.rlim_max
            if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { limit = raised }
        }
        return (Int(clamping: before), Int(clamping: limit.rlim_cur))
    }

    static var current: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
        return Int(clamping: limit.rlim_cur)
    }
}
