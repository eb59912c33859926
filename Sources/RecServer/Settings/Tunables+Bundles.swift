extension Configuration.Tunable {
    /// Bundles and how they are loaded.
    static let bundles: [Configuration.Tunable] = [
        .init(name: "bundle", domain: .text(""), why: "folder of the model bundle to serve"),
        .init(
            name: "index_cache", domain: .text(""),
            why: "folder for built indexes; by default .index inside the bundle"),
        .init(
            name: "base_bundles", domain: .text(""),
            why: "where deltas find their base: folders that are bundles or hold some, separated by :"),
        .init(
            name: "build_at_start_max",
            domain: .integer(default: 100_000, range: 0...1_000_000_000, unit: "items"),
            why: "larger catalogues need an index made by `recserver build`"),
        .init(
            name: "verify_goldens", domain: .choice(default: "on", of: ["on", "off"]),
            why: "replay the bundle's goldens before it serves"),
        .init(
            name: "keep_previous", domain: .choice(default: "on", of: ["on", "off"]),
            why: "keep a label's previous version in memory, so that a rollback needs no load"),
        .init(
            name: "memory_headroom",
            domain: .integer(default: 67_108_864, range: 0...1_099_511_627_776, unit: "bytes"),
            why: "memory that must be left when a bundle is loaded; beyond it the bundle is refused"),
        .init(
            name: "load_bytes_per_second",
            domain: .integer(default: 0, range: 0...1_000_000_000_000, unit: "bytes"),
            why: "how fast a bundle is read beside serving; 0 for no limit"),
        .init(
            name: "prewarm_users", domain: .integer(default: 1000, range: 0...100_000, unit: "users"),
            why: "users seen last whose histories a new version encodes before it serves"),
        .init(
            name: "prewarm_file", domain: .text(""),
            why: "file of user ids, one a line, whose stored histories are encoded before a bundle serves"),
    ]
}
