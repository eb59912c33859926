import Artifacts
import HTTP
import Ranking
import Threading
import UserState

/// Gathers everything `/metrics` shows at one moment.
struct MetricsReport {
    let service: RecommendService
    let pool: ComputePool
    let loads: BundleLoads
    let certificates: Certificates?
    let counters: HTTPCounters?
    let version: String
    /// Wall clock at the start, nanoseconds since 1970; taken once, so that a clock step does not look like a
    /// restart.
    let startedAt: Int64

    func write(to writer: inout MetricsWriter) {
        writeRequests(&writer)
        writeAdmission(&writer)
        writeAccess(&writer)
        writeFeedback(&writer)
        writeLogs(&writer)
        writePipeline(&writer)
        writeEvents(&writer)
        writeState(&writer)
        writeBundles(&writer)
        writeShadow(&writer)
        writeHistories(&writer)
        writeSlates(&writer)
        writeConnections(&writer)
        writeEdge(&writer)
        writeHTTP2(&writer)
        writeTLS(&writer)
        writeProcess(&writer)
        writer.end()
    }

    private func writeRequests(_ writer: inout MetricsWriter) {
        var series: [(labels: String, histogram: Histogram)] = []
        for route in Metrics.Route.allCases {
            for (index, status) in Metrics.statuses.enumerated() {
                let histogram = service.metrics.histogram(route, statusIndex: index)
                // A series begins with its first request: 200 possible ones would hide the few that matter.
                if histogram.snapshot.cumulative.last ?? 0 > 0 {
                    series.append(("route=\"\(route.rawValue)\",status=\"\(status)\"", histogram))
                }
            }
        }
        writer.histogram("recserver_request_seconds", "Time from a request's head to its answer.", series)
        writer.counter(
            "recserver_requests_shed", "Requests refused, or given up, for want of capacity.",
            [("", service.metrics.shed.value)])
        writer.counter(
            "recserver_requests_abandoned", "Requests whose client had gone before they were computed.",
            [("", service.metrics.abandoned.value)])
    }

    private func writeAccess(_ writer: inout MetricsWriter) {
        let access = service.access
        writer.counter(
            "recserver_requests_refused", "Requests refused for who asked, or for how often, by reason.",
            Access.Refusal.allCases.map { ("reason=\"\($0.rawValue)\"", access.refused($0)) })
        writer.counter(
            "recserver_key_requests", "Requests by the name of their key and what became of them.",
            access.callers.flatMap { caller in
                [
                    ("allowed", caller.counters.allowed), ("forbidden", caller.counters.forbidden),
                    ("limited", caller.counters.limited),
                ].map { ("key=\"\(caller.name)\",outcome=\"\($0.0)\"", $0.1.value) }
            })
        writer.counter(
            "recserver_key_reloads", "Readings of the keys file on SIGHUP, by how they ended.",
            [
                ("result=\"loaded\"", access.reloads.value),
                ("result=\"refused\"", access.refusedReloads.value),
            ])
    }

    private func writeFeedback(_ writer: inout MetricsWriter) {
        guard let feedback = service.feedback else { return }
        writer.counter(
            "recserver_feedback_slates", "Slates for the feedback log, by what became of them.",
            [
                ("result=\"written\"", feedback.writer.written.value),
                ("result=\"dropped\"", feedback.writer.dropped.value),
            ])
        writer.counter(
            "recserver_feedback_errors", "Attempts to write the feedback log that failed.",
            [("", feedback.writer.errors.value)])
        writer.counter(
            "recserver_feedback_bytes", "Bytes written to the feedback log.",
            [("", feedback.writer.bytes.value)])
    }

