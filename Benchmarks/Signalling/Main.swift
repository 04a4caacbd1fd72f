// Prints, for each of the worst messages, what it takes to look at it, and how much of that others wait for. Fails when one takes longer
// than it may.

import Glibc

@main enum SignallingBenchmark {
    /// What a message may take in all, and where others wait for it, in milliseconds.
    private static let mayTake = 20.0
    private static let othersMayWait = 5.0
    private static let repetitions = 7

    static func main() {
        print("| request or message | made of | bytes | ms in all | ms that others wait |")
        print("| --- | --- | --- | --- | --- |")
        var isTooSlow = false
        func report(_ carrier: String, _ name: String, bytes: Int, all: UInt64, inside: UInt64) {
            let (all, inside) = (milliseconds(all), milliseconds(inside))
            print("| \(carrier) | \(name) | \(bytes) | \(all) | \(inside) |")
            if all > mayTake || inside > othersMayWait { isTooSlow = true }
        }
        for carrier in WorstMessage.Carrier.allCases {
            for message in worstMessages where message.carriers.contains(carrier) {
                let bytes = Array(message.make(carrier.maximumBytes).utf8)
                precondition(bytes.count <= carrier.maximumBytes, "\(message.name) has \(bytes.count) bytes")
                // The best of some: what the machine does beside it is no part of what a message takes.
                var (all, inside) = (UInt64.max, UInt64.max)
                for _ in 0..<repetitions {
                    var waited: UInt64 = 0
                    all = min(all, timed { waited = carrier.lookAt(bytes) })
                    inside = min(inside, waited)
                }
                report(carrier.rawValue, message.name, bytes: bytes.count, all: all, inside: inside)
            }
        }
        var longest = (bytes: 0, time: UInt64.max)
        for _ in 0..<repetitions {
            var media = WorstMessage.Carrier.full()
            var text = ""
            let time = timed {
                let offer = WorstMessage.Carrier.offer(&media)
                text = JSONValue.object(["type": "offer", "sdp": .string(offer)]).encoded
            }
            longest = (text.utf8.count, min(longest.time, time))
        }
        report("our offer", "all m-lines", bytes: longest.bytes, all: longest.time, inside: longest.time)
        if isTooSlow { exit(1) }
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> Double {
        (Double(nanoseconds) / 10_000).rounded() / 100
    }
}
