extension AdmissionPolicy {
    /// - Parameter threads: compute threads.
    init(_ configuration: Configuration, threads: Int) {
        func nanoseconds(_ name: String) -> UInt64 { UInt64(configuration.integer(name)) * 1_000_000 }
        self.init(
            capacity: configuration.integer("queue_depth"), threads: threads,
            deadline: nanoseconds("deadline_ms"), target: nanoseconds("queue_target_ms"))
    }
}
