import Threading

/// Sockets that listen already when the process starts: systemd's socket activation (sd_listen_fds(3)).
struct InheritedSockets: Equatable, Sendable {
    var http: [Int32] = []
    var https: [Int32] = []
    var admin: [Int32] = []

    /// The first descriptor that is handed over.
    private static let first: Int32 = 3
    private static let countMax = 256

    /// None.
    init() {}

    /// What `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` say; none where they are for another process.
    /// - Throws: what is wrong with them.
    init(
        environment: (String) -> String?,
        processID: Int32 = ProcessStatistics.processID
    ) throws(Configuration.Invalid) {
        guard let pid = environment("LISTEN_PID"), pid == String(processID) else { return }
        let text = environment("LISTEN_FDS") ?? ""
        guard let count = Int(text), 1...Self.countMax ~= count else {
            throw Configuration.Invalid(
                description: "LISTEN_FDS: expected 1 to \(Self.countMax), found \"\(text)\"")
        }
        let names =
            environment("LISTEN_FDNAMES").map { text in
                text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            } ?? Array(repeating: "http", count: count)
        guard names.count == count else {
            throw Configuration.Invalid(
                description: "LISTEN_FDNAMES: \(names.count) names for \(count) descriptors")
        }
        for (index, name) in names.enumerated() {
            let descriptor = Self.first + Int32(index)
            switch name {
            case "http": http.append(descriptor)
            case "https": https.append(descriptor)
            case "admin": admin.append(descriptor)
            default:
                throw Configuration.Invalid(
                    description: "LISTEN_FDNAMES: expected http, https or admin, found \"\(name)\"")
            }
        }
    }
}
