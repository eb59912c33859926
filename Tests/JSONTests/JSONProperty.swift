#if canImport(JSON)
    import JSON
#endif

/// What holds for every input of the JSON reader; shared by the tests and the fuzzer.
enum JSONProperty {
    /// What `bytes` break, nil when all holds.
    static func violation(_ bytes: [UInt8]) -> String? {
        let value: JSONValue
        do { value = try JSONParser.parse(bytes, depthMaximum: 16) } catch {
            let isInside = (0...bytes.count).contains(error.offset)
            return isInside ? nil : "error at \(error.offset) of \(bytes.count)"
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { return "accepted text is not UTF-8" }
        if depth(value) > 16 { return "nested deeper than allowed" }
        if case .number(let number) = value, let same = Double(text.filter { !" \n\r\t".contains($0) }),
            same != number
        {
            return "\(number) for \(text)"
        }
        // Written text reads back as what was written; it is a fixed point from then on.
        let written = write(value)
        guard let again = try? JSONParser.parse(written, depthMaximum: 16) else {
            return "written text is refused"
        }
        if write(again) != written { return "written text changes when it is written again" }
        walk(value, "")
        return nil
    }

    private static func write(_ value: JSONValue) -> [UInt8] {
        var writer = JSONWriter()
        writer.value(value)
        return writer.bytes
    }

    private static func depth(_ value: JSONValue) -> Int {
        switch value {
        case .array(let elements): 1 + (elements.map(depth).max() ?? 0)
        case .object(let object): 1 + (object.members.map { depth($0.value) }.max() ?? 0)
        default: 0
        }
    }

    /// Reads every member by every type: only errors may come of it.
    private static func walk(_ value: JSONValue, _ pointer: String) {
        if case .array(let elements) = value { for element in elements { walk(element, pointer + "/0") } }
        guard var reader = try? JSONObjectReader(value, at: pointer) else { return }
        try? reader.finish()
        for member in reader.object.members {
            _ = try? reader.integer(member.name, in: -5...5)
            _ = try? reader.number(member.name, in: -1...1)
            _ = try? reader.string(member.name, bytes: 1...3)
            _ = try? reader.array(member.name, maximum: 2)
            _ = try? reader.optionalBoolean(member.name)
            _ = try? reader.choice(member.name, [("a", 1)])
            walk(member.value, reader.pointer(to: member.name))
        }
    }
}