    private func writePipeline(_ writer: inout MetricsWriter) {
        let metrics = service.metrics
        writer.histogram(
            "recserver_stage_seconds", "Time per stage of a recommendation.",
            Metrics.Stage.allCases.map { ("stage=\"\($0.rawValue)\"", metrics.stages[$0.index]) })
        writer.histogram(
            "recserver_stage_candidates", "Candidates that leave a stage.",
            [
                ("stage=\"retrieve\"", metrics.candidatesRetrieved),
                ("stage=\"rank\"", metrics.candidatesRanked),
                ("stage=\"slate\"", metrics.itemsReturned),
            ])
        writer.counter(
            "recserver_degraded", "Answers that left out a step, by step.",
            DegradationStep.allCases.map { ("step=\"\($0.rawValue)\"", metrics.degraded($0).value) })
        writer.counter(
            "recserver_deadline_missed", "Requests answered 504.", [("", metrics.deadlinesMissed.value)])
        writer.counter(
            "recserver_short_answers", "Answers with fewer items than asked for.",
            [("", metrics.shortAnswers.value)])
        writer.counter(
            "recserver_scores_dropped", "Candidates dropped because a score was not finite.",
            [("", metrics.scoresDropped.value)])
        writer.counter(
            "recserver_exact_scans",
            "Requests whose filters starved the index, so that all matching rows were scanned.",
            [("", metrics.exactScans.value)])
        writer.counter(
            "recserver_history_tokens", "History events encoded by the sequence model.",
            [("", metrics.historyTokens.value)])
        writer.counter(
            "recserver_user_reads_failed",
            "Recommendations made without their user's state, because it could not be read.",
            [("", metrics.userReadsFailed.value)])
        writer.counter(
            "recserver_eager_users",
            "Users with new events, by whether these were encoded before the user's next request.",
            [
                ("result=\"encoded\"", metrics.eagerEncoded.value),
                ("result=\"dropped\"", metrics.eagerDropped.value),
            ])
        writer.counter(
            "recserver_followed_changes",
            "Changes of user state, by whether popularity and encoding ahead took them into account.",
            [
                ("result=\"followed\"", metrics.changesFollowed.value),
                ("result=\"dropped\"", metrics.changesDropped.value),
            ])
        writer.gauge(
            "recserver_popularity_items", "Items whose popularity events have changed.",
            [("", Double(service.popularity?.itemCount ?? 0))])
        writer.counter(
            "recserver_batch_lines", "Lines of batches, by whether they got an answer or a problem.",
            [
                ("outcome=\"answered\"", metrics.batchLinesAnswered.value),
                ("outcome=\"refused\"", metrics.batchLinesRefused.value),
            ])
    }

    private func writeEvents(_ writer: inout MetricsWriter) {
        let metrics = service.metrics
        writer.counter(
            "recserver_events", "Events posted, by what became of them.",
            [
                ("result=\"stored\"", metrics.eventsStored.value),
                ("result=\"duplicate\"", metrics.eventsDuplicate.value),
                ("result=\"refused\"", metrics.eventsRefused.value),
                ("result=\"failed\"", metrics.eventsFailed.value),
            ])
    }

    private func writeState(_ writer: inout MetricsWriter) {
        guard let counters = service.users?.counters else { return }
        writer.gauge(
            "recserver_state_up", "1 unless the newest write of user state failed.",
            [("", counters.lastFailure == nil ? 1 : 0)])
        writer.counter(
            "recserver_state_commits", "Commits of user state.", [("", UInt64(counters.commits))])
        writer.counter(
            "recserver_state_changes", "Changes in these commits.", [("", UInt64(counters.changes))])
        writer.counter(
            "recserver_state_commit_seconds", "Time these commits took.", value: counters.commitSeconds)
        writer.counter(
            "recserver_state_failures", "Commits that failed, and changes that failed alone.",
            [("", UInt64(counters.failures))])
        writer.counter("recserver_state_users_erased", "Users erased.", [("", UInt64(counters.erased))])
        writer.gauge(
            "recserver_state_waiting", "Changes that wait to be written.", [("", Double(counters.waiting))])
        writer.counter(
            "recserver_state_reads", "Reads of users, from memory and from the file.",
            [
                ("source=\"memory\"", UInt64(counters.cacheHits)),
                ("source=\"file\"", UInt64(counters.cacheMisses)),
            ])
        writer.gauge(
            "recserver_state_cache_users", "Users in memory, with those of whom nothing is known.",
            [("", Double(counters.cacheUsers))])
        writer.gauge(
            "recserver_state_cache_bytes", "About what they take.", [("", Double(counters.cacheBytes))])
        writer.gauge(
            "recserver_state_file_bytes", "Sizes of the database and of its log.",
            [
                ("file=\"database\"", Double(counters.databaseBytes)),
                ("file=\"log\"", Double(counters.logBytes)),
            ])
        writer.gauge(
            "recserver_state_log_dropped", "What could not be used of the log at the start.",
            [
                ("unit=\"frames\"", Double(counters.loss.frames)),
                ("unit=\"commits\"", Double(counters.loss.commits)),
                ("unit=\"bytes\"", Double(counters.loss.bytes)),
            ])
    }

