/// Why a bundle is refused: the file, the tensor or field, what was expected and what was found.
public struct BundleError: Error, Sendable, CustomStringConvertible {
    public let file: String
    /// Tensor name or JSON pointer, where one is to blame.
    public let tensor: String?
    public let expected: String
    public let found: String

    public init(file: String, tensor: String? = nil, expected: String, found: String) {
        self.file = file
        self.tensor = tensor
        self.expected = expected
        self.found = found
    }

    public var description: String {
        "\(file)\(tensor.map { ": " + $0 } ?? ""): expected \(expected), found \(found)"
    }
}
