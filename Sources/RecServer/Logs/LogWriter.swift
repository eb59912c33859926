import Logging
import Threading

/// Where a `LogWriter` puts what it was given; used by its thread alone.
protocol LogSink {
    /// Gets ready; called before the first write.
    mutating func open() throws(LogSinkFailure)
    /// Takes records out of `records`, from their beginning, as far as they are written.
    mutating func write(_ records: inout [UInt8]) throws(LogSinkFailure)
    /// Lets go of what it has open; a write may follow.
    mutating func close()
}

/// Why records were not taken.
struct LogSinkFailure: Error, CustomStringConvertible {
    let description: String
    /// Whether the same records may be taken later.
    var isPassing = true
    /// Seconds to wait at least, where the other side says so.
    var retryAfter: UInt64?
}

/// A bounded buffer of records and the thread that writes them: who hands one over never waits.
///
/// What cannot be written is tried again; what finds no room meanwhile is dropped and counted.
final class LogWriter: Sendable {
    /// What the writer does when.
    struct Pace: Sendable {
        /// Bytes of records that wait to be written, and as much again that is being written.
        var queueBytes = 8 << 20
        /// Nanoseconds between a record's coming and the write, so that others may join it.
        var gathering: UInt64 = 0
        /// Seconds until a write that failed is tried again: doubled with each failure, up to the maximum.
        var retrySeconds: UInt64 = 1
        var retrySecondsMaximum: UInt64 = 1
    }

    private struct Pending: Sendable {
        var records: [UInt8] = []
        var count = 0
        var since: UInt64 = 0
        var isClosed = false
        var wantsReopening = false

        mutating func takeReopening() -> Bool {
            defer { wantsReopening = false }
            return wantsReopening
        }
    }

    private enum Work { case write([UInt8], count: Int), gather, reopen, end }

    private let pending: Lock<Pending>
    private let thread: NamedThread
    private let queueBytes: Int
    /// Records written.
    let written: Counter
    /// Records left out because too many waited, or because nobody will ever take them.
    let dropped: Counter
    let errors: Counter
    let bytes: Counter

    /// - Parameters:
    ///   - name: of the thread.
    ///   - title: what log lines call it: "the … log".
    ///   - sink: made on the thread.
    init(
        name: String, title: String, pace: Pace = Pace(), logger: Logger,
        sink: @escaping @Sendable () -> any LogSink
    ) throws(ThreadingError) {
        let pending = Lock(Pending())
        let counters = (written: Counter(), dropped: Counter(), errors: Counter(), bytes: Counter())
        thread = try NamedThread(name: name) {
            ThreadPriority.lower()
            var run = Run(
                sink: sink(), title: title, pace: pace, logger: logger, pending: pending,
                written: counters.written, dropped: counters.dropped, errors: counters.errors,
                bytes: counters.bytes)
            run.work()
        }
        self.pending = pending
        queueBytes = pace.queueBytes
        (written, dropped, errors, bytes) = counters
    }

    /// Hands a record over; never waits. False when it is dropped.
    @discardableResult
    func offer(_ record: [UInt8]) -> Bool {
        let (isTaken, isFirst) = pending.withLock { pending in
            guard !pending.isClosed, pending.records.count + record.count <= queueBytes else {
                return (false, false)
            }
            pending.records += record
            pending.count += 1
            if pending.count == 1 { pending.since = MonotonicClock.nanoseconds }
            return (true, pending.count == 1)
        }
        if isFirst { pending.wakeAll() }
        if !isTaken { dropped.add() }
        return isTaken
    }

    /// Lets the sink close and open again, so that a file that was moved away is let go.
    func reopen() {
        pending.withLock { $0.wantsReopening = true }
        pending.wakeAll()
    }

    /// Writes what waits, once, and ends the thread.
    func stop() {
        pending.withLock { $0.isClosed = true }
        pending.wakeAll()
        thread.join()
    }

    /// The thread's side.
    private struct Run {
        var sink: any LogSink
        let title: String
        let pace: Pace
        let logger: Logger
        let pending: Lock<Pending>
        let written: Counter
        let dropped: Counter
        let errors: Counter
        let bytes: Counter
        var isFailing = false
        var failures: UInt64 = 0

        mutating func work() {
            _ = attempt { (sink) throws(LogSinkFailure) in try sink.open() }
            while true {
                switch next() {
                case .end: return sink.close()
                // The first record has come, or none for a while: those that follow it are waited for.
                case .gather: continue
                case .reopen:
                    sink.close()
                    _ = attempt { (sink) throws(LogSinkFailure) in try sink.open() }
                case .write(var records, let count):
                    let size = records.count
                    guard write(&records) else {
                        dropped.add(count)
                        continue
                    }
                    written.add(count)
                    bytes.add(size)
                }
            }
        }

        /// Writes all records; false when they are lost.
        private mutating func write(_ records: inout [UInt8]) -> Bool {
            while true {
                let failure = attempt { (sink) throws(LogSinkFailure) in try sink.write(&records) }
                guard let failure else { return true }
                guard failure.isPassing, pause(after: failure) else { return false }
                // The file may have been moved away because it cannot be written.
                if pending.withLock({ $0.takeReopening() }) { sink.close() }
            }
        }

        /// - Returns: why the attempt failed; the first failure and the first success after it are logged.
        private mutating func attempt(
            _ body: (inout any LogSink) throws(LogSinkFailure) -> Void
        ) -> LogSinkFailure? {
            do throws(LogSinkFailure) {
                try body(&sink)
                if isFailing { logger.info("\(title) is written again") }
                (isFailing, failures) = (false, 0)
                return nil
            } catch {
                errors.add()
                failures += 1
                if !isFailing {
                    logger.error("\(title) cannot be written", metadata: ["reason": "\(error)"])
                }
                isFailing = true
                return error
            }
        }

        private func next() -> Work {
            let due = pending.withLock { $0.count > 0 ? $0.since &+ pace.gathering : nil }
            let work: Work? = pending.wait(until: due ?? MonotonicClock.nanoseconds &+ 60_000_000_000) {
                pending in
                if pending.wantsReopening {
                    pending.wantsReopening = false
                    return .reopen
                }
                guard pending.count > 0 else { return pending.isClosed ? .end : nil }
                guard pending.isClosed || MonotonicClock.nanoseconds >= pending.since &+ pace.gathering else {
                    return due == nil ? .gather : nil
                }
                defer { (pending.records, pending.count) = ([], 0) }
                return .write(pending.records, count: pending.count)
            }
            return work ?? .gather
        }

        /// Waits before another attempt; false when the log is to end.
        private func pause(after failure: LogSinkFailure) -> Bool {
            let doubled = pace.retrySeconds << min(failures - 1, 16)
            let seconds = max(min(doubled, pace.retrySecondsMaximum), failure.retryAfter ?? 0)
            let end = MonotonicClock.nanoseconds &+ seconds * 1_000_000_000
            return pending.wait(until: end) { $0.isClosed ? false : $0.wantsReopening ? true : nil } ?? true
        }
    }
}
