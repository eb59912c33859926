extension Configuration.Tunable {
    /// Who may ask, how the process ends, and what it writes down.
    static let operating: [Configuration.Tunable] = [
        .init(
            name: "keys_file", domain: .text(""),
            why: "JSON file of API keys, hashed, with their roles and rates; read again on SIGHUP"),
        .init(
            name: "rate_per_address", domain: .integer(default: 0, range: 0...1_000_000, unit: "requests/s"),
            why: "for each peer address; beyond it 429; 0 for no limit"),
        .init(
            name: "drain_delay_ms", domain: .integer(default: 0, range: 0...600_000, unit: "ms"),
            why: "after SIGTERM /readyz says 503 and serving goes on this long, so that balancers notice"),
        .init(
            name: "drain_limit_ms", domain: .integer(default: 10_000, range: 0...600_000, unit: "ms"),
            why: "for requests in flight to finish after that"),
        .init(
            name: "upgrade_timeout_s", domain: .integer(default: 600, range: 1...86_400, unit: "s"),
            why: "for a new process to load its bundle after SIGUSR2; beyond it this one goes on"),
        .init(
            name: "access_log", domain: .text(""),
            why: "file of one JSON line per request, opened again on SIGUSR1; - for standard output"),
        .init(
            name: "access_log_percent", domain: .integer(default: 100, range: 0...100, unit: "%"),
            why: "share of requests that are logged there; those answered 500 and above always are"),
        .init(
            name: "otlp_endpoint", domain: .text(""),
            why: "http://HOST:PORT of an OTLP collector that gets the spans of requests; not encrypted"),
        .init(
            name: "otlp_percent", domain: .integer(default: 1, range: 0...100, unit: "%"),
            why: "share of requests without a traceparent whose spans are sent; with one its flag decides"),
        .init(
            name: "log_level", domain: .choice(default: "info", of: ["debug", "info", "warning", "error"]),
            why: "least level that is logged"),
    ]
}
