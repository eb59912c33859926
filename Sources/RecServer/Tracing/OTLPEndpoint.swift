import Threading

/// Where spans go: a collector that speaks OTLP over plain HTTP.
struct OTLPEndpoint: Sendable, Equatable {
    let host: String
    let port: UInt16
    let path: String

    /// Reads `http://HOST[:PORT][/PATH]`: port 4318 and `/v1/traces` by default; nil for anything else.
    init?(_ text: String) {
        guard text.hasPrefix("http://"), text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        let rest = text.dropFirst("http://".count)
        let authority = rest.prefix { $0 != "/" }
        let path = rest.dropFirst(authority.count)
        self.path = path.isEmpty || path == "/" ? "/v1/traces" : String(path)
        var port = Substring("4318")
        if authority.hasPrefix("["), let end = authority.firstIndex(of: "]") {
            host = String(authority[authority.index(after: authority.startIndex)..<end])
            let after = authority[authority.index(after: end)...]
            guard after.isEmpty || after.first == ":" else { return nil }
            if !after.isEmpty { port = after.dropFirst() }
        } else if let colon = authority.firstIndex(of: ":") {
            host = String(authority[..<colon])
            port = authority[authority.index(after: colon)...]
        } else {
            host = String(authority)
        }
        guard !host.isEmpty, !host.contains("@"), let number = UInt16(port), number > 0 else { return nil }
        self.port = number
    }

    /// What a POST of a body of `count` bytes begins with.
    func head(count: Int) -> [UInt8] {
        let name = host.contains(":") ? "[\(host)]" : host
        return Array(
            ("POST \(path) HTTP/1.1\r\nHost: \(name):\(port)\r\nContent-Type: application/json\r\n"
                + "Content-Length: \(count)\r\nConnection: close\r\n\r\n").utf8)
    }
}

/// Posts batches of spans, one connection each.
struct OTLPSink: LogSink {
    let endpoint: OTLPEndpoint
    let resource: [UInt8]

    /// For connecting, and for each read and write.
    private static let limit = Duration.seconds(3)
    private static let headBytes = 8192

    func open() {}
    func close() {}

    func write(_ records: inout [UInt8]) throws(LogSinkFailure) {
        let head: String
        do throws(ThreadingError) {
            let connection = try StreamConnection(
                host: endpoint.host, port: endpoint.port, within: Self.limit)
            // Every span ends with a comma.
            let body = resource + records.dropLast() + OTLPSpan.end
            try connection.send(endpoint.head(count: body.count) + body)
            head = try Self.head(connection)
        } catch {
            throw LogSinkFailure(description: "\(endpoint.host):\(endpoint.port): \(error)")
        }
        let status = head.split(separator: " ", maxSplits: 2).dropFirst().first.flatMap { Int($0) } ?? 0
        guard !(200..<300).contains(status) else { return records.removeAll() }
        throw LogSinkFailure(
            description: "\(endpoint.host):\(endpoint.port) answered \(status)",
            // OTLP/HTTP: these and no others may be tried again.
            isPassing: [0, 429, 502, 503, 504].contains(status), retryAfter: Self.retryAfter(head))
    }

    /// The head of the answer.
    private static func head(_ connection: borrowing StreamConnection) throws(ThreadingError) -> String {
        var bytes: [UInt8] = []
        while bytes.count < headBytes {
            let more = try connection.receive(maximum: headBytes - bytes.count)
            bytes += more
            let text = String(decoding: bytes, as: UTF8.self)
            if more.isEmpty || text.contains("\r\n\r\n") { return text }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Seconds, as far as they make sense.
    private static func retryAfter(_ head: String) -> UInt64? {
        for line in head.split(separator: "\r\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "retry-after" else { continue }
            return UInt64(parts[1].drop { $0 == " " }).map { min($0, 300) }
        }
        return nil
    }
}
