import CLinux

/// How the process's heap gives memory back to the system.
public enum ProcessMemory {
    /// From here on allocations of at least `byteCount` bytes are mappings of their own, which go back to the
    /// system whole when they are freed; what is freed of smaller ones is kept until `trim`.
    ///
    /// Without this, glibc raises that size with every large block that is freed, and tables end up between
    /// blocks that stay. Call at the start, before other threads run.
    public static func mapBlocks(from byteCount: Int) { CLinux_map_blocks_from(Int32(clamping: byteCount)) }

    /// Gives memory that was freed back to the system; takes milliseconds, during which allocations may wait.
    public static func trim() { CLinux_trim_heap() }
}
