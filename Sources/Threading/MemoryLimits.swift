internal import Glibc

/// How much memory this process may still take, as the kernel and its control groups say.
public struct MemoryLimits: Sendable {
    /// One limit and what is left under it.
    public struct Limit: Sendable, Equatable {
        /// Where it comes from: `MemAvailable` or a control group's folder.
        public let name: String
        /// Bytes left.
        public let byteCount: Int
    }

    private let root: String
    /// Most levels of control groups looked at.
    private static let depthMaximum = 32

    /// - Parameter root: the folder under which `proc` and `sys` are; the system's by default.
    public init(root: String = "") { self.root = root }

    /// The tightest limit; nil when nothing could be read. Reads a few small files.
    public var tightest: Limit? {
        ([available].compactMap(\.self) + groups).min { $0.byteCount < $1.byteCount }
    }

    /// What the whole machine could give without swapping.
    private var available: Limit? {
        let line = lines("/proc/meminfo").first { $0.hasPrefix("MemAvailable:") }
        guard let text = line?.split(separator: " ").dropFirst().first, let kibibytes = Int(text) else {
            return nil
        }
        return Limit(name: "MemAvailable", byteCount: kibibytes << 10)
    }

    /// The limits of our control groups of both versions, and of the groups around them.
    private var groups: [Limit] {
        var limits: [Limit] = []
        for line in lines("/proc/self/cgroup") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            let isSecond = fields[0] == "0" && fields[1].isEmpty
            guard isSecond || fields[1].split(separator: ",").contains("memory") else { continue }
            var path = String(fields[2])
            // In a container the path is often that of the host: then only the root of the mount is there.
            for _ in 0..<Self.depthMaximum {
                if path == "/" { path = "" }
                if let limit = isSecond ? second(path) : first(path) { limits.append(limit) }
                guard let slash = path.lastIndex(of: "/") else { break }
                path = String(path[..<slash])
            }
        }
        return limits
    }

    private func second(_ path: String) -> Limit? {
        let folder = "/sys/fs/cgroup" + path
        return limit(folder, number(folder + "/memory.max"), number(folder + "/memory.current"))
    }

    private func first(_ path: String) -> Limit? {
        let folder = "/sys/fs/cgroup/memory" + path
        return limit(
            folder, number(folder + "/memory.limit_in_bytes"), number(folder + "/memory.usage_in_bytes"))
    }

    private func limit(_ folder: String, _ maximum: Int?, _ used: Int?) -> Limit? {
        // "No limit" is the largest whole number of pages; nothing near it is a limit.
        guard let maximum, let used, maximum < 1 << 60 else { return nil }
        // Clean file pages count as used but are given back when memory is needed.
        let prefix = "inactive_file "
        let stat = lines(folder + "/memory.stat").first { $0.hasPrefix(prefix) }
        let reclaimable = stat.flatMap { Int($0.dropFirst(prefix.count)) } ?? 0
        return Limit(name: folder, byteCount: max(0, maximum - max(0, used - reclaimable)))
    }

    private func number(_ path: String) -> Int? { lines(path).first.flatMap { Int($0) } }

    private func lines(_ path: String) -> [Substring] {
        guard let file = unsafe fopen(root + path, "re") else { return [] }
        defer { unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        // SAFETY: the buffer has room for its count.
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe fread($0.baseAddress, 1, $0.count, file) }
        return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
    }
}
