import RecCore
import TestSupport
import Testing

@testable import UserState

@Suite struct StateRecordTests {
    @Test func `every seed and every failure of the past holds the property`() throws {
        let inputs = try FuzzInputs.all(of: "EventRecord")
        #expect(inputs.count >= 4)
        for (name, bytes) in inputs {
            #expect(EventRecordProperty.violation(bytes) == nil, "\(name)")
            // A seed that is refused would leave the fuzzer at the door.
            if name.hasPrefix("Corpus/") {
                #expect(throws: Never.self, "\(name)") { try StateRecord(line: bytes) }
            }
        }
    }

    @Test func `what is written reads as what it was`() throws {
        var event = StoredEvent(itemID: "\"é\\", time: -1.25, eventID: "e\u{301}\u{0}")
        for record in [
            StateRecord.user(.init(id: "u")),
            .user(
                .init(
                    id: "ü",
                    features: [
                        "b": .strings([]), "a": .number(1e300), "c": .string(""), "d": .boolean(false),
                    ],
                    hasConsent: false, total: 7, isErased: true)),
            .event(user: "u", event),
        ] {
            let line = record.line
            #expect(try StateRecord(line: Array(line.dropLast())) == record)
            #expect(EventRecordProperty.violation(Array(line.dropLast())) == nil)
        }
        event.action = "view"
        event.value = -0.5
        event.recommendationID = "r"
        event.position = 3
        let text = String(decoding: StateRecord.event(user: "u", event).line, as: UTF8.self)
        #expect(
            text == #"{"type":"event","user_id":"u","item_id":"\"é\\","action":"view","timestamp":-1.25,"#
                + "\"event_id\":\"e\u{301}\\u0000\"" + #","value":-0.5,"recommendation_id":"r","position":3}"#
                + "\n")
    }

    @Test(arguments: [
        "", "{", "null", #"{"type":"user"}"#, #"{"type":"users","user_id":"u"}"#,
        #"{"type":"user","user_id":""}"#, #"{"type":"user","user_id":"u","total":-1}"#,
        #"{"type":"user","user_id":"u","features":{"a":null}}"#,
        #"{"type":"event","user_id":"u","item_id":"i","event_id":"e"}"#,
        #"{"type":"event","user_id":"u","item_id":"i","event_id":"e","timestamp":1e12}"#,
        #"{"type":"event","user_id":"u","item_id":"i","event_id":"e","timestamp":1,"total":1}"#,
    ])
    func `what is no record is refused without its values`(line: String) {
        #expect(throws: StateRecord.Malformed.self) { try StateRecord(line: Array(line.utf8)) }
    }
}
