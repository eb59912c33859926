import Glibc
import Testing
import Threading

@Suite struct ChildProcessTests {
    private static func awaitEnd(_ child: ChildProcess) {
        while !child.hasEnded { usleep(1000) }
    }

    @Test func `a child has the arguments, variables and descriptors it is given`() throws {
        let (ours, theirs) = try ProcessChannel.pair()
        let script =
            "test \"$A\" = 'x y' && test \"$#\" = 1 && test -z \"$HOME\" && printf y >&\(theirs.descriptor)"
        // Not sh: its redirections end at descriptor 9.
        let child = try withExtendedLifetime(theirs) {
            try ChildProcess(
                path: "/bin/bash", arguments: ["bash", "-c", script, "bash", "one"], environment: ["A=x y"],
                descriptors: [theirs.descriptor])
        }
        #expect(ours.receive(within: .seconds(60)) == .byte(UInt8(ascii: "y")))
        Self.awaitEnd(child)
        #expect(child.hasEnded)
    }

    @Test func `a channel ends with the other process, and is silent before`() throws {
        let (ours, theirs) = try ProcessChannel.pair()
        var end: ProcessChannel? = theirs
        let child = try ChildProcess(
            path: "/bin/sh", arguments: ["sh", "-c", "exec sleep 60"], environment: ["PATH=/bin:/usr/bin"],
            descriptors: [theirs.descriptor])
        end = nil
        _ = end
        withExtendedLifetime(theirs) {}
        #expect(ours.receive(within: .milliseconds(20)) == .nothingYet)
        #expect(!child.hasEnded)
        child.end()
        Self.awaitEnd(child)
        #expect(kill(child.id, 0) != 0)
    }

    @Test func `what is no program does not start`() {
        for path in ["/no/such/file", "/etc/passwd", "/"] {
            #expect(throws: ThreadingError.self) {
                try ChildProcess(path: path, arguments: ["x"], environment: [], descriptors: [])
            }
        }
    }

    @Test func `only a socket that listens is one`() throws {
        let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(socket) }
        #expect(!InheritedDescriptor.isListening(socket))
        #expect(listen(socket, 1) == 0)
        #expect(InheritedDescriptor.isListening(socket) && InheritedDescriptor.adopt(socket))
        #expect(!InheritedDescriptor.isListening(0) && !InheritedDescriptor.adopt(0))
        #expect(!InheritedDescriptor.adopt(1_000_000) && !InheritedDescriptor.adopt(-1))
    }
}

@Suite struct ServiceNotifierTests {
    /// A datagram socket at a path, or of an abstract name.
    private static func listener(_ name: String) -> Int32 {
        let socket = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = name.utf8.map { $0 == UInt8(ascii: "@") ? 0 : CChar(bitPattern: $0) }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { path in
            for (index, byte) in bytes.enumerated() { unsafe path[index] = UInt8(bitPattern: byte) }
        }
        let length = socklen_t(2 + bytes.count)
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(socket, $0, length)
            }
        }
        #expect(status == 0)
        return socket
    }

    @Test(arguments: ["@recserver-notifier-test-\(getpid())", "/tmp/recserver-notifier-test-\(getpid())"])
    func `a message is one datagram`(name: String) {
        let socket = Self.listener(name)
        defer {
            close(socket)
            unsafe unlink(name)
        }
        let notifier = ServiceNotifier(address: name)
        #expect(notifier.isHeard && notifier.send("READY=1", "STATUS=a\nb"))
        var bytes = [UInt8](repeating: 0, count: 100)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe recv(socket, $0.baseAddress, $0.count, 0) }
        #expect(String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self) == "READY=1\nSTATUS=a b")
    }

    @Test func `nobody hears what goes nowhere, and nothing happens`() {
        #expect(!ServiceNotifier(address: nil).isHeard)
        let long = "/" + String(repeating: "x", count: 200)
        for name in [nil, "", "@", "relative", "/no/such/socket", long] as [String?] {
            #expect(!ServiceNotifier(address: name).send("READY=1"))
        }
    }

    @Test func `the watchdog's interval is this process's own`() {
        let own = String(ChildProcess.ownID)
        #expect(ServiceNotifier.watchdogInterval(microseconds: "30000000", process: own) == 30_000_000_000)
        #expect(ServiceNotifier.watchdogInterval(microseconds: "1", process: nil) == 1000)
        #expect(ServiceNotifier.watchdogInterval(microseconds: "1", process: "1") == nil)
        for text in [nil, "", "0", "x", "-1", "18446744073709551615"] as [String?] {
            #expect(ServiceNotifier.watchdogInterval(microseconds: text, process: nil) == nil)
        }
    }
}
