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
            name: "log_level", domain: .choice(default: "info", of: ["debug", "info", "warning", "error"]),
            why: "least level that is logged"),
    ]
}
