import Dispatch
import NIOCore
import Worker

/// Reads what is long aside: the threads that carry out everybody's requests are as few as the processors, and each would be held for as
/// long as it takes. One thread does, so that those who send much wait for each other.
///
/// Addresses take turns, so that nobody waits for more than one message of each other address, however many sockets that one has. Those of
/// one address take turns too, as a socket's next message is not looked at before its last one is read.
final class LongReading: Sendable {
    private typealias Job = @Sendable () -> Void

    private struct State: Sendable {
        /// What waits of each address, and the addresses of which something waits, the next one first.
        var waiting: [String: CircularBuffer<Job>] = [:]
        var turns = CircularBuffer<String>()

        mutating func add(_ job: @escaping Job, of address: String) {
            if waiting[address] == nil { turns.append(address) }
            waiting[address, default: []].append(job)
        }

        mutating func takeNext() -> Job? {
            guard let address = turns.popFirst(), let job = waiting[address]?.popFirst() else { return nil }
            if waiting[address]?.isEmpty == true {
                waiting[address] = nil
            } else {
                turns.append(address)
            }
            return job
        }
    }

    /// The server's.
    static let shared = LongReading()

    private let queue = DispatchQueue(label: "sluice.long-reading")
    private let state = Locked(State())

    /// - Parameter address: Whose turn it takes.
    func run<Value: Sendable, Failure: Error>(
        for address: String,
        _ read: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
            let job: Job = {
                do throws(Failure) {
                    continuation.resume(returning: .success(try read()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
            state.withLock { $0.add(job, of: address) }
            // Once for each job, but not with this one: it is another's turn, maybe.
            queue.async { [state] in state.withLock { $0.takeNext() }?() }
        }
        return try result.get()
    }

    /// How many wait, for tests.
    var waitingCount: Int { state.withLock { $0.waiting.values.reduce(0) { $0 + $1.count } } }
}
