import HTTP
import Logging
import Retrieval
import Threading

/// A request on its way from a loop to a compute thread.
struct Job: Sendable {
    let request: HTTPRequest
    let match: Router.Match
    let requestID: String
    let exchange: Exchange
    /// Monotonic nanoseconds when the loop offered it.
    let queuedAt: UInt64
}

/// The compute threads behind their bounded queue.
final class ComputePool: Sendable {
    private let queue: BoundedQueue<Job>
    private let threads: [NamedThread]

    /// Starts `count` threads, each with a worker of its own.
    init(count: Int, queueDepth: Int, service: RecommendService) throws(ThreadingError) {
        let queue = BoundedQueue<Job>(capacity: queueDepth)
        var threads: [NamedThread] = []
        for index in 0..<count {
            threads.append(
                try NamedThread(name: "compute-\(index)") {
                    // Requests are the parallelism; OpenMP's setting is per thread.
                    FaissIndex.setThreads(1)
                    // Made inside its thread: the worker and its scratch are not Sendable and never leave it.
                    let worker = ComputeWorker(service: service)
                    while let job = queue.take() { worker.answer(job) }
                })
        }
        self.queue = queue
        self.threads = threads
    }

    /// Jobs waiting now.
    var depth: Int { queue.count }

    /// Hands a job over, or refuses when the queue is full or closed; never waits.
    func offer(_ job: Job) -> Bool { queue.offer(job) }

    /// Refuses further jobs, lets the threads finish what is queued, and joins them.
    func stop() {
        queue.close()
        for thread in threads { thread.join() }
    }
}

/// One compute thread's state: the pipeline of the snapshot it saw last.
final class ComputeWorker {
    let service: RecommendService
    private var pipeline: RecommendPipeline?

    init(service: RecommendService) { self.service = service }

    /// Runs one request to its end and answers it.
    func answer(_ job: Job) {
        if job.exchange.isClosed {
            // Nobody reads the answer: the time is better spent on the next request.
            service.metrics.record(.queue, nanoseconds: MonotonicClock.nanoseconds &- job.queuedAt)
            service.metrics.abandoned.add()
            return
        }
        var clock = StageClock(start: job.queuedAt)
        service.metrics.record(.queue, nanoseconds: clock.end(.queue) &- job.queuedAt)
        let response: HTTPResponse
        do throws(Problem) {
            response = try respond(to: job, &clock)
        } catch {
            note(error, job.requestID)
            response = service.response(for: error, requestID: job.requestID, serverTiming: clock.header)
        }
        service.finish(
            job.request, route: job.match == .recommend ? .recommend : .similar, response, job.exchange)
    }

    private func respond(to job: Job, _ clock: inout StageClock) throws(Problem) -> HTTPResponse {
        switch job.match {
        case .recommend: try recommend(job, &clock)
        case .similar(let itemID): try similar(job, itemID: itemID, &clock)
        default: throw Problem(.notFound)
        }
    }

    /// Counts and logs what a problem's answer does not say.
    func note(_ problem: Problem, _ requestID: String) {
        if problem.kind == .deadline { service.metrics.deadlinesMissed.add() }
        if problem.kind == .internalError {
            service.logger.error(
                "request failed",
                metadata: ["request_id": "\(requestID)", "detail": "\(problem.detail ?? "")"])
        }
    }

    /// The pipeline of the model a request asks for, with the label it answers under.
    func pipeline(for request: RecommendRequest) throws(Problem) -> (RecommendPipeline, model: String) {
        let model = try request.requireDefaultModel()
        return (try pipeline(for: model), model)
    }

    /// The pipeline of the snapshot that serves under a label: the one place where an answer gets its
    /// snapshot.
    func pipeline(for model: String) throws(Problem) -> RecommendPipeline {
        guard let snapshot = service.snapshot else {
            throw Problem(.notReady, "no bundle is loaded yet", retryAfter: 1)
        }
        let pipeline =
            self.pipeline.flatMap { $0.snapshot === snapshot ? $0 : nil }
            ?? RecommendPipeline(snapshot, service.settings, service.metrics)
        self.pipeline = pipeline
        return pipeline
    }
}
