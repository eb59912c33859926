import Testing

@testable import RecServer

@Suite struct TraceContextTests {
    private let id = "4bf92f3577b34da6a3ce929d0e0e4736"

    @Test func `the trace id of a well-formed header is taken`() {
        #expect(TraceContext("00-\(id)-00f067aa0ba902b7-01")?.traceID == id)
        #expect(TraceContext("cc-\(id)-00f067aa0ba902b7-01-what-comes-later")?.traceID == id)
    }

    @Test(arguments: [
        "", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", "é0-4bf9", "\"}\n",
    ])
    func `a malformed header is no trace`(_ header: String) {
        #expect(TraceContext(header) == nil)
    }

    @Test func `no header is no trace, and a very long one is not read`() {
        #expect(TraceContext(nil) == nil)
        #expect(TraceContext("cc-\(id)-00f067aa0ba902b7-01-" + String(repeating: "a", count: 600)) == nil)
    }
}
