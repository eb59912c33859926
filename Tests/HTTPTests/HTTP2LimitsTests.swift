import Synchronization
import Testing

@testable import HTTP

/// What a peer may ask for: sizes, streams, windows, patience and time.
struct HTTP2LimitsTests {
    private func post(_ stream: UInt32, _ path: String = "/", length: Int? = nil) -> [UInt8] {
        let more = length.map { [("content-length", "\($0)")] } ?? []
        return HTTP2Wire.headers(stream, HTTP2Wire.fields(path, method: "POST", more), ends: false)
    }

    private func count(_ pair: HTTP2Pair, _ reason: HTTP2Ending) -> Int {
        pair.counters.endings.count(reason)
    }

    @Test func `header bytes and counts are held to the byte, and 431 does not end the connection`() {
        for (size, isGood) in [(99, true), (100, true), (101, false)] {
            // "host: a" and "x: …" with 32 bytes each.
            let pair = HTTP2Pair { $0.headerBytesMax = 4 + 1 + 32 + 1 + 100 + 32 }
            pair.send(HTTP2Wire.get(1, "/", [("x", String(repeating: "y", count: size))]))
            #expect(pair.requests.count == (isGood ? 1 : 0))
            #expect(pair.refusals == (isGood ? [] : [.headersTooLarge]))
            pair.answer()
            #expect(pair.reader.status(1) == (isGood ? 200 : 431))
            pair.send(HTTP2Wire.get(3))
            #expect(pair.requests.count == 1)
        }
        for (fields, isGood) in [(8, true), (9, true), (10, false)] {
            let pair = HTTP2Pair { $0.headerCountMax = 10 }
            pair.send(HTTP2Wire.get(1, "/", (0..<fields).map { ("x\($0)", "") }))
            #expect(pair.refusals.isEmpty == isGood)
        }
    }

    @Test func `bodies are held to the limit of their path, whether or not they say their length`() {
        for (size, isGood) in [(1_999, true), (2_000, true), (2_001, false)] {
            for says in [true, false] {
                let pair = HTTP2Pair {
                    $0.bodyBytesMax = 10
                    $0.bodyBytesMaxByPath = ["/big": 2_000]
                }
                pair.send(post(1, "/big?x", length: says ? size : nil))
                pair.send(HTTP2Wire.data(1, [UInt8](repeating: 1, count: size), ends: true))
                #expect(pair.requests.map(\.body.count) == (isGood ? [size] : []))
                #expect(pair.refusals == (isGood ? [] : [.bodyTooLarge]))
                #expect(pair.session.bufferedByteCount == 0)
            }
        }
    }

    @Test func `who sends too much gets 413 and time to read it, then the stream is closed without an error`()
    {
        let pair = HTTP2Pair()
        pair.send(post(1, length: 99_999_999))
        pair.answer()
        #expect(pair.reader.status(1) == 413)
        #expect(pair.reader.hasEnded(1))
        pair.send(HTTP2Wire.data(1, [UInt8](repeating: 0, count: 10_000)))
        #expect(pair.reader.windowUpdates(1) == 0)
        #expect(pair.reader.reset(1) == nil)
        pair.session.now += 3_000_000_000
        #expect(pair.session.expire(HTTPTimes(pair.session.limits)) == 0)
        pair.flush()
        #expect(pair.reader.reset(1) == 0)
        #expect(pair.session.isIdle)
        #expect(pair.counters.streamsReset.load(ordering: .relaxed) == 0)
    }

    @Test func `a stream too many is refused until an answer has truly come back`() {
        let pair = HTTP2Pair { $0.http2StreamsMax = 3 }
        // Acknowledged, so that the limit is known to the client, and kept by it.
        pair.send(HTTP2Wire.frame(4, 1))
        for stream: UInt32 in [1, 3, 5] { pair.send(HTTP2Wire.get(stream)) }
        let presences = pair.presences
        pair.send(HTTP2Wire.reset(1))
        #expect(presences.map(\.isGone) == [true, false, false])
        pair.send(HTTP2Wire.get(7))
        #expect(pair.reader.reset(7) == 7)
        #expect(pair.counters.streamsRefused.load(ordering: .relaxed) == 1)
        pair.answer()
        #expect(pair.reader.status(1) == nil)
        pair.send(HTTP2Wire.get(9))
        #expect(pair.requests.count == 3)
        #expect(pair.reader.goAway == nil)
    }

