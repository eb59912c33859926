internal import JSON
internal import RecCore

/// Features as JSON text and back.
enum FeatureText {
    /// One object; names in order, so that equal features have equal text.
    static func encode(_ features: FeatureValues) -> String {
        var writer = JSONWriter()
        write(features, to: &writer)
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    /// The same as a value of a larger text.
    static func write(_ features: FeatureValues, to writer: inout JSONWriter) {
        writer.beginObject()
        for (name, value) in features.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            writer.key(name)
            switch value {
            case .string(let text): writer.value(text)
            case .number(let number): writer.value(number)
            case .boolean(let boolean): writer.value(boolean)
            case .strings(let texts):
                writer.beginArray()
                for text in texts { writer.value(text) }
                writer.endArray()
            }
        }
        writer.endObject()
    }

    /// What `encode` wrote; nil for anything else.
    static func decode(_ text: String) -> FeatureValues? {
        guard case .object(let object)? = try? JSONParser.parse(Array(text.utf8)) else { return nil }
        return features(object)
    }

    /// The same of an object; nil where a value is none of a feature.
    static func features(_ object: JSONObject) -> FeatureValues? {
        var features: FeatureValues = [:]
        for member in object.members {
            guard let value = value(member.value) else { return nil }
            features[member.name] = value
        }
        return features
    }

    private static func value(_ value: JSONValue) -> FeatureValue? {
        switch value {
        case .string(let text): return .string(text)
        case .number(let number): return .number(number)
        case .integer(let integer): return .number(Double(integer))
        case .boolean(let boolean): return .boolean(boolean)
        case .array(let elements):
            var texts: [String] = []
            for element in elements {
                guard case .string(let text) = element else { return nil }
                texts.append(text)
            }
            return .strings(texts)
        case .null, .object: return nil
        }
    }
}
