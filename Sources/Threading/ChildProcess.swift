import CLinux

/// A process that this one has started.
public final class ChildProcess: Sendable {
    /// The process's id.
    public let id: Int32
    private let ended = Lock(false)

    /// Starts a program.
    /// - Parameters:
    ///   - path: the program's file.
    ///   - arguments: with its name first.
    ///   - environment: `NAME=value` each.
    ///   - descriptors: what it gets, under the same numbers, besides the standard streams.
    /// - Throws: also when the file is no program.
    public init(
        path: String, arguments: [String], environment: [String], descriptors: [Int32]
    ) throws(ThreadingError) {
        let strings = (arguments + environment).flatMap { $0.utf8.filter { $0 != 0 } + [0] }
            .map { CChar(bitPattern: $0) }
        // SAFETY: there are as many NUL-terminated strings in the array as is said, and as many descriptors;
        // the callee reads both during the call.
        let status = unsafe strings.withUnsafeBufferPointer { strings -> Int32 in
            guard let first = strings.baseAddress else { return -CLinux_EINVAL }
            return unsafe descriptors.withUnsafeBufferPointer { descriptors in
                unsafe CLinux_spawn(
                    path, first, Int32(clamping: arguments.count), Int32(clamping: environment.count),
                    descriptors.baseAddress, Int32(clamping: descriptors.count))
            }
        }
        guard status >= 0 else { throw .system(call: "posix_spawn", errno: -status) }
        id = status
    }

    /// Whether it has ended; it is forgotten by the system then.
    public var hasEnded: Bool {
        ended.withLock { ended in
            // Whatever is wrong with asking, there is nothing left to wait for.
            if !ended { ended = CLinux_reap(id) != 0 }
            return ended
        }
    }

    /// Asks it to end, or ends it.
    public func end(atOnce: Bool = false) {
        ended.withLock { ended in
            // 9 is SIGKILL everywhere.
            if !ended { _ = CLinux_kill(id, atOnce ? 9 : CLinux_SIGTERM) }
        }
    }

    /// This process's id.
    public static var ownID: Int32 { CLinux_process_id() }
    /// The id of the process that started this one, or of the one that looks after orphans.
    public static var parentID: Int32 { CLinux_parent_id() }
}

/// One end of a pair of sockets between two processes, over which single bytes are messages.
public final class ProcessChannel: Sendable {
    /// What came over the channel.
    public enum Message: Sendable, Equatable {
        case byte(UInt8)
        /// The other process has closed its end, or has ended.
        case end
        case nothingYet
    }

    /// The descriptor that another process may inherit.
    public let descriptor: Int32

    /// Takes the ownership of a descriptor.
    public init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { _ = CLinux_close(descriptor) }

    /// Both ends.
    public static func pair() throws(ThreadingError) -> (ProcessChannel, ProcessChannel) {
        var descriptors: [Int32] = [-1, -1]
        // SAFETY: the callee writes two numbers into the array of two.
        let status = unsafe descriptors.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return -CLinux_EINVAL }
            return unsafe CLinux_socket_pair(base)
        }
        guard status == 0 else { throw .system(call: "socketpair", errno: -status) }
        return (ProcessChannel(descriptor: descriptors[0]), ProcessChannel(descriptor: descriptors[1]))
    }

    /// Sends a message; false when the other side has gone.
    @discardableResult
    public func send(_ byte: UInt8) -> Bool {
        var byte = byte
        // SAFETY: one byte, alive during the call.
        return unsafe CLinux_write(descriptor, &byte, 1) == 1
    }

    /// The next message; waits for one for ever, or for `limit`.
    public func receive(within limit: Duration? = nil) -> Message {
        let milliseconds = limit.map { Int32(clamping: $0.nanosecondsClamped / 1_000_000) } ?? -1
        let ready = CLinux_wait_readable(descriptor, milliseconds)
        guard ready > 0 else { return ready == 0 ? .nothingYet : .end }
        var byte: UInt8 = 0
        // SAFETY: one byte, alive during the call.
        return unsafe CLinux_read(descriptor, &byte, 1) == 1 ? .byte(byte) : .end
    }
}

/// Descriptors that another process has left open for this one.
public enum InheritedDescriptor {
    /// Keeps `descriptor` from further processes; false where there is none of that number.
    public static func adopt(_ descriptor: Int32) -> Bool {
        descriptor > 2 && CLinux_adopt(descriptor) == 0
    }

    /// Whether it is a stream socket that listens.
    public static func isListening(_ descriptor: Int32) -> Bool { CLinux_is_listening(descriptor) == 1 }
}
