import Foundation
import Testing

/// The package's own text, read for tests about style.
struct SourceTree {
    /// One Swift file.
    struct File: CustomTestStringConvertible {
        /// Relative to the package.
        let path: String
        let lines: [String]
        /// The lines with comments and the contents of string literals blanked out.
        let code: [String]

        var testDescription: String { path }
        /// The module the file belongs to: `Sources/<module>/…`.
        var module: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }

        /// The modules the file imports.
        var imports: [String] {
            code.compactMap { line in
                let pattern =
                    /\s*(?:@\w+\s+)*(?:(?:public|package|internal|private)\s+)?import\s+(?:\w+\s+)?(\w+).*/
                return line.wholeMatch(of: pattern).map { String($0.output.1) }
            }
        }

        /// Where lines match, as `path:line`; of `code` unless said otherwise.
        func places(in lines: [String]? = nil, _ matches: (String) -> Bool) -> [String] {
            (lines ?? code).enumerated().filter { matches($0.element) }.map { "\(path):\($0.offset + 1)" }
        }
    }

    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static let sources = files(below: "Sources")
    static let tests = files(below: "Tests")

    /// The text of a file of the package.
    static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// The text of all source files whose path begins with `prefix`.
    static func text(ofFilesBelow prefix: String) -> String {
        sources.filter { $0.path.hasPrefix(prefix) }.map { $0.lines.joined(separator: "\n") }
            .joined(separator: "\n")
    }

    private static func files(below folder: String) -> [File] {
        let base = root.appending(path: folder)
        let paths = FileManager.default.enumerator(atPath: base.path)?.compactMap { $0 as? String } ?? []
        return paths.filter { $0.hasSuffix(".swift") && !$0.contains(".build/") }.sorted().compactMap {
            path in
            guard let text = try? text(folder + "/" + path) else { return nil }
            return File(
                path: folder + "/" + path, lines: text.components(separatedBy: "\n"),
                code: CodeOnly.strip(text).components(separatedBy: "\n"))
        }
    }
}

/// Blanks what is not code: line comments, the contents of string literals, multi-line literals.
enum CodeOnly {
    static func strip(_ text: String) -> String {
        var code = ""
        var rest = Substring(text)
        while let character = rest.first {
            if rest.hasPrefix("//") {
                rest = rest.drop { $0 != "\n" }
            } else if let end = literalEnd(rest) {
                code += "\"\"" + rest[..<end].filter { $0 == "\n" }
                rest = rest[end...]
            } else {
                code.append(character)
                rest = rest.dropFirst()
            }
        }
        return code
    }

    /// Where the string literal at the start ends; nil when there is none.
    private static func literalEnd(_ text: Substring) -> Substring.Index? {
        let pounds = String(text.prefix { $0 == "#" })
        let body = text.dropFirst(pounds.count)
        let quotes = body.hasPrefix("\"\"\"") ? "\"\"\"" : "\""
        guard body.hasPrefix(quotes) else { return nil }
        var rest = body.dropFirst(quotes.count)
        while !rest.isEmpty {
            if rest.hasPrefix("\\" + pounds) {
                rest = rest.dropFirst(1 + pounds.count)
                // Interpolated code goes with its literal: nested literals are skipped whole.
                if rest.hasPrefix("(") { rest = afterInterpolation(rest) } else { rest = rest.dropFirst() }
            } else if rest.hasPrefix(quotes + pounds) {
                return rest.dropFirst(quotes.count + pounds.count).startIndex
            } else {
                rest = rest.dropFirst()
            }
        }
        return text.endIndex
    }

    private static func afterInterpolation(_ text: Substring) -> Substring {
        var depth = 0
        var rest = text
        while let character = rest.first {
            if let end = literalEnd(rest) {
                rest = rest[end...]
                continue
            }
            if character == "(" { depth += 1 }
            if character == ")" { depth -= 1 }
            rest = rest.dropFirst()
            if depth == 0 { break }
        }
        return rest
    }
}
