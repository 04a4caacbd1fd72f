/// What viewers' joins cost the server at the beginning and at the end.
struct JoinCosts: Encodable, Sendable {
    /// A group of joins, from the first's beginning until the last's DTLS handshake was done.
    struct Group: Encodable, Sendable {
        var joins: Int
        var seconds: Double
        /// All that the server's process did in this time (`utime + stime`), its forwarding of media included.
        var serverMillisecondsPerJoin: Double
        /// The same without what it does anyhow for as many viewers as there were on average.
        var serverMillisecondsPerJoinAlone: Double
    }

    var first: Group
    var last: Group
    /// The server's CPU in a second in which nobody joins: before the first viewer, and when all are there.
    var idleMillisecondsPerSecond: Double
    var busyMillisecondsPerSecond: Double

    /// CPU and wall seconds that a stretch of the run took.
    struct Stretch: Sendable {
        var seconds: Double
        var cpuSeconds: Double

        var millisecondsPerSecond: Double { seconds > 0 ? cpuSeconds / seconds * 1000 : 0 }
    }

    /// - Parameters:
    ///   - idle: Before the first viewer came.
    ///   - busy: When all viewers were there.
    ///   - joins: Viewers of the first group, and of the last.
    ///   - viewers: All.
    init(idle: Stretch, first: Stretch, last: Stretch, busy: Stretch, joins: Int, viewers: Int) {
        idleMillisecondsPerSecond = idle.millisecondsPerSecond
        busyMillisecondsPerSecond = busy.millisecondsPerSecond
        func group(_ stretch: Stretch, averageViewers: Double) -> Group {
            let part = averageViewers / Double(viewers)
            let anyhow = idle.millisecondsPerSecond * (1 - part) + busy.millisecondsPerSecond * part
            let used = stretch.cpuSeconds * 1000
            return Group(
                joins: joins,
                seconds: stretch.seconds,
                serverMillisecondsPerJoin: used / Double(joins),
                serverMillisecondsPerJoinAlone: (used - anyhow * stretch.seconds) / Double(joins)
            )
        }
        self.first = group(first, averageViewers: Double(joins) / 2)
        self.last = group(last, averageViewers: Double(viewers) - Double(joins) / 2)
    }

    /// For the table.
    func rows(_ number: (Double, Int) -> String) -> [(String, String)] {
        func text(_ group: Group) -> String {
            "\(number(group.serverMillisecondsPerJoin, 2)) ms of the server's CPU each, "
                + "\(number(group.serverMillisecondsPerJoinAlone, 2)) without forwarding (\(number(group.seconds, 2)) s in all)"
        }
        return [
            ("the first \(first.joins) joins", text(first)),
            ("the last \(last.joins) joins", text(last)),
            (
                "between joins",
                "\(number(idleMillisecondsPerSecond, 1)) ms of the server's CPU a second without viewers, "
                    + "\(number(busyMillisecondsPerSecond, 1)) with all"
            ),
        ]
    }
}