    private func writeBundles(_ writer: inout MetricsWriter) {
        let (registry, metrics) = (service.registry, service.metrics)
        let infos = BundleLabel.allCases.compactMap { label -> (labels: String, value: Double)? in
            guard let snapshot = registry.assignment(label)?.bundle.snapshot else { return nil }
            let (manifest, digest) = (snapshot.manifest, snapshot.digest)
            return (
                "label=\"\(label.rawValue)\",model_version=\"\(manifest.modelVersion)\","
                    + "space_version=\"\(manifest.spaceVersion)\",sha256=\"\(digest)\","
                    + "index=\"\(snapshot.indexName)\"", 1
            )
        }
        writer.gauge(
            "recserver_bundle_versions", "Versions in memory, by state.",
            [
                ("state=\"loading\"", loads.reports.current == nil ? 0 : 1),
                ("state=\"ready\"", Double(registry.versions.count)),
                ("state=\"draining\"", Double(service.reaper.draining.count)),
            ])
        writer.counter(
            "recserver_bundle_swaps", "Switches of a label to another version.",
            BundleLabel.allCases.map { ("label=\"\($0.rawValue)\"", registry.swaps[$0]?.value ?? 0) })
        writer.counter(
            "recserver_bundle_loads", "Loads of a bundle, by how they ended.",
            [("result=\"loaded\"", metrics.loaded.value), ("result=\"unchanged\"", metrics.unchanged.value)]
                + BundleLoads.Refusal.Reason.allCases.map {
                    ("result=\"refused_\($0.rawValue)\"", metrics.refused($0).value)
                })
        writer.histogram(
            "recserver_bundle_load_seconds", "Time of a load, from its beginning to the first answer.",
            [("", metrics.loadSeconds)])
        writer.counter(
            "recserver_model_requests", "Recommendations by the label that answered, or by a named version.",
            BundleLabel.allCases.filter { $0 != .shadow }.map {
                ("label=\"\($0.rawValue)\"", metrics.requests($0).value)
            } + [("label=\"\"", metrics.requests(nil).value)])
        guard let main = registry.assignment(.default)?.bundle.snapshot else { return }
        writer.gauge("recserver_bundle_info", "The bundles in use; always 1.", infos)
        writer.gauge(
            "recserver_bundle_share", "The share of requests that a label gets.",
            BundleLabel.allCases.compactMap { label in
                registry.assignment(label).map { ("label=\"\(label.rawValue)\"", $0.share) }
            })
        writer.gauge(
            "recserver_bundle_items", "Items in the default's catalogue.",
            [("", Double(main.manifest.items.count))])
    }

    private func writeShadow(_ writer: inout MetricsWriter) {
        let shadow = service.metrics.shadow
        writer.counter(
            "recserver_shadow_requests", "Requests that the shadow answered again, by how it went.",
            [
                ("result=\"answered\"", shadow.answered.value), ("result=\"failed\"", shadow.failed.value),
                ("result=\"dropped\"", shadow.dropped.value),
            ])
        writer.histogram(
            "recserver_shadow_seconds", "Time of the shadow's answers, at low priority.",
            [("", shadow.seconds)])
        writer.histogram(
            "recserver_shadow_overlap", "Share of an answer's items that are on the shadow's page.",
            [("", shadow.overlap)])
        writer.histogram(
            "recserver_shadow_rank_difference", "Mean distance in places of the items on both pages.",
            [("", shadow.rankDifference)])
    }

    private func writeHistories(_ writer: inout MetricsWriter) {
        let budget = service.registry.historyBudget
        let reading = budget.counters.reading
        func count(_ value: Int?) -> UInt64 { UInt64(clamping: value ?? 0) }
        writer.counter(
            "recserver_history_cache_requests", "Requests by how much of their history the cache had.",
            HistoryOutcome.allCases.map { ("result=\"\($0.rawValue)\"", count(reading.outcomes[$0])) })
        writer.counter(
            "recserver_history_cache_evictions", "Histories that left the cache, by cause.",
            HistoryCacheCounters.EvictionCause.allCases.map {
                ("cause=\"\($0.rawValue)\"", count(reading.evictions[$0]))
            })
        writer.counter(
            "recserver_history_cache_waits", "Requests that waited for another one of the same user.",
            [("", count(reading.waits))])
        writer.counter(
            "recserver_history_cache_tokens_reused", "History events that were not computed again.",
            [("", count(reading.reusedTokens))])
        writer.counter(
            "recserver_history_cache_seconds_saved", "Computing time that reused events have saved.",
            value: Double(reading.savedNanoseconds) / 1e9)
        let caches = service.registry.versions.compactMap(\.histories)
        writer.gauge(
            "recserver_history_cache_bytes", "Bytes of histories in memory, of all versions.",
            [("", Double(caches.reduce(0) { $0 + $1.bytesInUse }))])
        writer.gauge(
            "recserver_history_cache_limit_bytes", "The budget for histories, of all versions.",
            [("", Double(budget.byteCount))])
        writer.gauge(
            "recserver_history_cache_users", "Users whose history is in memory, of all versions.",
            [("", Double(caches.reduce(0) { $0 + $1.userCount }))])
    }