    @Test func `cancelled before it was handed out, nothing is worked on`() {
        let pair = HTTP2Pair()
        pair.session.receive((HTTP2Wire.get(1) + HTTP2Wire.reset(1)).span)
        for case .request(let sequence, _, _) in pair.session.arrivals {
            #expect(!pair.session.begins(sequence))
        }
        #expect(pair.session.streamCount == 0)
    }

    // MARK: - Flow control

    @Test func `an answer waits for the peer's windows, and is made in small pieces`() {
        let pair = HTTP2Pair()
        let body = (0..<300_000).map { UInt8($0 % 251) }
        pair.send(HTTP2Wire.get(1), HTTP2Wire.get(3))
        pair.answer(HTTPResponse(status: 200, body: body))
        #expect(pair.reader.body(1).count == 65_535)
        #expect(!pair.session.wantsToSend)
        pair.answer()
        #expect(pair.reader.status(3) == 200)
        pair.send(HTTP2Wire.window(1, 1_000_000))
        #expect(pair.reader.body(1).count == 65_535)
        pair.session.receive(HTTP2Wire.window(0, 1_000_000).span)
        var output: [UInt8] = []
        pair.session.send(into: &output, limit: 10_000)
        #expect(output.count >= 10_000 && output.count < 27_000)
        pair.reader.take(output)
        pair.flush()
        #expect(pair.reader.body(1) == body)
        #expect(pair.reader.hasEnded(1))
    }

    @Test func `windows open as bodies are taken, and only for the oldest when bodies take too much room`() {
        let pair = HTTP2Pair { $0.http2BodyBytesMax = 50_000 }
        #expect(pair.reader.windowUpdates(0) == 1_048_576 - 65_535)
        let half = [UInt8](repeating: 1, count: 40_000)
        for stream: UInt32 in [1, 3] {
            pair.send(post(stream))
            for piece in 0..<4 {
                pair.send(HTTP2Wire.data(stream, Array(half[piece * 10_000..<(piece + 1) * 10_000])))
            }
        }
        #expect(pair.reader.windowUpdates(1) >= 30_000)
        #expect(pair.reader.windowUpdates(3) == 0)
        pair.send(HTTP2Wire.data(1, [], ends: true))
        #expect(pair.reader.windowUpdates(3) == 40_000)
        #expect(pair.session.bufferedByteCount == 40_000)
        pair.send(HTTP2Wire.reset(3))
        #expect(pair.session.bufferedByteCount == 0)
    }

    @Test func `more than the window is an error`() {
        let pair = HTTP2Pair { $0.http2BodyBytesMax = 0 }
        pair.send(post(1), post(3))
        for _ in 0..<5 { pair.send(HTTP2Wire.data(3, [UInt8](repeating: 1, count: 16_000))) }
        #expect(pair.reader.reset(3) == 3 || pair.reader.goAway?.code == 3)
    }

    // MARK: - Floods

