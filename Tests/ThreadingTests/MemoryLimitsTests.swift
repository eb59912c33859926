import Foundation
import Testing

@testable import Threading

struct MemoryLimitsTests {
    /// A `proc` and `sys` of our own.
    private final class Root {
        let path = FileManager.default.temporaryDirectory.path + "/memory-limits-" + UUID().uuidString

        deinit { try? FileManager.default.removeItem(atPath: path) }

        func write(_ name: String, _ text: String) throws {
            let file = URL(fileURLWithPath: path + name)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }

        var tightest: MemoryLimits.Limit? { MemoryLimits(root: path).tightest }

        func expect(_ name: String, _ byteCount: Int) {
            #expect(tightest?.name == name && tightest?.byteCount == byteCount)
        }
    }

    @Test func `this machine has some memory left`() throws {
        #expect(try #require(MemoryLimits().tightest).byteCount > 1 << 20)
    }

    @Test func `without files there is no limit`() { #expect(Root().tightest == nil) }

    @Test func `the tightest of machine and groups counts, with clean pages given back`() throws {
        let root = Root()
        try root.write("/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    1000 kB\n")
        root.expect("MemAvailable", 1_024_000)
        try root.write("/proc/self/cgroup", "0::/a/b\n")
        try root.write("/sys/fs/cgroup/a/b/memory.max", "max\n")
        try root.write("/sys/fs/cgroup/a/b/memory.current", "500\n")
        #expect(root.tightest?.name == "MemAvailable")
        try root.write("/sys/fs/cgroup/a/memory.max", "900000\n")
        try root.write("/sys/fs/cgroup/a/memory.current", "400000\n")
        root.expect("/sys/fs/cgroup/a", 500_000)
        try root.write("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 100000\n")
        #expect(root.tightest?.byteCount == 600_000)
        try root.write("/sys/fs/cgroup/a/memory.current", "1100000\n")
        #expect(root.tightest?.byteCount == 0)
    }

    @Test func `groups of the first version are read too, at the mount's root in a container`() throws {
        let root = Root()
        try root.write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n")
        try root.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n")
        try root.write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n")
        root.expect("/sys/fs/cgroup/memory", 1500)
        try root.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
        #expect(root.tightest == nil)
    }
}