    private func writeSlates(_ writer: inout MetricsWriter) {
        let slates = service.slates
        writer.counter(
            "recserver_cursor_requests", "Requests with a cursor, by whether its slate was held.",
            [
                ("result=\"page\"", slates.counters.pages.value),
                ("result=\"expired\"", slates.counters.expired.value),
            ])
        writer.counter(
            "recserver_cursor_items_dropped", "Items left out of later pages because the user had had them.",
            [("", slates.counters.dropped.value)])
        writer.counter(
            "recserver_cursor_evictions", "Slates that are held no longer, by cause.",
            Slates.Cause.allCases.map {
                ("cause=\"\($0.rawValue)\"", slates.counters.removed[$0]?.value ?? 0)
            })
        writer.counter(
            "recserver_ignored_left_out", "Candidates left out because the user had ignored them.",
            [("", service.metrics.ignoredLeftOut.value)])
        let shown = service.shown.usage
        writer.gauge(
            "recserver_shown_users", "Users whose last pages are known.", [("", Double(shown.users))])
        writer.gauge("recserver_shown_bytes", "Bytes of what users were shown.", [("", Double(shown.bytes))])
        writer.gauge("recserver_cursor_slates", "Slates held.", [("", Double(slates.count))])
        writer.gauge("recserver_cursor_bytes", "Bytes of slates held.", [("", Double(slates.byteCount))])
        writer.gauge(
            "recserver_cursor_limit_bytes", "The budget for slates.", [("", Double(slates.byteLimit))])
    }

    private func writeConnections(_ writer: inout MetricsWriter) {
        guard let counters else { return }
        func count(_ value: Int) -> UInt64 { UInt64(clamping: value) }
        writer.gauge(
            "recserver_connections_open", "Open connections.", [("", Double(counters.connectionsOpen))])
        writer.counter(
            "recserver_connections_accepted", "Connections accepted.",
            [("", count(counters.connectionsAccepted))])
        writer.counter(
            "recserver_connections_refused", "Connections refused at the limit.",
            [("", count(counters.connectionsRefused))])
        writer.counter(
            "recserver_protocol_errors", "Requests the HTTP layer refused.",
            [("", count(counters.protocolErrors))])
        writer.counter(
            "recserver_timeouts", "Heads, bodies and answers that took too long.",
            [("", count(counters.timeouts))])
        writer.counter(
            "recserver_received_bytes", "Bytes read from clients.", [("", count(counters.bytesReceived))])
        writer.counter("recserver_sent_bytes", "Bytes written to clients.", [("", count(counters.bytesSent))])
    }

    private func writeProcess(_ writer: inout MetricsWriter) {
        writer.gauge(
            "recserver_build_info", "The server's version; always 1.",
            [("version=\"\(version)\",kernels=\"\(service.settings.kernelLevel)\"", 1)])
        writer.gauge(
            "recserver_ready", "1 while /readyz says so.",
            [("", service.registry.isReady && !service.isDraining ? 1 : 0)])
        writer.counter(
            "process_cpu_seconds", "User and system time.",
            value: ProcessStatistics.processorTime / .seconds(1))
        writer.gauge(
            "process_resident_memory_bytes", "Resident memory.",
            [("", Double(ProcessStatistics.residentByteCount ?? 0))])
        writer.gauge(
            "process_open_fds", "Open descriptors.", [("", Double(ProcessStatistics.openFileCount ?? 0))])
        writer.gauge(
            "process_start_time_seconds", "Start of the process, Unix seconds.",
            [("", Double(startedAt) / 1e9)])
    }
}
