import Threading

extension MetricsReport {
    /// Who was let in, who was not, and how long the queue is.
    func writeAdmission(_ writer: inout MetricsWriter) {
        let metrics = service.metrics.admission
        let (lanes, relief) = pool.readings
        func series(_ value: (LaneReading) -> Double) -> [(labels: String, value: Double)] {
            zip(Lane.allCases, lanes).map { ("lane=\"\($0.rawValue)\"", value($1)) }
        }
        writer.counter(
            "recserver_admitted", "Requests let in to the compute threads, by lane.",
            Lane.allCases.map { ("lane=\"\($0.rawValue)\"", metrics.admitted($0).value) })
        writer.counter(
            "recserver_admission_refused", "Requests refused for want of capacity, by lane and reason.",
            Lane.allCases.flatMap { lane in
                AdmissionRefusal.allCases.map { reason in
                    (
                        "lane=\"\(lane.rawValue)\",reason=\"\(reason.rawValue)\"",
                        metrics.refused(lane, reason).value
                    )
                }
            })
        writer.histogram(
            "recserver_queue_seconds", "Time that requests waited for a compute thread, by lane.",
            Lane.allCases.map { ("lane=\"\($0.rawValue)\"", metrics.waits[$0.index]) })
        writer.gauge(
            "recserver_queue_depth", "Requests waiting for a compute thread.", [("", Double(pool.depth))])
        writer.gauge(
            "recserver_queue_wait_seconds", "What one more request would wait, by measured costs.",
            series { Double($0.wait) / 1e9 })
        writer.gauge(
            "recserver_queue_limit_seconds", "What a request with the default deadline may wait.",
            series { Double($0.limit) / 1e9 })
        writer.gauge(
            "recserver_queue_held", "1 while the queue is held short because requests are refused.",
            series { $0.isHeld ? 1 : 0 })
        writer.gauge(
            "recserver_relief", "Rungs of the ladder that the queue has answers leave out, 0 to 3.",
            [("", Double(relief.rawValue))])
        writer.counter(
            "recserver_relieved", "Answers that left out a step because others were waiting.",
            [("", metrics.relieved.value)])
    }
}
