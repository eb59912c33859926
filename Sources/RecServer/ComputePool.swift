import HTTP
import Logging
import Retrieval
import Threading

/// A request on its way from a loop to a compute thread.
struct Job: Sendable {
    let request: HTTPRequest
    let match: Router.Match
    let context: RequestContext
    let exchange: Exchange
    /// Monotonic nanoseconds when the loop offered it.
    let queuedAt: UInt64

    var requestID: String { context.requestID }

    /// What every log line about the request says.
    var metadata: Logger.Metadata {
        var metadata: Logger.Metadata = ["request_id": "\(requestID)"]
        if let trace = context.traceID { metadata["trace_id"] = "\(trace)" }
        return metadata
    }
}

/// The compute threads behind their bounded queue.
final class ComputePool: Sendable {
    private let queue: BoundedQueue<Job>
    private let threads: [NamedThread]
    private let shadow: Shadow
    private let follower: StateFollower?

    /// Starts `count` threads, and the one of shadow requests.
    init(count: Int, queueDepth: Int, service: RecommendService) throws(ThreadingError) {
        let queue = BoundedQueue<Job>(capacity: queueDepth)
        let shadow = try Shadow(service.metrics.shadow, isBusy: { queue.count > 0 })
        let follower =
            service.users == nil ? nil : try StateFollower(service, isBusy: { queue.count > 0 })
        let worker = ComputeWorker(
            service: service, shadow: shadow, waits: SequenceWaits(threads: count), follower: follower)
        var threads: [NamedThread] = []
        for index in 0..<count {
            threads.append(
                try NamedThread(name: "compute-\(index)") {
                    // Requests are the parallelism; OpenMP's setting is per thread.
                    FaissIndex.setThreads(1)
                    while let job = queue.take() { worker.answer(job) }
                })
        }
        self.queue = queue
        self.threads = threads
        self.shadow = shadow
        self.follower = follower
    }

    /// Jobs waiting now.
    var depth: Int { queue.count }

    /// Hands a job over, or refuses when the queue is full or closed; never waits.
    func offer(_ job: Job) -> Bool { queue.offer(job) }

    /// Refuses further jobs, lets the threads finish what is queued, and joins them.
    func stop() {
        queue.close()
        for thread in threads { thread.join() }
        shadow.stop()
        follower?.stop()
    }
}

/// What a compute thread does with a job; the scratch memory belongs to the version that answers.
struct ComputeWorker {
    let service: RecommendService
    let shadow: Shadow
    let waits: SequenceWaits
    /// What follows from requests and changes of user state, later; nil where none is kept.
    var follower: StateFollower?

    /// Runs one request to its end and answers it.
    func answer(_ job: Job) {
        var clock = StageClock(start: job.queuedAt, keepsParts: job.context.span != nil)
        service.metrics.record(
            .queue, nanoseconds: clock.end(.queue) &- job.queuedAt, traceID: job.context.recordedTraceID)
        if job.exchange.isClosed {
            // Nobody reads the answer: the time is better spent on the next request.
            return service.abandon(job.request, job.context, route: job.match.route, clock)
        }
        var copies: [ShadowJob] = []
        let response: HTTPResponse
        do throws(Problem) {
            guard let made = try respond(to: job, &clock, &copies) else { return }
            response = made
        } catch {
            note(error, job)
            response = service.response(for: error, requestID: job.requestID, serverTiming: clock.header)
        }
        service.finish(job.request, job.context, route: job.match.route, response, job.exchange, clock)
        service.logger.debug(
            "answered",
            metadata: job.metadata.merging(
                ["status": "\(response.status)", "timing": "\(clock.header)"], uniquingKeysWith: { $1 }))
        for copy in copies { shadow.offer(copy) }
    }

    /// - Returns: nil when the answer is given later: once a change is durable.
    private func respond(
        to job: Job, _ clock: inout StageClock, _ copies: inout [ShadowJob]
    ) throws(Problem) -> HTTPResponse? {
        switch job.match {
        case .recommend: try recommend(job, &clock, &copies)
        case .similar(let itemID): try similar(job, itemID: itemID, &clock)
        case .events: try postEvents(job, &clock)
        case .user(let method, let id): try user(id, method, job, &clock)
        case .removeEvent(let user, let eventID): try removeEvent(eventID, of: user, job, clock)
        case .livez, .readyz, .healthz, .version, .metrics, .openapi: throw Problem(.notFound)
        }
    }

    /// Counts and logs what a problem's answer does not say.
    func note(_ problem: Problem, _ job: Job) {
        if problem.kind == .deadline { service.metrics.deadlinesMissed.add() }
        if problem.kind == .internalError {
            var metadata = job.metadata
            metadata["detail"] = "\(problem.detail ?? "")"
            service.logger.error("request failed", metadata: metadata)
        }
    }
}
