internal import ArgumentParser
internal import Kernels
internal import Ranking
internal import RecCore

/// What finding a history in the cache costs, by the number of users that it holds.
struct CacheCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache",
        abstract: "Processor time of a hit in the history cache, for growing numbers of users.")

    @Option(help: "Numbers of users, each a measurement.") var users = [1000, 10_000, 100_000]
    @Option(help: "Events of each history.") var events = 256
    @Option(help: "Lookups of each measurement.") var lookups = 20_000
    @Option(help: "Measurements of each kind; the least processor time is printed.") var rounds = 7

    func validate() throws {
        guard events > 0, lookups > 0, rounds > 0, users.allSatisfy({ $0 > 0 }) else {
            throw ValidationError("Every number must be at least 1.")
        }
    }

    func run() throws {
        // The least model: a lookup compares events and hands out blocks, whatever is in them.
        let arguments = ["--events", "\(events)", "--layers", "1", "--heads", "1", "--dimension", "8"]
        let model = try SequenceCommand.parse(arguments).makeModel()
        let caches = users.map { fill(model, users: $0) }
        var least = [Double](repeating: .infinity, count: users.count)
        // In turn, so that a disturbance does not hit one number of users alone.
        for round in 0..<rounds {
            for (index, count) in users.enumerated() {
                let time = try leastTime(1) { try look(caches[index], model, users: count, round: round) }
                least[index] = min(least[index], time / Double(lookups))
            }
        }
        for (index, count) in users.enumerated() {
            let ratio = (least[index] / least[0] * 1000).rounded() / 1000
            print("\(count) users of \(events) events: \(Int(least[index])) ns a hit, \(ratio) of the first")
        }
    }

    /// Everybody's history: what differs is where the cache has it.
    private func window(_ model: SequenceModel) -> HistoryWindow {
        var window = model.makeWindow()
        window.fill(history: (0..<events).map { HistoryEvent(row: $0 % SequenceCommand.items, time: 0) })
        return window
    }

    private func fill(_ model: SequenceModel, users: Int) -> HistoryCache {
        let cache = HistoryCache(model, layout: model.layout, limit: 1 << 36)
        let window = window(model)
        for user in 0..<users {
            var lease = cache.lease(user: "user-\(user)", window: window, now: 0, deadline: .max)
            let blocks = (0..<KeyValueBlock.count(events: events)).compactMap { _ in cache.takeBlock() }
            lease.store(blocks: blocks, lastRow: nil)
        }
        return cache
    }

    private func look(_ cache: HistoryCache, _ model: SequenceModel, users: Int, round: Int) throws {
        let window = window(model)
        // A stride that shares no factor with the usual numbers of users comes by everybody.
        var user = round
        for _ in 0..<lookups {
            user = (user &+ 7919) % users
            let lease = cache.lease(user: "user-\(user)", window: window, now: 0, deadline: .max)
            guard lease.match.outcome == .hit else { throw ValidationError("a history was not found") }
        }
    }
}
