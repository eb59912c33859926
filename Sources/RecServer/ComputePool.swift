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
    private let shadow: Shadow

    /// Starts `count` threads, and the one of shadow requests.
    init(count: Int, queueDepth: Int, service: RecommendService) throws(ThreadingError) {
        let queue = BoundedQueue<Job>(capacity: queueDepth)
        let shadow = try Shadow(service.metrics.shadow, isBusy: { queue.count > 0 })
        let worker = ComputeWorker(service: service, shadow: shadow)
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
    }
}

/// What a compute thread does with a job; the scratch memory belongs to the version that answers.
struct ComputeWorker {
    let service: RecommendService
    let shadow: Shadow

    /// Runs one request to its end and answers it.
    func answer(_ job: Job) {
        let start = MonotonicClock.nanoseconds
        service.metrics.record(.queue, nanoseconds: start &- job.queuedAt)
        if job.exchange.isClosed {
            // Nobody reads the answer: the time is better spent on the next request.
            service.metrics.abandoned.add()
            return
        }
        var copy: ShadowJob?
        let response: HTTPResponse
        do throws(Problem) {
            response = try respond(to: job, &copy)
        } catch {
            if error.kind == .deadline { service.metrics.deadlinesMissed.add() }
            if error.kind == .internalError {
                service.logger.error(
                    "request failed",
                    metadata: ["request_id": "\(job.requestID)", "detail": "\(error.detail ?? "")"])
            }
            response = service.response(for: error, requestID: job.requestID)
        }
        service.finish(
            job.request, route: job.match == .recommend ? .recommend : .similar, response, job.exchange)
        if let copy { shadow.offer(copy) }
    }

    private func respond(to job: Job, _ copy: inout ShadowJob?) throws(Problem) -> HTTPResponse {
        switch job.match {
        case .recommend: try service.recommend(job, copy: &copy)
        case .similar(let itemID): try service.similar(job, itemID: itemID)
        default: throw Problem(.notFound)
        }
    }
}
