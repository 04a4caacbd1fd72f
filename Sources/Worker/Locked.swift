import Glibc

/// A value behind a lock.
///
/// Not the standard library's `Mutex`: that one waits in the kernel by itself, in code that ThreadSanitizer can't see into, so
/// that everything it protects would look like a race. A pthread mutex costs the same here.
///
/// `@unchecked Sendable`: `value` is touched only between lock and unlock. `mutex` is initialised before anybody has the object,
/// stays where it was allocated, and is destroyed when nobody has it any more.
package final class Locked<Value: Sendable>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private var value: Value

    package init(_ value: Value) {
        self.value = value
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    package func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&value)
    }
}
