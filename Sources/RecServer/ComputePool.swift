import HTTP
import Logging
import Retrieval
import Threading

/// A request on its way from a loop to a compute thread.
struct Job: Sendable {
    var request: HTTPRequest
    let match: Router.Match
    let context: RequestContext
    let exchange: Exchange
    /// Monotonic nanoseconds when the loop offered it.
    let queuedAt: UInt64
    /// The fullest answer there is time for, as the queue behind the job says.
    var relief = StagePlan.full
    /// How far a batch has come that makes room for others.
    var batch: BatchProgress?
    /// Bytes of the body as it was let in, perhaps compressed: what its cost was estimated by.
    var offeredBytes = 0

    var requestID: String { context.requestID }

    /// What every log line about the request says.
    var metadata: Logger.Metadata {
        var metadata: Logger.Metadata = ["request_id": "\(requestID)"]
        if let trace = context.traceID { metadata["trace_id"] = "\(trace)" }
        return metadata
    }
}

/// The compute threads behind their queue.
final class ComputePool: Sendable {
    private let queue: AdmissionQueue<Job>
    private let threads: [NamedThread]
    private let sweeper: NamedThread
    private let shadow: Shadow
    private let follower: StateFollower?
    /// Jobs that a thread has begun.
    let begun = Counter()
    private let service: RecommendService

    /// Starts the threads that `policy` names, the one that answers what has waited too long, and the one of
    /// shadow requests.
    ///
    /// - Parameter niceness: by how much compute threads give way to the loops, 0 to 19.
    init(
        _ policy: AdmissionPolicy, niceness: Int = 0, service: RecommendService
    ) throws(ThreadingError) {
        let queue = AdmissionQueue<Job>(policy, isGone: { $0.exchange.isClosed })
        let shadow = try Shadow(service.metrics.shadow, isBusy: { queue.count > 0 })
        let follower =
            service.users == nil ? nil : try StateFollower(service, isBusy: { queue.count > 0 })
        let worker = ComputeWorker(
            service: service, shadow: shadow, waits: SequenceWaits(threads: policy.threads),
            follower: follower, isAwaited: { queue.count > 0 })
        var threads: [NamedThread] = []
        let begun = begun
        for index in 0..<policy.threads {
            threads.append(
                try NamedThread(name: "compute-\(index)") {
                    // Requests are the parallelism; OpenMP's setting is per thread.
                    FaissIndex.setThreads(1)
                    ThreadPriority.yield(by: niceness)
                    while let turn = queue.take(thread: index) {
                        for entry in turn.stale { worker.end(entry, retryAfter: queue.retryAfter()) }
                        guard let taken = turn.taken else { continue }
                        begun.add()
                        var job = taken.entry.element
                        job.relief = taken.relief
                        if job.batch == nil { service.metrics.admission.record(taken.entry) }
                        if let job = worker.answer(job), let batch = job.batch {
                            queue.resume(job, batch.rest(of: job.offeredBytes), thread: index)
                        }
                    }
                })
        }
        sweeper = try NamedThread(name: "sweeper") {
            queue.sweep { stale in
                for entry in stale { worker.end(entry, retryAfter: queue.retryAfter()) }
            }
        }
        self.queue = queue
        self.threads = threads
        self.shadow = shadow
        self.follower = follower
        self.service = service
    }

    /// Jobs waiting now.
    var depth: Int { queue.count }

    /// The lanes as they are, for metrics.
    var readings: (lanes: [LaneReading], relief: StagePlan) { queue.readings() }

    /// Hands a job over; never waits.
    /// - Throws: `.overloaded` for work that cannot be done in time.
    func admit(_ job: Job) throws(Problem) {
        var job = job
        job.offeredBytes = job.request.body.count
        let work = work(job)
        let (verdict, retryAfter) = queue.offer(job, work)
        let metrics = service.metrics.admission
        switch verdict {
        case .admitted: metrics.admitted(work.kind.lane).add()
        case .refused(let reason):
            metrics.refused(work.kind.lane, reason).add()
            service.metrics.shed.add()
            throw Problem(
                .overloaded, reason == .full ? "the queue is full" : "the answer could not come in time",
                retryAfter: retryAfter)
        case .closed: throw Problem(.overloaded, "the server is stopping", retryAfter: retryAfter)
        }
    }

    private func work(_ job: Job) -> Work {
        switch job.match {
        case .recommend where job.request.mediaType == ComputeWorker.ndjson:
            Work(.batch, byteCount: job.request.body.count)
        // Where a thread is free, the deadline changes nothing.
        case .recommend:
            Work(.recommend, deadline: queue.isIdle ? nil : DeadlineHint.nanoseconds(job.request.body))
        case .events: Work(.events, byteCount: job.request.body.count)
        case .user, .removeEvent: Work(.users)
        case .similar, .livez, .readyz, .healthz, .version, .metrics, .openapi: Work(.similar)
        }
    }

    /// Refuses further jobs, lets the threads finish what is queued, and joins them.
    func stop() {
        queue.close()
        for thread in threads { thread.join() }
        sweeper.join()
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
    /// Whether requests wait for a thread.
    var isAwaited: @Sendable () -> Bool = { false }

    /// Ends a job that waited too long, or whose client has gone.
    func end(_ entry: WaitingLine<Job>.Entry, retryAfter: @autoclosure () -> Int) {
        let (job, lane) = (entry.element, entry.work.kind.lane)
        let clock = waited(job)
        service.metrics.admission.record(entry)
        if job.exchange.isClosed {
            return service.abandon(job.request, job.context, route: job.match.route, clock)
        }
        service.metrics.admission.refused(lane, .expired).add()
        service.metrics.shed.add()
        let problem = Problem(
            .overloaded, "the time for an answer was over before a thread was free", retryAfter: retryAfter())
        service.finish(
            job.request, job.context, route: job.match.route,
            service.response(for: problem, requestID: job.requestID), job.exchange, clock)
    }

    /// The clock of a job that waits no longer.
    private func waited(_ job: Job) -> StageClock {
        var clock = StageClock(start: job.queuedAt, keepsParts: job.context.span != nil)
        service.metrics.record(
            .queue, nanoseconds: clock.end(.queue) &- job.queuedAt, traceID: job.context.recordedTraceID)
        return clock
    }

    /// Runs one request to its end and answers it.
    /// - Returns: a batch that is to go on later.
    @discardableResult
    func answer(_ job: Job) -> Job? {
        var job = job
        var clock = job.batch?.clock ?? waited(job)
        if job.batch != nil { clock.end(.queue) }
        if job.exchange.isClosed {
            // Nobody reads the answer: the time is better spent on the next request.
            service.abandon(job.request, job.context, route: job.match.route, clock)
            return nil
        }
        var copies: [ShadowJob] = []
        defer { for copy in copies { shadow.offer(copy) } }
        let response: HTTPResponse
        do throws(Problem) {
            // A batch that goes on is inflated already.
            if job.batch == nil { job = try service.edge.inflated(job) }
            guard let made = try respond(to: &job, &clock, &copies) else {
                return job.batch == nil ? nil : job
            }
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
        return nil
    }

    /// - Returns: nil when the answer is given later: once a change is durable, or the rest of a batch done.
    private func respond(
        to job: inout Job, _ clock: inout StageClock, _ copies: inout [ShadowJob]
    ) throws(Problem) -> HTTPResponse? {
        switch job.match {
        case .recommend: try recommend(&job, &clock, &copies)
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
