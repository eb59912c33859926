/// Why a bundle is refused: the file, the tensor or field, what was expected and what was found.
public struct BundleError: Error, Sendable, CustomStringConvertible {
    /// Name of the file inside the bundle, or a path where there is no bundle yet.
    public let file: String
    /// Tensor name or JSON pointer, where one is to blame.
    public let tensor: String?
    /// What the format or the manifest wants there.
    public let expected: String
    /// What is there instead.
    public let found: String

    /// An error about `file`, and about `tensor` in it where one is to blame.
    public init(file: String, tensor: String? = nil, expected: String, found: String) {
        self.file = file
        self.tensor = tensor
        self.expected = expected
        self.found = found
    }

    /// One line for logs: file, tensor, expectation and finding.
    public var description: String {
        "\(file)\(tensor.map { ": " + $0 } ?? ""): expected \(expected), found \(found)"
    }
}
