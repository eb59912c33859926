import RecCore
import Testing

@testable import UserState

@Suite struct FeatureChangeTests {
    static let old: FeatureValues = ["a": .string("b"), "n": .number(1)]

    @Test(
        arguments: [
            ([:], old), (["a": .some(.string("c"))], ["a": .string("c"), "n": .number(1)]),
            (["b": .some(.boolean(true))], ["a": .string("b"), "n": .number(1), "b": .boolean(true)]),
            (["a": nil], ["n": .number(1)]), (["a": nil, "n": nil, "z": nil], [:]),
            (["a": .some(.strings([]))], ["a": .strings([]), "n": .number(1)]),
        ] as [([String: FeatureValue?], FeatureValues)])
    func `a merge changes what it names`(new: [String: FeatureValue?], expected: FeatureValues) {
        #expect(FeatureChange.merge(new).applied(to: Self.old) == expected)
    }

    @Test func `a replacement forgets the others`() {
        #expect(FeatureChange.replace(["b": .number(2)]).applied(to: Self.old) == ["b": .number(2)])
        #expect(FeatureChange.replace([:]).applied(to: Self.old) == [:])
    }

    @Test func `neither makes more than may be kept`() {
        let many = FeatureValues(uniqueKeysWithValues: (0..<256).map { ("f\($0)", .number(1)) })
        #expect(FeatureChange.replace(many).applied(to: [:]) == many)
        #expect(FeatureChange.merge(["g": .number(1)]).applied(to: many) == nil)
        #expect(FeatureChange.merge(["g": .number(1), "f0": nil]).applied(to: many)?.count == 256)
        let texts: FeatureValues = [
            "é": .string(String(repeating: "x", count: 65_500)), "l": .strings(["ab", "cdef"]),
            "b": .boolean(true),
        ]
        // 2 + 65,500, 1 + 6, 1 bytes.
        func with(_ count: Int) -> FeatureValues? {
            FeatureChange.merge(["y": .string(String(repeating: "y", count: count))]).applied(to: texts)
        }
        #expect(with(65_536 - 65_511) != nil && with(65_536 - 65_510) == nil)
    }
}
