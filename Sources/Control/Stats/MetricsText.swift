import Commands
import Negotiation

/// `GET /metrics`: the Prometheus text exposition format, version 0.0.4. Every metric's name stands here and nowhere else.
struct MetricsText {
    private(set) var text = ""

    init(census: Census, workers: [WorkerSnapshot], process: ProcessMetrics) {
        let counters = workers.map(\.counters).reduce(into: WorkerCounters()) { $0.merge($1) }
        counter(
            "packets_received_total",
            "RTP packets received, without those that were dropped.",
            counters.packetsReceived
        )
        counter(
            "packets_forwarded_total",
            "RTP packets sent to viewers, without retransmissions.",
            counters.packetsForwarded
        )
        counter("bytes_received_total", "UDP payload bytes received.", counters.bytesReceived)
        counter("bytes_sent_total", "UDP payload bytes sent.", counters.bytesSent)
        family("packets_dropped_total", "counter", "Datagrams and packets dropped, by reason.")
        for reason in DropReason.allCases {
            sample("packets_dropped_total", ["reason": reason.label], "\(counters.drops[reason.rawValue])")
        }
        counter(
            "packets_retransmitted_total",
            "RTP packets sent again for viewers' NACKs.",
            counters.packetsRetransmitted
        )
        counter(
            "packets_recovered_total",
            "RTP packets that publishers' retransmissions brought.",
            counters.packetsRecovered
        )
        gauge(
            "packets_lost",
            "RTP packets that publishers sent and that did not come (RFC 3550).",
            "\(counters.packetsLost)"
        )
        counter("nacks_received_total", "Generic NACK messages from viewers.", counters.nacksReceived)
        counter("nacks_sent_total", "Generic NACK messages to publishers.", counters.nacksSent)
        counter(
            "keyframe_requests_received_total",
            "PLI and FIR messages from viewers.",
            counters.keyframeRequestsReceived
        )
        counter("keyframe_requests_sent_total", "PLI and FIR messages to publishers.", counters.keyframeRequestsSent)
        family("peers", "gauge", "Peers, by role.")
        for role in Session.Role.allCases { sample("peers", ["role": role.rawValue], "\(census.peers[role] ?? 0)") }
        family("rooms", "gauge", "Rooms, by privacy mode.")
        for mode in PrivacyMode.allCases { sample("rooms", ["privacy": mode.rawValue], "\(census.rooms[mode] ?? 0)") }
        gauge("streams", "Streams that somebody publishes.", "\(census.streamCount)")
        gauge("subscriptions", "Tracks forwarded to peers.", "\(workers.map(\.subscriptionCount).reduce(0, +))")
        family("dtls_handshakes_total", "counter", "DTLS handshakes that ended, by result.")
        sample("dtls_handshakes_total", ["result": "completed"], "\(counters.dtlsHandshakesCompleted)")
        sample("dtls_handshakes_total", ["result": "failed"], "\(counters.dtlsHandshakesFailed)")
        histogram("worker_loop_seconds", "Time that a worker's turn took.", counters.loopSeconds)
        histogram(
            "forward_latency_seconds",
            "Time from the arrival of a turn's oldest datagram to the sending, of each datagram that came of it.",
            counters.forwardLatencySeconds
        )
        histogram("egress_batch_packets", "Datagrams handed to the kernel at once.", counters.egressBatchPackets)
        append(process)
    }

    private mutating func append(_ process: ProcessMetrics) {
        raw("process_cpu_seconds_total", "counter", "User and system CPU time.", "\(process.cpuSeconds)")
        raw("process_resident_memory_bytes", "gauge", "Resident memory.", "\(process.residentBytes)")
        raw("process_virtual_memory_bytes", "gauge", "Virtual memory.", "\(process.virtualBytes)")
        raw("process_start_time_seconds", "gauge", "Start time since the Unix epoch.", "\(process.startSeconds)")
        raw("process_open_fds", "gauge", "Open file descriptors.", "\(process.openDescriptors)")
        raw("process_max_fds", "gauge", "Most open file descriptors.", "\(process.maximumDescriptors)")
        raw("process_threads", "gauge", "Threads.", "\(process.threads)")
    }

    private mutating func counter(_ name: String, _ help: String, _ value: UInt64) {
        family(name, "counter", help)
        sample(name, [:], "\(value)")
    }

    private mutating func gauge(_ name: String, _ help: String, _ value: String) {
        family(name, "gauge", help)
        sample(name, [:], value)
    }

    private mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) {
        family(name, "histogram", help)
        var cumulative: UInt64 = 0
        for (index, count) in histogram.counts.enumerated() {
            cumulative += count
            let bound = index < histogram.bounds.count ? "\(histogram.bounds[index])" : "+Inf"
            sample("\(name)_bucket", ["le": bound], "\(cumulative)")
        }
        sample("\(name)_sum", [:], "\(histogram.sum)")
        sample("\(name)_count", [:], "\(cumulative)")
    }

    private mutating func family(_ name: String, _ type: String, _ help: String) {
        text += "# HELP sluice_\(name) \(help)\n# TYPE sluice_\(name) \(type)\n"
    }

    private mutating func sample(_ name: String, _ labels: [String: String], _ value: String) {
        let list = labels.map { "\($0.key)=\"\($0.value)\"" }.sorted().joined(separator: ",")
        text += list.isEmpty ? "sluice_\(name) \(value)\n" : "sluice_\(name){\(list)} \(value)\n"
    }

    /// A metric whose name is every program's and has no prefix.
    private mutating func raw(_ name: String, _ type: String, _ help: String, _ value: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(name) \(value)\n"
    }
}
