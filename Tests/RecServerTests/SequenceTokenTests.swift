import Foundation
import TestSupport
import Testing
import Threading
import UserState

@testable import RecServer

@Suite struct SequenceTokenTests {
    @Test func `a token reads back as what was written`() {
        for number in [0, 1, -1, 255, 256, Int64.max, .min] {
            for epoch in [0, 1, UInt64.max, 0x0123_4567_89AB_CDEF] {
                for token in [
                    SequenceToken(epoch: epoch, place: .commit(number)),
                    SequenceToken(epoch: epoch, user: "é/ü", sequence: number),
                ] {
                    #expect(SequenceToken(token.text) == token)
                    #expect(token.text.utf8.count <= RecommendRequest.Limits.tokenBytes.upperBound)
                }
            }
        }
    }

    @Test func `anything else is no token`() {
        let text = SequenceToken(epoch: 0x0102_0304, user: "u", sequence: 5).text
        for wrong in [
            "", "A", text + "A", text + "=", String(text.dropLast()), text + " ", "AA", "é",
            String(repeating: "A", count: 23), "B" + text.dropFirst(),
            String(repeating: "_", count: 34), String(repeating: "A", count: 1000),
            text.replacing("A", with: "+"), text.replacing("A", with: "/"),
        ] {
            #expect(SequenceToken(wrong) == nil, "\(wrong)")
        }
        // The last digit of 25 or 17 bytes has bits that belong to none.
        for token in [text, SequenceToken(epoch: 1, place: .commit(4)).text] {
            #expect(SequenceToken(String(token.dropLast()) + "_") == nil)
        }
    }

    @Test func `a sequence is of its user and a commit of all`() {
        let token = SequenceToken(epoch: 1, user: "u", sequence: 5)
        #expect(token.isOf(user: "u") && !token.isOf(user: "v") && !token.isOf(user: nil))
        let commit = SequenceToken(epoch: 1, place: .commit(5))
        #expect(commit.isOf(user: "u") && commit.isOf(user: nil))
    }

    @Test func `bytes of any length read back from their text and no two texts are the same bytes`() {
        var random = SeededRandom(3)
        for count in 0..<70 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            let text = Base64URL.encode(bytes)
            #expect(Base64URL.decode(text) == bytes)
        }
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        var seen: Set<[UInt8]> = []
        for a in digits {
            for b in digits {
                guard let bytes = Base64URL.decode(String([a, b])) else { continue }
                #expect(seen.insert(bytes).inserted)
            }
        }
        #expect(seen.count == 256)
    }
}

@Suite struct SequenceTokenFuzzCasesTests {
    @Test func `every seed, every failure of the past and what is near them holds the property`() throws {
        let inputs = try FuzzInputs.all(of: "Token")
        #expect(inputs.count >= 3)
        var random = SeededRandom(11)
        for (name, bytes) in inputs {
            #expect(SequenceTokenProperty.violation(bytes) == nil, "\(name)")
            #expect(SequenceToken(String(decoding: bytes, as: UTF8.self)) != nil, "\(name)")
            for _ in 0..<2000 {
                let changed = bytes.mutated(using: &random)
                #expect(SequenceTokenProperty.violation(changed) == nil, "\(changed)")
            }
        }
    }
}

@Suite final class SequenceWaitsTests {
    let folder = FileManager.default.temporaryDirectory.path + "/sequence-waits-" + UUID().uuidString
    let states: UserStates

    init() throws { states = try UserStates(directory: folder) }

    deinit {
        states.stop()
        try? FileManager.default.removeItem(atPath: folder)
    }

    func kind(_ body: () throws(Problem) -> Void) -> Problem.Kind? {
        do throws(Problem) {
            try body()
            return nil
        } catch {
            return error.kind
        }
    }

    /// Keeps an event of a user.
    /// - Returns: the user's sequence since then.
    func store(_ user: String) -> Int64 {
        let latch = Latch(count: 1)
        let sequence = Lock<Int64>(0)
        let event = StoredEvent(itemID: "i", time: 0, eventID: "e")
        _ = states.submit(.append([(user, event)])) { result in
            if case .success(let outcome) = result, case .stored(let stored) = outcome.events.first {
                sequence.withLock { $0 = stored }
            }
            latch.countDown()
        }
        #expect(latch.wait(within: .seconds(60)))
        return sequence.withLock { $0 }
    }

    @Test func `what was stored is reached, on one thread too`() {
        let sequence = store("u")
        let waits = SequenceWaits(threads: 1)
        let reached = SequenceToken(epoch: states.epoch, user: "u", sequence: sequence)
        #expect(
            kind { () throws(Problem) in try waits.wait(for: reached, user: "u", in: states, until: 0) }
                == nil)
        let commit = SequenceToken(epoch: states.epoch, place: .commit(states.commit))
        #expect(
            kind { () throws(Problem) in try waits.wait(for: commit, user: nil, in: states, until: 0) } == nil
        )
    }

    @Test func `what is not reached, another store's, or asked where nothing is kept, is a 412`() {
        let sequence = store("u")
        let waits = SequenceWaits(threads: 2)
        let later = SequenceToken(epoch: states.epoch, user: "u", sequence: sequence + 1)
        let other = SequenceToken(epoch: states.epoch &+ 1, user: "u", sequence: 0)
        for (token, states) in [(later, states), (other, states), (later, nil)] {
            #expect(
                kind { () throws(Problem) in try waits.wait(for: token, user: "u", in: states, until: 0) }
                    == .sequenceNotReached)
        }
        #expect(
            kind { () throws(Problem) in try waits.wait(for: later, user: "v", in: states, until: 0) }
                == .outOfRange)
        #expect(
            kind { () throws(Problem) in try waits.wait(for: later, user: nil, in: states, until: 0) }
                == .outOfRange)
    }

    @Test func `one thread less than there are may wait`() {
        #expect(SequenceWaits(threads: 1).maximum == 0)
        #expect(SequenceWaits(threads: 8).maximum == 7)
    }
}
