import HTTP
import Threading

/// A batch between two turns on compute threads.
struct BatchProgress: Sendable {
    /// All lines, and how many of them have their answers in `body`.
    let lines: [ArraySlice<UInt8>]
    var done = 0
    var body: [UInt8] = []
    var clock: StageClock

    /// Nanoseconds after which a batch makes room for others who wait.
    static let turn: UInt64 = 10_000_000

    /// What is left to do of a batch that was let in as `offeredBytes`.
    func rest(of offeredBytes: Int) -> Work {
        let left = lines[done...].reduce(0) { $0 + $1.count }
        let all = left + lines[..<done].reduce(0) { $0 + $1.count }
        return Work(.batch, byteCount: offeredBytes * left / max(all, 1))
    }
}

/// `POST /recommend` of many lines, on a compute thread.
extension ComputeWorker {
    /// Answers line by line: an answer or a problem for each, in order. After a turn of 10 ms the batch makes
    /// room for others who wait, and goes on when its lane comes next.
    ///
    /// The batch was admitted as one request. A line's deadline counts from when the line's own work begins,
    /// so that the last line has as much time as the first.
    /// - Returns: nil when it is to go on later; `job` then knows where.
    func recommendBatch(
        _ job: inout Job, _ headers: RequestHeaders, _ clock: inout StageClock, _ copies: inout [ShadowJob]
    ) throws(Problem) -> HTTPResponse? {
        var progress: BatchProgress
        if let begun = job.batch { progress = begun } else { progress = try begin(job, clock) }
        job.batch = nil
        let turnEnd = MonotonicClock.nanoseconds &+ BatchProgress.turn
        while progress.done < progress.lines.count {
            if job.exchange.isClosed {
                // Nobody reads the rest.
                service.metrics.abandoned.add()
                break
            }
            let start = MonotonicClock.nanoseconds
            if start >= turnEnd, isAwaited() {
                progress.clock = clock
                job.batch = progress
                return nil
            }
            let line = progress.lines[progress.done]
            progress.done += 1
            var lineClock = StageClock(start: start, keepsParts: clock.keepsParts)
            do throws(Problem) {
                // An empty body asks for the popular list; an empty line is a slip.
                guard !line.isEmpty else { throw Problem(.malformedJSON, "the line is empty") }
                progress.body += try answer(
                    job, Array(line), headers, receivedAt: start, &lineClock, &copies)
                service.metrics.batchLinesAnswered.add()
            } catch {
                note(error, job)
                service.metrics.batchLinesRefused.add()
                progress.body += error.encoded(requestID: job.requestID, line: progress.done)
            }
            progress.body.append(0x0A)
            clock.add(lineClock)
        }
        var response = service.response(
            json: progress.body, requestID: job.requestID, serverTiming: clock.header)
        response.headers[0] = ("Content-Type", Self.ndjson)
        return applied(headers, response)
    }

    private func begin(_ job: Job, _ clock: StageClock) throws(Problem) -> BatchProgress {
        var lines = job.request.body.split(separator: 0x0A, omittingEmptySubsequences: false)
        // The last line's end begins no other.
        if lines.last?.isEmpty ?? false { lines.removeLast() }
        guard lines.count <= service.settings.batchMax else {
            throw Problem(
                .outOfRange,
                errors: [
                    .init(pointer: "", detail: "\(lines.count) lines, at most \(service.settings.batchMax)")
                ])
        }
        return BatchProgress(lines: lines, clock: clock)
    }
}
