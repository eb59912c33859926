extension Configuration.Tunable {
    /// Listeners and the limits of what comes over them.
    static let http: [Configuration.Tunable] = [
        .init(name: "host", domain: .text("127.0.0.1"), why: "IPv4 address to listen on; 0.0.0.0 for all"),
        .init(
            name: "port", domain: .integer(default: 8080, range: -1...65535, unit: ""),
            why: "TCP port for plain HTTP; 0 picks a free one and prints it, -1 for none"),
        .init(
            name: "unix_socket", domain: .text(""),
            why: "path of a Unix socket to listen on besides, with permissions 0660"),
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
            why: "open connections over all loops; beyond it idle ones make place, else 503 and close"),
        .init(
            name: "connections_per_address",
            domain: .integer(default: 0, range: 0...1_000_000, unit: "connections"),
            why: "open connections of one IPv4 address or IPv6 /64; beyond it 503 and close; 0 for no limit"),
        .init(
            name: "trusted_proxies", domain: .text(""),
            why: "addresses, ranges and unix, between commas, that may say for whom they speak"),
        .init(
            name: "proxy_protocol", domain: .choice(default: "off", of: ["off", "required"]),
            why: "whether TCP connections begin with a PROXY header of version 2, from trusted_proxies"),
        .init(
            name: "cors_origins", domain: .text(""),
            why: "origins of web pages that may read answers, between commas, or *"),
        .init(
            name: "compression", domain: .choice(default: "on", of: ["on", "off"]),
            why: "answer in gzip or zstd where the client accepts it"),
        .init(
            name: "compress_min", domain: .integer(default: 1024, range: 64...67_108_864, unit: "bytes"),
            why: "smallest answer that is compressed"),
        .init(
            name: "http2_streams_max", domain: .integer(default: 100, range: 1...1_000, unit: "streams"),
            why: "requests that one HTTP/2 connection may have open; beyond it REFUSED_STREAM"),
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
