extension Configuration.Tunable {
    /// What a request may cost, and what is remembered between requests.
    static let serving: [Configuration.Tunable] = [
        .init(
            name: "compute_threads", domain: .integer(default: 0, range: 0...256, unit: "threads"),
            why: "threads that compute answers; 0 takes one per core"),
        .init(
            name: "compute_nice", domain: .integer(default: 2, range: 0...19, unit: ""),
            why: "by how much they give way to the threads that own sockets, as nice does"),
        .init(
            name: "queue_depth", domain: .integer(default: 256, range: 1...65536, unit: "requests"),
            why: "requests that may wait for a compute thread; beyond it 503 with Retry-After"),
        .init(
            name: "queue_target_ms", domain: .integer(default: 5, range: 1...1000, unit: "ms"),
            why: "wait to which the queue is shortened while requests are refused"),
        .init(
            name: "deadline_ms", domain: .integer(default: 100, range: 1...10_000, unit: "ms"),
            why: "budget of a request that brings no deadline_ms of its own"),
        .init(
            name: "candidates_max", domain: .integer(default: 2000, range: 1...10_000, unit: "items"),
            why: "cap on the bundle's candidate list per request"),
        .init(
            name: "probes_max", domain: .integer(default: 256, range: 1...65536, unit: "lists"),
            why: "cap on the bundle's index probes per query"),
        .init(
            name: "shortlist_factor_max", domain: .integer(default: 16, range: 1...100, unit: ""),
            why: "cap on codes re-ranked exactly per result"),
        .init(
            name: "history_cache_bytes",
            domain: .integer(default: 1_073_741_824, range: 0...4_398_046_511_104, unit: "bytes"),
            why: "for users' histories as the model encodes them, kept across requests; 0 keeps none"),
        .init(
            name: "microbatch", domain: .integer(default: 64, range: 1...1024, unit: "items"),
            why: "candidates the sequence model scores at a time; changes no score"),
        .init(
            name: "batch_max", domain: .integer(default: 256, range: 1...10_000, unit: "lines"),
            why: "most lines of an NDJSON batch; beyond it 400"),
        .init(
            name: "session_shift_max", domain: .integer(default: 0, range: 0...500, unit: "places"),
            why: "most places an item moves between a user's consecutive answers; 0 for no bound"),
        .init(
            name: "session_ttl_s", domain: .integer(default: 1800, range: 1...86_400, unit: "s"),
            why: "without a request after which a user's session is over"),
        .init(
            name: "cursor_bytes",
            domain: .integer(default: 67_108_864, range: 0...1_099_511_627_776, unit: "bytes"),
            why: "for slates that cursors continue; 0 gives no cursors"),
        .init(
            name: "cursor_ttl_s", domain: .integer(default: 1800, range: 1...86_400, unit: "s"),
            why: "for which a cursor continues its slate"),
    ]
}
