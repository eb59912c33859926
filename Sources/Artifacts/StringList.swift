/// A frozen list of strings stored end to end: ids, dictionaries, vocabularies of any size without one object
/// each.
public struct StringList: Sendable {
    private let bytes: [UInt8]
    private let offsets: [Int]

    /// - Parameters:
    ///   - bytes: valid UTF-8 between every two offsets.
    ///   - offsets: from 0, non-decreasing, up to `bytes.count`; one more than there are strings.
    init(bytes: [UInt8], offsets: [Int]) {
        self.bytes = bytes
        self.offsets = offsets
    }

    /// A list of `strings`.
    public init(_ strings: [String]) {
        var bytes: [UInt8] = []
        var offsets = [0]
        for string in strings {
            bytes.append(contentsOf: string.utf8)
            offsets.append(bytes.count)
        }
        self.bytes = bytes
        self.offsets = offsets
    }

    /// How many strings there are.
    public var count: Int { offsets.count - 1 }

    /// The string at `index`; traps when out of range.
    public subscript(index: Int) -> String {
        String(decoding: bytes[offsets[index]..<offsets[index + 1]], as: UTF8.self)
    }

    /// The UTF-8 bytes of the string at `index`.
    public func utf8(_ index: Int) -> ArraySlice<UInt8> { bytes[offsets[index]..<offsets[index + 1]] }

    /// Length in bytes of the string at `index`.
    public func byteCount(_ index: Int) -> Int { offsets[index + 1] - offsets[index] }
}
