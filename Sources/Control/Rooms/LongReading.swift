import Dispatch

/// Reads what is long aside: the threads that carry out everybody's requests are as few as the processors, and each would be held for as
/// long as it takes. One thread does, so that those who send much wait for each other.
enum LongReading {
    private static let queue = DispatchQueue(label: "sluice.long-reading")

    static func run<Value: Sendable, Failure: Error>(
        _ read: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
            queue.async {
                do throws(Failure) {
                    continuation.resume(returning: .success(try read()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }
}