    static let floods: [(name: String, reason: HTTP2Ending, frames: [[UInt8]])] = {
        func many(_ count: Int, _ make: (UInt32) -> [UInt8]) -> [[UInt8]] { (0..<UInt32(count)).map(make) }
        let open = HTTP2Wire.headers(1, HTTP2Wire.fields("/", method: "POST"), ends: false)
        return [
            ("PING", .frames, many(1_100) { _ in HTTP2Wire.ping() }),
            ("SETTINGS", .frames, many(1_100) { HTTP2Wire.setting(4, 65_535 + $0) }),
            ("SETTINGS of nothing", .frames, many(1_100) { _ in HTTP2Wire.frame(4) }),
            ("PRIORITY", .frames, many(1_100) { HTTP2Wire.frame(2, 0, 1 + 2 * $0, [0, 0, 0, 0, 1]) }),
            ("WINDOW_UPDATE", .frames, many(1_100) { _ in HTTP2Wire.window(0, 1) }),
            ("unknown frames", .frames, many(1_100) { HTTP2Wire.frame(0x42, 0xFF, $0, [0]) }),
            ("empty DATA", .frames, [open] + many(1_100) { _ in HTTP2Wire.data(1, []) }),
            (
                "padding", .frames,
                [open]
                    + many(1_100) { _ in HTTP2Wire.frame(0, 8, 1, [200] + [UInt8](repeating: 0, count: 200)) }
            ),
            (
                "RST_STREAM of closed streams", .frames,
                [HTTP2Wire.get(1), HTTP2Wire.reset(1)] + many(1_100) { _ in HTTP2Wire.reset(1) }
            ),
            ("rapid reset", .resets, many(400) { HTTP2Wire.get(1 + 2 * $0) + HTTP2Wire.reset(1 + 2 * $0) }),
            (
                "made to reset", .resets,
                many(400) { HTTP2Wire.get(1 + 2 * $0) + HTTP2Wire.window(1 + 2 * $0, 0x7FFF_FFFF) }
            ),
            (
                "empty CONTINUATION", .frames,
                [HTTP2Wire.frame(1, 0, 1, HTTP2Wire.block(HTTP2Wire.fields("/")))]
                    + many(1_100) { _ in HTTP2Wire.frame(9, 0, 1) }
            ),
            (
                "CONTINUATION", .frames,
                [HTTP2Wire.frame(1, 0, 1)]
                    + many(1_100) { _ in HTTP2Wire.frame(9, 0, 1, HTTP2Wire.block([("x", "y")])) }
            ),
            ("header blocks on closed streams", .frames, many(1_100) { _ in HTTP2Wire.get(1) }),
        ]
    }()

    @Test(arguments: 0..<floods.count)
    func `who only makes work is told to calm down, soon`(index: Int) {
        let (name, reason, frames) = Self.floods[index]
        let pair = HTTP2Pair()
        var taken = 0
        for frame in frames {
            pair.send(frame)
            // Requests that arrive are answered, unless they were cancelled.
            while !pair.arrivals.isEmpty { pair.answer() }
            if pair.session.isDeaf { break }
            taken += 1
        }
        #expect(pair.session.isFinished, "\(name) after \(taken)")
        #expect(pair.reader.goAway?.code == 0xB, "\(name)")
        #expect(count(pair, reason) == 1, "\(name)")
        pair.send(HTTP2Wire.get(2_001))
        #expect(pair.requests.isEmpty)
    }

    @Test func `who gets on is not bothered, however many frames it sends in between`() {
        let pair = HTTP2Pair()
        for number: UInt32 in 0..<1_000 {
            let stream = 1 + 2 * number
            pair.send(
                HTTP2Wire.ping(), HTTP2Wire.frame(2, 0, stream, [0, 0, 0, 0, 1]), HTTP2Wire.window(0, 100),
                post(stream),
                HTTP2Wire.data(stream, [1]), HTTP2Wire.data(stream, [], ends: true),
                HTTP2Wire.window(stream, 1))
            pair.answer(HTTPResponse(status: 200, body: [1, 2, 3]))
            if number % 3 == 0 { pair.send(HTTP2Wire.reset(stream)) }
        }
        #expect(pair.reader.goAway == nil)
        #expect(pair.session.requestCount == 1_000)
    }

    @Test func `a header block that unpacks to very much more than it is ends the connection`() {
        let pair = HTTP2Pair()
        // One entry of 4,000 bytes in the table, then one byte for each time it is named.
        let entry =
            HTTP2Wire.block(HTTP2Wire.fields("/")) + [0x40, 1, 0x78, 0x7F, 0xA1, 0x1E]
            + [UInt8](repeating: 0x79, count: 4_000)
        pair.send(HTTP2Wire.frame(1, 5, 1, entry))
        #expect(pair.requests.count == 1)
        pair.answer()
        let bomb = HTTP2Wire.block(HTTP2Wire.fields("/")) + [UInt8](repeating: 0xBE, count: 12_000)
        pair.send(HTTP2Wire.frame(1, 5, 3, bomb))
        #expect(pair.reader.goAway?.code == 0xB)
        #expect(count(pair, .headers) == 1)
    }

