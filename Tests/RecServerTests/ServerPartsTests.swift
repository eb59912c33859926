import Testing

@testable import RecServer

@Suite struct ServerPartsTests {
    private let long = String(repeating: "x", count: 129)

    @Test func `a path has one label in metrics whatever it names`() {
        for (path, route) in [
            ("/events", .events), ("/users/u", .user), ("/users/{user_id}", .user),
            ("/users/u/events/e", .userEvent), ("/users/u/x", .userEvent), ("/other", .other), ("/x", .other),
            ("/similar/a", .similar), ("/recommend", .recommend),
        ] as [(String, Metrics.Route)] {
            #expect(Router.route(path: path) == route)
        }
    }

    @Test func `every path finds its endpoint, other methods are refused with the allowed ones`() throws {
        #expect(try Router.match(method: "POST", path: "/recommend") == .recommend)
        #expect(try Router.match(method: "GET", path: "/similar/a%2Fb%20c") == .similar(itemID: "a/b c"))
        #expect(try Router.match(method: "HEAD", path: "/livez") == .livez)
        #expect(throws: Problem(.methodNotAllowed, allow: "POST, OPTIONS")) {
            try Router.match(method: "GET", path: "/recommend")
        }
        #expect(throws: Problem(.methodNotAllowed, allow: "GET, HEAD, OPTIONS")) {
            try Router.match(method: "POST", path: "/metrics")
        }
        let users: [(String, Router.UserMethod)] = [
            ("GET", .get), ("HEAD", .get), ("PUT", .replace), ("PATCH", .patch), ("DELETE", .erase),
        ]
        for (method, expected) in users {
            #expect(try Router.match(method: method, path: "/users/a%2Fb") == .user(expected, id: "a/b"))
        }
        #expect(throws: Problem(.methodNotAllowed, allow: "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")) {
            try Router.match(method: "POST", path: "/users/u")
        }
        #expect(
            try Router.match(method: "DELETE", path: "/users/%75/events/a%2Fevents")
                == .removeEvent(user: "u", eventID: "a/events"))
        #expect(throws: Problem(.methodNotAllowed, allow: "DELETE, OPTIONS")) {
            try Router.match(method: "GET", path: "/users/u/events/e")
        }
        for path in [
            "/users", "/users/", "/users//", "/users/u/", "/users/u/events", "/users/u/events/",
            "/users//events/e", "/users/u/event/e", "/users/u/events/e/", "/users/u/%65vents/e", "/events/",
        ] {
            #expect(throws: Problem(.notFound)) { try Router.match(method: "DELETE", path: path) }
        }
        #expect(try Router.methods(path: "/livez") == ["GET", "HEAD", "OPTIONS"])
        #expect(try Router.methods(path: "*").count == 7)
        #expect(throws: Problem(.notFound)) { try Router.methods(path: "/x") }
        for path in ["/users/%", "/users/%ff", "/users/u/events/%zz", "/users/" + long] {
            #expect(throws: Problem.self) { try Router.match(method: "DELETE", path: path) }
        }
        for path in ["/", "/recommend/", "/similar", "/similar/", "/similar/a/b", "/metricsx", "*"] {
            #expect(throws: Problem(.notFound)) { try Router.match(method: "GET", path: path) }
        }
        for path in ["/similar/%", "/similar/%zz", "/similar/%ff"] {
            #expect(throws: Problem.self) { try Router.match(method: "GET", path: path) }
        }
    }

    @Test func `a histogram counts each value once and keeps the sum`() {
        let histogram = Histogram(bounds: [1, 2, 5])
        for value in [0, 1, 1.5, 2, 4, 5, 6, 100] { histogram.record(value) }
        #expect(histogram.snapshot.cumulative == [2, 4, 6, 8])
        #expect(histogram.snapshot.sum == 119.5)
    }

    @Test func `the metrics text has one header a family and OpenMetrics ends with EOF`() {
        for isOpenMetrics in [false, true] {
            var writer = MetricsWriter(isOpenMetrics: isOpenMetrics)
            writer.counter("a", "Help.", [("x=\"1\"", 3), ("x=\"2\"", 4)])
            let histogram = Histogram(bounds: [0.5])
            histogram.record(0.25)
            writer.histogram("h_seconds", "Help.", [("", histogram)])
            writer.end()
            let family = isOpenMetrics ? "a" : "a_total"
            let expected = """
                # HELP \(family) Help.
                # TYPE \(family) counter
                a_total{x="1"} 3
                a_total{x="2"} 4
                # HELP h_seconds Help.
                # TYPE h_seconds histogram
                h_seconds_bucket{le="0.5"} 1
                h_seconds_bucket{le="+Inf"} 1
                h_seconds_sum 0.25
                h_seconds_count 1\n
                """
            #expect(writer.text == expected + (isOpenMetrics ? "# EOF\n" : ""))
        }
    }

    @Test func `ids never repeat and a client's own is kept only when it is plain`() {
        let source = IdentifierSource()
        let ids = (0..<10_000).map { _ in source.next() }
        #expect(Set(ids).count == ids.count)
        #expect(ids.allSatisfy { $0.utf8.count == 32 })
        #expect(source.requestID("abc-123") == "abc-123")
        for bad in ["", "a b", "a\r\nX: y", String(repeating: "a", count: 65), "é"] {
            #expect(source.requestID(bad) != bad)
        }
    }

    @Test func `times are written as RFC 3339`() {
        #expect(Timestamp.text(nanoseconds: 0) == "1970-01-01T00:00:00.000Z")
        #expect(Timestamp.text(nanoseconds: 951_782_400_123_456_789) == "2000-02-29T00:00:00.123Z")
        #expect(Timestamp.text(nanoseconds: 1_798_761_599_999_000_000) == "2026-12-31T23:59:59.999Z")
    }

    @Test func `a golden within tolerance passes, one outside names stage and line, a wrong shape fails`()
        throws
    {
        let line =
            #"{"request":{"candidates":[{"item_id":"a"}],"now":1},"stages":{"tower.score":[1,100],"sequence.vector":[[1,2],[3,4]]}}"#
        let golden = try #require(try Golden.read(Array((line + "\n").utf8)).first)
        func report(_ ours: [String: [Float]]) -> GoldenReport {
            var report = GoldenReport(tolerance: 1e-4)
            report.add(golden, ours: ours)
            return report
        }
        #expect(report(["tower.score": [1.00005, 100.001], "sequence.vector": [1, 2, 3, 4]]).isWithin)
        let off = report(["tower.score": [1, 100.1], "sequence.vector": [1, 2, 3, 4]])
        #expect(off.firstFailure?.name == "tower.score" && off.firstFailure?.worstLine == 1)
        #expect(!report(["tower.score": [1, 100], "sequence.vector": [1, 2, 3]]).isWithin)
        #expect(!report(["tower.score": [1, .nan], "sequence.vector": [1, 2, 3, 4]]).isWithin)
    }

    @Test func `goldens that are not requests with stages are refused`() {
        for text in [
            "{", "{}", #"{"request":{},"stages":{}}"#,
            #"{"request":{"candidates":[],"now":1},"stages":{"x":[1]}}"#,
            #"{"request":{"candidates":[],"now":1},"stages":{"value":["a"]}}"#,
        ] {
            #expect(throws: (any Error).self) { try Golden.read(Array(text.utf8)) }
        }
    }
}
