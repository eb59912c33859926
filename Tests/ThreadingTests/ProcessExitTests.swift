import Glibc
import Testing
import Threading

struct ProcessExitTests {
    @Test func `leaving at once runs no exit handler, also while another thread works`() async {
        await #expect(processExitsWith: .exitCode(3)) {
            _ = atexit { _exit(9) }
            let end = Latch(count: 1)
            _ = try NamedThread(name: "busy") { _ = end.wait(within: .seconds(60)) }
            ProcessExit.immediately(3)
        }
    }
}
