extension Configuration.Tunable {
    /// Listeners and the limits of what comes over them.
    static let http: [Configuration.Tunable] = [
        .init(name: "host", domain: .text("127.0.0.1"), why: "IPv4 address to listen on; 0.0.0.0 for all"),
        .init(
            name: "port", domain: .integer(default: 8080, range: -1...65535, unit: ""),
            why: "TCP port for plain HTTP; -1 for none, 0 picks a free one and prints it"),
        .init(
            name: "loops", domain: .integer(default: 1, range: 1...64, unit: "threads"),
            why: "threads that own sockets"),
        .init(
            name: "admin_host", domain: .text("127.0.0.1"),
            why: "IPv4 address of the admin listener; it answers peers on this machine only"),
        .init(
            name: "admin_port", domain: .integer(default: -1, range: -1...65535, unit: ""),
            why: "TCP port of the admin listener; -1 for none, 0 picks a free one and prints it"),
        .init(
            name: "connections_max",
            domain: .integer(default: 10_000, range: 1...1_000_000, unit: "connections"),
            why: "open connections over all loops; beyond it 503 and close"),
        .init(
            name: "body_max", domain: .integer(default: 1_048_576, range: 1024...67_108_864, unit: "bytes"),
            why: "largest request body; beyond it 413"),
        .init(
            name: "events_body_max",
            domain: .integer(default: 4_194_304, range: 1024...67_108_864, unit: "bytes"),
            why: "largest body of POST /events; beyond it 413"),
        .init(
            name: "header_timeout_ms", domain: .integer(default: 10_000, range: 10...600_000, unit: "ms"),
            why: "for a whole request head; beyond it 408"),
        .init(
            name: "body_timeout_ms", domain: .integer(default: 30_000, range: 10...600_000, unit: "ms"),
            why: "for a whole request body; beyond it 408"),
        .init(
            name: "write_timeout_ms", domain: .integer(default: 30_000, range: 10...600_000, unit: "ms"),
            why: "for a client to take its answer"),
        .init(
            name: "idle_timeout_ms", domain: .integer(default: 60_000, range: 10...3_600_000, unit: "ms"),
            why: "between two requests of a connection"),
    ]
}
