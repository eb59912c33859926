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
}
