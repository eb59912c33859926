internal import Glibc

/// The process's environment.
public enum ProcessEnvironment {
    /// The value of an environment variable. Read at start, before other threads run.
    public static func value(_ name: String) -> String? {
        // SAFETY: getenv gives a NUL-terminated string or null; nothing in this process changes the
        // environment.
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }

    /// All variables, `NAME=value` each.
    public static var all: [String] {
        var all: [String] = []
        // SAFETY: the array of NUL-terminated strings ends with null; nothing in this process changes it.
        var next = unsafe environ
        while let entry = unsafe next.pointee {
            all.append(unsafe String(cString: entry))
            unsafe next += 1
        }
        return all
    }

    /// The file of the running program: as it was called, or where it lay when this was asked for first. A
    /// file put in its place since is meant, too.
    public static let programPath: String = {
        let name = CommandLine.arguments.first ?? ""
        if name.contains("/") { return name }
        var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
        // SAFETY: the callee writes at most the count given, which leaves the last byte 0.
        let count = unsafe bytes.withUnsafeMutableBufferPointer { buffer -> Int in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe readlink("/proc/self/exe", base, buffer.count - 1)
        }
        guard count > 0 else { return name }
        return String(decoding: bytes.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }()
}