    // MARK: - Times and ends

    private func passes(_ pair: HTTP2Pair, _ seconds: UInt64) -> Int {
        pair.session.now += seconds * 1_000_000_000
        let cut = pair.session.expire(HTTPTimes(pair.session.limits))
        pair.arrivals += pair.session.arrivals
        pair.session.arrivals = []
        pair.flush()
        return cut
    }

    @Test func `a late body is refused, a late reader is cut, a late header block ends the connection`() {
        let pair = HTTP2Pair()
        pair.send(HTTP2Wire.setting(4, 1_000), post(1), HTTP2Wire.data(1, [1]), HTTP2Wire.get(3))
        pair.answer(HTTPResponse(status: 200, body: [UInt8](repeating: 0, count: 100_000)))
        #expect(pair.session.nextDeadline(HTTPTimes(pair.session.limits)) < 6_000_000_000)
        #expect(passes(pair, 6) == 0)
        #expect(pair.refusals == [.requestTimeout])
        pair.answer()
        #expect(pair.reader.status(1) == 408)
        #expect(passes(pair, 25) == 1)
        #expect(pair.reader.reset(3) == 8)
        #expect(pair.reader.reset(1) == 0)
        #expect(pair.session.isIdle)
        pair.send(HTTP2Wire.frame(1, 0, 5, [0x82]))
        #expect(passes(pair, 9) == 0)
        #expect(!pair.session.isFinished)
        #expect(passes(pair, 2) == 0)
        #expect(pair.session.isFinished)
        #expect(count(pair, .timeout) == 1)
    }

    @Test func `a header block whose last frame never becomes whole ends the connection in its time`() {
        let pair = HTTP2Pair()
        pair.send(Array(HTTP2Wire.frame(1, 5, 1, [UInt8](repeating: 0, count: 100)).prefix(9)))
        #expect(passes(pair, 9) == 0)
        #expect(!pair.session.isFinished)
        #expect(passes(pair, 2) == 0)
        #expect(pair.session.isFinished)
        #expect(count(pair, .timeout) == 1)
    }

    @Test func `a graceful end serves what was sent before it was known`() {
        let pair = HTTP2Pair()
        pair.send(HTTP2Wire.get(1))
        pair.session.beginEnd()
        pair.flush()
        #expect(pair.reader.goAway?.stream == 0x7FFF_FFFF)
        pair.send(HTTP2Wire.get(3))
        let ping = pair.reader.frames.last { $0.type == 6 }
        pair.send(HTTP2Wire.ping(ping?.payload ?? [], acknowledges: true))
        #expect(pair.reader.goAway?.stream == 3)
        #expect(pair.reader.goAway?.code == 0)
        pair.send(HTTP2Wire.get(5))
        #expect(pair.requests.count == 2)
        pair.answer()
        #expect(!pair.session.isFinished)
        pair.answer()
        #expect([1, 3, 5].map { pair.reader.status($0) } == [200, 200, nil])
        #expect(pair.session.isFinished)
    }

    @Test func `a peer that does not answer the notice is not waited for`() {
        let pair = HTTP2Pair { $0.requestsPerConnectionMax = 2 }
        pair.send(HTTP2Wire.get(1), HTTP2Wire.get(3))
        #expect(pair.reader.goAway?.stream == 0x7FFF_FFFF)
        _ = passes(pair, 2)
        #expect(pair.reader.goAway?.stream == 3)
        pair.answer()
        pair.answer()
        #expect(pair.session.isFinished)
    }

    @Test func `a connection that is cut leaves nobody to work for`() {
        let pair = HTTP2Pair()
        pair.send(HTTP2Wire.get(1), HTTP2Wire.get(3), post(5))
        pair.session.leave()
        #expect(pair.presences.allSatisfy { $0.isGone })
        #expect(pair.session.streamCount == 0)
        pair.answer()
        #expect(pair.reader.status(1) == nil)
    }
}
