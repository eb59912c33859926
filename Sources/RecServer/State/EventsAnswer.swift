import JSON
import UserState

/// The answer to `POST /events`: what became of each event, in the order given.
struct EventsAnswer {
    /// What became of one event.
    private enum Result {
        case kept(status: String, eventID: String, sequence: Int64, user: String)
        case refused(Problem, line: Int?, eventID: String?)
    }

    private var results: [Result] = []
    private let commit: Int64
    private let epoch: UInt64
    private(set) var stored = 0
    private(set) var duplicates = 0
    private(set) var refused = 0

    /// - Parameters:
    ///   - outcomes: of those members that are events, in their order.
    ///   - epoch: the store's.
    init(_ members: [EventsRequest.Member], _ outcomes: [EventOutcome], commit: Int64, epoch: UInt64) {
        self.commit = commit
        self.epoch = epoch
        results.reserveCapacity(members.count)
        var rest = outcomes[...]
        for member in members {
            switch member {
            case .refused(let problem, let line, let eventID): refuse(problem, line, eventID)
            case .event(let user, let event):
                switch rest.popFirst() {
                case .stored(let sequence):
                    stored += 1
                    keep("stored", user, event, sequence)
                case .duplicate(let sequence):
                    duplicates += 1
                    keep("duplicate", user, event, sequence)
                case .refused(.noConsent): refuse(Problem(.noConsent), nil, event.eventID)
                case .refused(.tooOld): refuse(Problem(.tooOld), nil, event.eventID)
                case nil: refuse(Problem(.internalError), nil, event.eventID)
                }
            }
        }
    }

    private mutating func keep(_ status: String, _ user: String, _ event: StoredEvent, _ sequence: Int64) {
        results.append(.kept(status: status, eventID: event.eventID, sequence: sequence, user: user))
    }

    private mutating func refuse(_ problem: Problem, _ line: Int?, _ eventID: String?) {
        refused += 1
        results.append(.refused(problem, line: line, eventID: eventID))
    }

    /// Why the only event was refused; nil when it was not.
    var onlyProblem: Problem? {
        if results.count == 1, case .refused(let problem, _, _) = results[0] { problem } else { nil }
    }

    func encoded(requestID: String) -> [UInt8] {
        var writer = JSONWriter(capacity: 160 + 144 * results.count)
        writer.beginObject()
        writer.key("request_id")
        writer.value(requestID)
        for (name, count) in [("stored", stored), ("duplicates", duplicates), ("refused", refused)] {
            writer.key(name)
            writer.value(count)
        }
        writer.key("token")
        writer.value(SequenceToken(epoch: epoch, place: .commit(commit)).text)
        writer.key("results")
        writer.beginArray()
        for result in results { write(result, to: &writer) }
        writer.endArray()
        writer.endObject()
        return writer.bytes
    }

    private func write(_ result: Result, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("status")
        switch result {
        case .kept(let status, let eventID, let sequence, let user):
            writer.value(status)
            writer.key("event_id")
            writer.value(eventID)
            writer.key("sequence")
            writer.value(SequenceToken(epoch: epoch, user: user, sequence: sequence).text)
        case .refused(let problem, let line, let eventID):
            writer.value("refused")
            if let eventID {
                writer.key("event_id")
                writer.value(eventID)
            }
            writer.key("problem")
            problem.write(to: &writer, line: line)
        }
        writer.endObject()
    }
}
