import Foundation
import Testing

/// What two places say must be one thing.
@Suite struct ContractTests {
    @Test func `the documented paths are the routes that metrics know`() throws {
        let yaml = try SourceTree.text("openapi.yaml")
        let paths = yaml.split(separator: "\n").compactMap { line -> String? in
            line.wholeMatch(of: /[ ]{2}(\/\S*):/).map { String($0.output.1) }
        }
        let metrics = try SourceTree.text("Sources/RecServer/Metrics/Metrics.swift")
        let routes = metrics.matches(of: /"(\/[^"]*)"/).map { String($0.output.1) }
        #expect(Set(paths) == Set(routes))
        #expect(paths.count == Set(paths).count)
        #expect(!paths.isEmpty)
    }

    @Test func `the documented problems are those the server has`() throws {
        let yaml = try SourceTree.text("openapi.yaml")
        let listed = yaml.matches(of: /- urn:recserver:problem:([a-z-]+)/).map { String($0.output.1) }
        let kinds = try problemKinds()
        #expect(Set(listed) == kinds)
        for kind in kinds { #expect(yaml.contains("`\(kind)`"), "\(kind) is not in the table of errors") }
        for kind in kinds {
            #expect(yaml.contains("type: urn:recserver:problem:\(kind)\n"), "\(kind) has no example")
        }
    }

    @Test func `the documented request fields are those the server reads`() throws {
        let request = try SourceTree.text("Sources/RecServer/API/RecommendRequest.swift")
        let names = try #require(request.firstMatch(of: /names: Set<String> = \[([^\]]*)\]/)).output.1
        let read = Set(names.matches(of: /"([a-z_]+)"/).map { String($0.output.1) })
        let yaml = try SourceTree.text("openapi.yaml")
        let schema = try #require(yaml.firstMatch(of: /\n    RecommendRequest:\n([\s\S]*?)\n    [A-Z]/))
            .output.1
        let documented = Set(schema.matches(of: /\n        ([a-z_]+):/).map { String($0.output.1) })
        #expect(read == documented)
    }

    @Test func `the operations guide names every setting with its default`() throws {
        let guide = try SourceTree.text("Sources/RecServer/RecServer.docc/Operations.md")
        let configuration = SourceTree.text(ofFilesBelow: "Sources/RecServer/Settings/Tunables")
        let tunables = configuration.matches(
            of: /name: "([a-z_]+)"(?:,|,\s+)domain: \.\w+\((?:default: )?"?([\w.-]*)"?/)
        #expect(tunables.count >= 20)
        for tunable in tunables {
            let (name, value) = (String(tunable.output.1), tunable.output.2.filter { $0 != "_" })
            let row = guide.split(separator: "\n").first { $0.hasPrefix("| `\(name)` |") }
            #expect(row != nil, "\(name) is missing")
            #expect(
                row?.contains("| \(value.isEmpty ? "" : "\(value) ")|") ?? false, "\(name): default \(value)")
        }
    }

    @Test func `the operations guide names every metric`() throws {
        let guide = try SourceTree.text("Sources/RecServer/RecServer.docc/Operations.md")
        let report = SourceTree.text(ofFilesBelow: "Sources/RecServer/Metrics")
        let kinds = report.matches(of: /writer\.(counter|gauge|histogram)\(\s*"([a-z_]+)"/)
        #expect(kinds.count >= 20)
        for kind in kinds {
            let name = String(kind.output.2) + (kind.output.1 == "counter" ? "_total" : "")
            #expect(guide.contains("`\(name)`"), "\(name) is missing")
        }
    }

    private func problemKinds() throws -> Set<String> {
        let problem = try SourceTree.text("Sources/RecServer/API/Problem.swift")
        let body = try #require(problem.firstMatch(of: /enum Kind[^{]*\{([\s\S]*?)var status/)).output.1
        let kinds = body.matches(of: /case (\w+)(?: = "([a-z-]+)")?/).map {
            $0.output.2.map(String.init) ?? String($0.output.1)
        }
        return Set(kinds)
    }
}
