/// The header fields of one request, in order; names compare without case.
///
/// All fields share the bytes of the received head: two allocations however many there are.
public struct HTTPHeaders: Sendable {
    /// Where one field lies in the head.
    struct Field: Sendable, Equatable {
        var nameStart: Int
        var nameEnd: Int
        var valueStart: Int
        var valueEnd: Int
    }

    private let head: [UInt8]
    private let fields: [Field]

    init(head: [UInt8], fields: [Field]) {
        self.head = head
        self.fields = fields
    }

    /// Fields that no peer has sent: for tests and calls within the process.
    public init(_ fields: [(name: String, value: String)]) {
        var head: [UInt8] = []
        var places: [Field] = []
        for (name, value) in fields {
            let start = head.count
            head.append(contentsOf: name.utf8)
            let middle = head.count
            head.append(contentsOf: value.utf8)
            places.append(Field(nameStart: start, nameEnd: middle, valueStart: middle, valueEnd: head.count))
        }
        self.init(head: head, fields: places)
    }

    /// Number of fields.
    public var count: Int { fields.count }

    /// The value of the first field called `name`, without surrounding white space; nil when there is none.
    public func first(_ name: String) -> String? {
        for field in fields where matches(field, name) { return string(field.valueStart, field.valueEnd) }
        return nil
    }

    /// How many fields are called `name`.
    public func count(of name: String) -> Int {
        var count = 0
        for field in fields where matches(field, name) { count += 1 }
        return count
    }

    /// The values of all fields called `name`, in their order.
    public func values(of name: String) -> [String] {
        fields.filter { matches($0, name) }.map { string($0.valueStart, $0.valueEnd) }
    }

    /// All fields as received: names with their case, values without surrounding white space.
    ///
    /// Bytes that are not UTF-8 are replaced by U+FFFD.
    public var all: [(name: String, value: String)] {
        fields.map { (string($0.nameStart, $0.nameEnd), string($0.valueStart, $0.valueEnd)) }
    }

    private func string(_ start: Int, _ end: Int) -> String {
        String(decoding: head[start..<end], as: UTF8.self)
    }

    private func matches(_ field: Field, _ name: String) -> Bool {
        head.span.extracting(field.nameStart..<field.nameEnd).equalsIgnoringCase(name)
    }
}
