/// The header fields of one request, in order; names compare without case.
///
/// All fields share the bytes of the received head: two allocations however many there are.
public struct HTTPHeaders: Sendable {
    /// Where one field lies in the head, which has less than 4 GiB.
    struct Field: Sendable, Equatable {
        private let nameStart, nameEnd: UInt32
        private var valueStart, valueEnd: UInt32

        init(name: Range<Int>, value: Range<Int>) {
            nameStart = UInt32(truncatingIfNeeded: name.lowerBound)
            nameEnd = UInt32(truncatingIfNeeded: name.upperBound)
            valueStart = UInt32(truncatingIfNeeded: value.lowerBound)
            valueEnd = UInt32(truncatingIfNeeded: value.upperBound)
        }

        var name: Range<Int> { Int(nameStart)..<Int(nameEnd) }
        var value: Range<Int> {
            get { Int(valueStart)..<Int(valueEnd) }
            set { self = Field(name: name, value: newValue) }
        }
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
            places.append(Field(name: start..<middle, value: middle..<head.count))
        }
        self.init(head: head, fields: places)
    }

    /// Number of fields.
    public var count: Int { fields.count }

    /// The value of the first field called `name`, without surrounding white space; nil when there is none.
    public func first(_ name: String) -> String? {
        for field in fields where matches(field, name) { return text(field.value) }
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
        fields.filter { matches($0, name) }.map { text($0.value) }
    }

    /// All fields as received: names with their case, values without surrounding white space.
    ///
    /// Bytes that are not UTF-8 are replaced by U+FFFD.
    public var all: [(name: String, value: String)] {
        fields.map { (text($0.name), text($0.value)) }
    }

    private func text(_ range: Range<Int>) -> String { head.span.extracting(range).text }

    private func matches(_ field: Field, _ name: String) -> Bool {
        let range = field.name
        return range.count == name.utf8.count && head.span.extracting(range).equalsIgnoringCase(name)
    }
}
