import Threading

/// Shows long work: one line that is redrawn on a terminal, a log line every few seconds elsewhere.
final class ProgressLine {
    /// What long work this process does, and how far it is.
    static let latest = Lock("")

    private let report: (String) -> Void
    private let isTerminal = StandardStream.error.isTerminal
    private var lastShown: UInt64 = 0
    private var lastTitle = ""
    private var needsNewline = false

    /// - Parameter report: takes a line where there is no terminal.
    init(report: @escaping (String) -> Void) { self.report = report }

    /// Shows `done` of `total`; cheap to call often.
    func show(_ title: String, _ done: Int, _ total: Int) {
        let now = MonotonicClock.nanoseconds
        let isLast = done >= total
        // 100 ms reads as motion; 5 s keeps logs short.
        let interval: UInt64 = isTerminal ? 100_000_000 : 5_000_000_000
        guard isLast || title != lastTitle || now &- lastShown >= interval else { return }
        if isTerminal, title != lastTitle, needsNewline { StandardStream.error.write("\n") }
        lastShown = now
        lastTitle = title
        let percent = total > 0 ? 100 * done / total : 100
        Self.latest.withLock { $0 = "\(title) \(percent)%" }
        if isTerminal {
            let filled = percent * 30 / 100
            let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
            StandardStream.error.write("\r\(title) [\(bar)] \(percent)%" + (isLast ? "\n" : ""))
            needsNewline = !isLast
        } else {
            report("\(title) \(percent)%")
        }
    }
}
