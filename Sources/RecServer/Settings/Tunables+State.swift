extension Configuration.Tunable {
    /// What is kept of users.
    static let state: [Configuration.Tunable] = [
        .init(
            name: "state_dir", domain: .text(""),
            why: "folder of the user state: events, features, consent; without one nothing is kept"),
        .init(
            name: "state_cache_bytes",
            domain: .integer(default: 268_435_456, range: 0...1_099_511_627_776, unit: "bytes"),
            why: "for users' state in memory, in front of the folder"),
        .init(
            name: "history_max", domain: .integer(default: 1024, range: 16...65_536, unit: "events"),
            why: "events kept of a user"),
        .init(
            name: "retention_days", domain: .integer(default: 0, range: 0...36_500, unit: "days"),
            why: "after which events are dropped; 0 keeps them"),
        .init(
            name: "event_window_s", domain: .integer(default: 86_400, range: 0...315_360_000, unit: "s"),
            why: "an event may arrive this long after a newer one of its user; later it is refused"),
        .init(
            name: "event_id_days", domain: .integer(default: 7, range: 1...365, unit: "days"),
            why: "for which event ids are remembered, so that no event counts twice"),
        .init(
            name: "unknown_items", domain: .choice(default: "keep", of: ["keep", "refuse"]),
            why: "what becomes of events whose item the catalogue does not have"),
        .init(
            name: "events_max", domain: .integer(default: 10_000, range: 1...100_000, unit: "events"),
            why: "most events of one request; beyond it 400"),
        .init(
            name: "event_queue_depth", domain: .integer(default: 1024, range: 1...65_536, unit: "changes"),
            why: "changes of user state that may wait to be written; beyond it 503 with Retry-After"),
        .init(
            name: "ignored_after", domain: .integer(default: 0, range: 0...1000, unit: "times"),
            why: "items shown this often to a user who did nothing with them are left out; 0 for never"),
        .init(
            name: "ignored_ttl_s", domain: .integer(default: 86_400, range: 1...31_536_000, unit: "s"),
            why: "for which such an item stays away, counted from when it was shown last"),
        .init(
            name: "popularity_half_life_s",
            domain: .integer(default: 604_800, range: 0...315_360_000, unit: "s"),
            why: "in which an event loses half its weight in what is popular; 0 leaves that to the bundle"),
        .init(
            name: "popularity_by", domain: .text(""),
            why: "a user feature, such as country, by whose values popularity is counted besides"),
        .init(
            name: "eager_s", domain: .integer(default: 300, range: 0...86_400, unit: "s"),
            why: "new events of users seen this recently are encoded when the server is idle; 0 for never"),
        .init(
            name: "feedback_dir", domain: .text(""),
            why: "folder of the log of slates shown, for training; without one none is written"),
        .init(
            name: "feedback_percent", domain: .integer(default: 100, range: 0...100, unit: "%"),
            why: "share of slates that are logged"),
        .init(
            name: "feedback_file_bytes",
            domain: .integer(default: 67_108_864, range: 4096...4_294_967_296, unit: "bytes"),
            why: "size at which a new file of the log is begun"),
        .init(
            name: "feedback_files", domain: .integer(default: 16, range: 2...10_000, unit: "files"),
            why: "files of the log that are kept; the oldest go"),
    ]
}
