import RecCore
import TestSupport
import Testing
import Threading

@testable import UserState

@Suite struct UserStatesTwinTests {
    private let ids = ["a", "b", "c", "d", "\u{e9}", "e\u{301}", "seeded", "seeded too"]
    private let seeds: [String: UserSeed] = [
        "seeded": UserSeed(events: (0..<5).map { event("s\($0)", 999_000 + Double($0)) }, offset: 7),
        "seeded too": UserSeed(events: (0..<40).map { event("s\($0)", 0) }),
    ]

    @Test(arguments: [(1, nil), (2, 900), (3, 60)] as [(UInt64, Double?)])
    func `random changes leave what plain arrays have, in memory, in the file and after a restart`(
        seed: UInt64, retention: Double?
    ) throws {
        let (folder, time) = (TemporaryFolder(), TestTime())
        var random = SeededRandom(seed)
        var limits = UserStateLimits()
        limits.historyMaximum = 16
        limits.lateness = 120
        limits.retention = retention
        limits.eventIDs = 300
        var twin = StateTwin(limits: limits)
        twin.seeds = seeds
        var sequences: [ExactString: Int64] = [:]
        for _ in 0..<6 {
            let store = try SQLiteStore(directory: folder.path, limits: limits, clock: time.clock)
            let users = try UserStates(
                store: store, cacheBytes: random.next() % 2 == 0 ? 0 : 1 << 20, seed: { seeds[$0] })
            for step in 0..<150 {
                try change(users, &twin, &random, time, &sequences)
                if step % 10 == 0 { try compare(users, store, twin, time, sequences) }
            }
            try compare(users, store, twin, time, sequences)
            users.stop()
        }
    }

    private func change(
        _ users: UserStates, _ twin: inout StateTwin, _ random: inout SeededRandom, _ time: TestTime,
        _ sequences: inout [ExactString: Int64]
    ) throws {
        func id() -> String { ids.randomElement(using: &random) ?? "" }
        if Int.random(in: 0..<4, using: &random) == 0 { time.pass(Double(random.next() % 320) / 8) }
        let now = time.now
        switch Int.random(in: 0..<20, using: &random) {
        case 0:
            let user = id()
            let outcome = try users.make(.erase(user: user))
            #expect(outcome.isFound == twin.erase(user))
            sequences[ExactString(user)] = outcome.commit
        case 1, 2:
            let user = id()
            let features: FeatureValues? =
                random.next() % 2 == 0
                ? nil : ["n": .number(Double(random.next() % 9)), "s": .strings(["x"])]
            let consent = [nil, true, true, false].randomElement(using: &random) ?? nil
            let outcome = try users.make(
                .update(user: user, features: features.map { .replace($0) }, hasConsent: consent))
            twin.update(user, features, consent, now: now)
            twin.commit()
            sequences[ExactString(user)] = outcome.user?.sequence
        case 3, 4:
            let user = id()
            let eventID = String(random.next() % 40)
            let isFound = try users.make(.removeEvent(user: user, eventID: eventID)).isFound
            #expect(isFound == twin.remove(eventID, of: user, now: now))
            if isFound { sequences[ExactString(user)] = users.commit }
        default:
            let events = (0..<Int.random(in: 1..<9, using: &random)).map { _ in
                let age = Double(Int.random(in: 0..<150, using: &random))
                return (id(), event(String(random.next() % 60), now - age, item: "i\(random.next() % 9)"))
            }
            let outcomes = try users.make(.append(events)).events
            #expect(outcomes.count == events.count)
            for ((user, event), outcome) in zip(events, outcomes) {
                let expected = twin.append(event, to: user, now: now)
                switch outcome {
                case .stored(let sequence):
                    #expect(expected == .stored)
                    #expect(sequence > sequences[ExactString(user)] ?? 0)
                    sequences[ExactString(user)] = sequence
                case .duplicate(let sequence):
                    #expect(expected == .duplicate)
                    #expect(sequence == sequences[ExactString(user)])
                case .refused(let reason): #expect(expected == .refused(reason))
                }
            }
            twin.commit()
        }
    }

    private func compare(
        _ users: UserStates, _ store: SQLiteStore, _ twin: StateTwin, _ time: TestTime,
        _ sequences: [ExactString: Int64]
    ) throws {
        for id in ids {
            var expected = twin.user(id, now: time.now)
            let found = try users.user(id)
            #expect(found == (try store.user(id)).map(store.current))
            if let sequence = sequences[ExactString(id)] { expected?.sequence = sequence }
            #expect(found == expected)
        }
    }
}
