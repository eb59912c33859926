import Testing

@testable import RecServer

@Suite struct ConfigurationTests {
    @Test func `flags win over the environment, which wins over the file, which wins over defaults`() throws {
        let file = (
            name: "c.json",
            bytes: Array(#"{"port": 1000, "queue_depth": 11, "loops": "3", "host": "0.0.0.0"}"#.utf8)
        )
        let environment = ["RECSERVER_PORT": "2000", "RECSERVER_QUEUE_DEPTH": "12"]
        let configuration = try Configuration(
            file: file, environment: { environment[$0] }, arguments: ["--port", "3000", "--deadline-ms=7"])
        #expect(configuration.integer("port") == 3000)
        #expect(configuration.integer("queue_depth") == 12)
        #expect(configuration.integer("loops") == 3)
        #expect(configuration.text("host") == "0.0.0.0")
        #expect(configuration.integer("deadline_ms") == 7)
        #expect(configuration.integer("microbatch") == 64)
    }

    @Test(arguments: [
        ["--port", "70000"], ["--port"], ["--port", "x"], ["--nonsense", "1"], ["--log-level=loud"],
        ["--queue-depth", "0"], ["--port", "1.5"], ["stray"],
    ])
    func `a wrong flag is refused`(arguments: [String]) {
        #expect(throws: Configuration.Invalid.self) { try Configuration(arguments: arguments) }
    }

    @Test(arguments: [
        "[]", "{\"port\": 1.5}", "{\"prot\": 1}", "{\"port\": 1", "{\"port\": null}", "{\"port\": 99999}",
    ])
    func `a wrong file is refused`(text: String) {
        #expect(throws: Configuration.Invalid.self) { try Configuration(file: ("c.json", Array(text.utf8))) }
    }

    @Test func `every tunable has a default in its own range and stands in the help`() throws {
        for tunable in Configuration.tunables {
            if case .integer(let number, let range, _) = tunable.domain { #expect(range.contains(number)) }
            #expect(Configuration.help.contains(tunable.flag))
            #expect(!tunable.why.isEmpty)
        }
        #expect(Set(Configuration.tunables.map(\.name)).count == Configuration.tunables.count)
    }
}
