#if canImport(UserState)
    @testable import UserState
#endif

/// What holds for every line that is read as a record; shared by the tests and the fuzzer.
enum EventRecordProperty {
    /// What `bytes` break, nil when all holds.
    static func violation(_ bytes: [UInt8]) -> String? {
        guard let record = try? StateRecord(line: bytes) else { return nil }
        var written = record.line
        guard written.popLast() == 0x0A else { return "a record ends without a line end" }
        if written.contains(0x0A) { return "a record is more than one line" }
        guard let again = try? StateRecord(line: written) else { return "a written record is refused" }
        if again != record { return "a record changes when it is written" }
        if again.line.dropLast() != written[...] { return "the same record is written in two ways" }
        return nil
    }
}
