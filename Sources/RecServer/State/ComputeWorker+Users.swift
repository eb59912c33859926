import HTTP
import Retrieval
import Threading
import UserState

/// What changes and shows user state, on a compute thread; an answer that must wait for the disk is given
/// on the writer's.
extension ComputeWorker {
    /// `POST /events`.
    /// - Returns: nil when the answer is given once the events are durable.
    func postEvents(_ job: Job, _ clock: inout StageClock) throws(Problem) -> HTTPResponse? {
        let states = try states
        let headers = try RequestHeaders(job.request.headers)
        let catalog =
            service.settings.keepsUnknownItems
            ? nil : service.registry.assignment(.default)?.bundle.snapshot.catalog
        let request = try EventsRequest(
            job.request,
            .init(
                headers: headers, maximum: service.settings.eventsMax,
                now: states.now,
                accepts: { itemID in catalog.map { $0.row(of: itemID) != nil } ?? true },
                newID: { service.identifiers.next() }))
        if request.isSingle, case .refused(let problem, _, _) = request.members.first {
            service.metrics.eventsRefused.add()
            throw problem
        }
        let events = request.members.compactMap { member -> (user: String, event: StoredEvent)? in
            if case .event(let user, let event) = member { (user, event) } else { nil }
        }
        clock.end(.decode)
        guard !events.isEmpty else {
            var outcome = ChangeOutcome()
            outcome.commit = states.commit
            return try answer(request, outcome, job, headers, clock.header)
        }
        let timing = clock.header
        try submit(.append(events), job, clock) { (result) throws(Problem) in
            switch result {
            case .success(let outcome): return try answer(request, outcome, job, headers, timing)
            case .failure(let error):
                service.metrics.eventsFailed.add(events.count)
                throw Problem(error)
            }
        }
        return nil
    }

    private func answer(
        _ request: EventsRequest, _ outcome: ChangeOutcome, _ job: Job, _ headers: RequestHeaders,
        _ timing: String
    ) throws(Problem) -> HTTPResponse {
        let answer = EventsAnswer(
            request.members, outcome.events, commit: outcome.commit, epoch: try states.epoch)
        service.metrics.eventsStored.add(answer.stored)
        service.metrics.eventsDuplicate.add(answer.duplicates)
        service.metrics.eventsRefused.add(answer.refused)
        if request.isSingle, let problem = answer.onlyProblem { throw problem }
        return applied(
            headers,
            service.response(
                json: answer.encoded(requestID: job.requestID), requestID: job.requestID, serverTiming: timing
            ))
    }

    /// `/users/{user_id}`.
    func user(
        _ id: String, _ method: Router.UserMethod, _ job: Job, _ clock: inout StageClock
    ) throws(Problem) -> HTTPResponse? {
        switch method {
        case .get:
            guard let user = try held(id) else { throw Problem(.unknownUser) }
            return try shown(user, job)
        case .replace, .patch:
            let change = try UserRequest(job.request, isPatch: method == .patch)
            clock.end(.decode)
            try submit(
                .update(user: id, features: change.features, hasConsent: change.hasConsent), job, clock
            ) {
                (result) throws(Problem) in
                let outcome = try Self.outcome(result)
                guard let user = outcome.user else { throw UserRequest.tooMuch }
                return try shown(user, job)
            }
        case .erase:
            try submit(.erase(user: id), job, clock) { (result) throws(Problem) in
                // First of all: it may be durable although forgetting its traces in the log has failed.
                service.forget(user: id)
                let outcome = try Self.outcome(result)
                guard outcome.isFound else { throw Problem(.unknownUser) }
                service.audit("user deleted", user: id, job)
                return service.emptyResponse(requestID: job.requestID)
            }
        }
        return nil
    }

    private func shown(_ user: StoredUser, _ job: Job) throws(Problem) -> HTTPResponse {
        let answer = UserAnswer(user: user, epoch: try states.epoch)
        return service.response(json: answer.encoded(requestID: job.requestID), requestID: job.requestID)
    }

    /// `DELETE /users/{user_id}/events/{event_id}`.
    func removeEvent(
        _ eventID: String, of user: String, _ job: Job, _ clock: StageClock
    ) throws(Problem) -> HTTPResponse? {
        if let known = try held(user), known.sequence == 0,
            known.events.contains(where: { $0.eventID == eventID })
        {
            // Of the bundle: kept from now on, so that one of its events can be missing.
            _ = try states.submit(.update(user: user, features: nil, hasConsent: nil)) { _ in }
        }
        try submit(.removeEvent(user: user, eventID: eventID), job, clock) { (result) throws(Problem) in
            guard try Self.outcome(result).isFound else { throw Problem(.unknownEvent) }
            service.audit("event deleted", user: user, job)
            return service.emptyResponse(requestID: job.requestID)
        }
        return nil
    }

    // MARK: - The store

    var states: UserStates {
        get throws(Problem) {
            guard let users = service.users else { throw Problem(.notImplemented) }
            return users
        }
    }

    /// What is kept of a user, or what the bundle brought and the first event will continue; nil where that
    /// is nothing.
    private func held(_ id: String) throws(Problem) -> StoredUser? {
        let states = try states
        let kept: StoredUser?
        do throws(UserStateError) { kept = try states.user(id) } catch { throw Problem(error) }
        if let kept { return kept.isBlank ? nil : kept }
        return ofBundle(id)
    }

    /// What the bundle brought of a user of whom nothing is kept yet.
    private func ofBundle(_ id: String) -> StoredUser? {
        let snapshot = service.registry.assignment(.default)?.bundle.snapshot
        guard let seed = snapshot?.seed(of: id, limit: ResolvedRequest.storedHistoryMaximum) else {
            return nil
        }
        return StoredUser(id: id, total: seed.offset + seed.events.count, events: seed.events)
    }

    private static func outcome(_ result: Result<ChangeOutcome, UserStateError>) throws(Problem)
        -> ChangeOutcome
    {
        switch result {
        case .success(let outcome): outcome
        case .failure(let error): throw Problem(error)
        }
    }

    /// Hands a change to the writer, whose thread then makes and sends the answer.
    /// - Throws: `.overloaded` when too many changes wait.
    private func submit(
        _ change: UserChange, _ job: Job, _ clock: StageClock,
        answer: @escaping @Sendable (Result<ChangeOutcome, UserStateError>) throws(Problem) -> HTTPResponse
    ) throws(Problem) {
        let before = follower?.userBefore(change)
        let isTaken = try states.submit(change) { [self] result in
            if case .success(let outcome) = result { follower?.follow(change, outcome, before: before) }
            let response: HTTPResponse
            do throws(Problem) { response = try answer(result) } catch {
                note(error, job)
                response = service.response(for: error, requestID: job.requestID, serverTiming: clock.header)
            }
            // Other changes wait for this thread.
            service.finish(
                job.request, job.context, route: job.match.route, response, job.exchange, clock,
                compresses: false)
        }
        guard isTaken else {
            service.metrics.shed.add()
            throw Problem(UserStateError.busy)
        }
    }
}

extension StoredUser {
    /// Whether nothing is held of a user but that it was erased.
    fileprivate var isBlank: Bool {
        isErased && total == 0 && events.isEmpty && features.isEmpty && hasConsent
    }
}

extension Problem {
    /// What the store cannot do now.
    init(_ error: UserStateError) {
        switch error {
        case .busy: self.init(.overloaded, error.description, retryAfter: 1)
        case .unavailable, .unusable: self.init(.stateUnavailable, error.description, retryAfter: 1)
        }
    }
}
