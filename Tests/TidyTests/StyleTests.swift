import Testing

/// Sizes and words, as tests.
@Suite struct StyleTests {
    @Test(arguments: SourceTree.sources)
    func `a source file has at most 400 lines`(file: SourceTree.File) {
        #expect(file.lines.count <= 401)  // The last line end begins an empty line.
    }

    /// Tests may hold long literals.
    @Test(arguments: SourceTree.sources)
    func `a line has at most 110 columns`(file: SourceTree.File) {
        #expect(file.places(in: file.lines) { $0.count > 110 } == [])
    }

    @Test(arguments: SourceTree.sources + SourceTree.tests)
    func `nothing is left to do`(file: SourceTree.File) {
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X"]
        #expect(file.places(in: file.lines) { line in marks.contains { line.contains($0) } } == [])
    }

    @Test(arguments: SourceTree.sources)
    func `sources do without Foundation`(file: SourceTree.File) {
        #expect(!file.imports.contains { $0.hasPrefix("Foundation") })
    }

    /// `try!`, `as!`, `fatalError` and `value!`: all stop the process where an error could have been told.
    @Test(arguments: SourceTree.sources)
    func `nothing is forced`(file: SourceTree.File) {
        #expect(file.places { $0.contains(/\btry!|\bas!|\bfatalError\s*\(/) } == [])
        // An operand directly before "!", which no operator follows: neither a != b nor the prefix !a.
        #expect(file.places { $0.contains(/[\w\)\]]!(?![=\w])/) } == [])
    }

    @Test(arguments: SourceTree.sources)
    func `there is no async, no task and no actor`(file: SourceTree.File) {
        #expect(file.places { $0.contains(/\b(async|await|actor|Task)\b/) } == [])
    }

    /// 70: one screen; from `func` or `init` to the brace that closes it at the same indentation.
    @Test(arguments: SourceTree.sources)
    func `a function has at most 70 lines`(file: SourceTree.File) {
        var begun: (line: Int, indentation: String)?
        for (index, line) in file.code.enumerated() {
            if let start = begun {
                guard line == start.indentation + "}" else { continue }
                #expect(index - start.line < 70, "\(file.path):\(start.line + 1)")
                begun = nil
            } else if !line.contains("}"),
                let match = line.prefixMatch(of: /(\s*)(?:[\w@\(\)]+\s+)*(?:func\s|init[?(<])/)
            {
                begun = (index, String(match.output.1))
            }
        }
    }
}
