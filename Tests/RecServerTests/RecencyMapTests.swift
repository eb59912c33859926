import TestSupport
import Testing

@testable import RecServer

@Suite struct RecencyMapTests {
    @Test func `it does what a list does in which the last used comes first`() {
        var random = SeededRandom(7)
        var map = RecencyMap<Int, Int>()
        var twin: [(key: Int, value: Int)] = []
        func take(_ key: Int) -> (key: Int, value: Int)? {
            twin.firstIndex { $0.key == key }.map { twin.remove(at: $0) }
        }
        for step in 0..<5000 {
            let key = Int.random(in: 0..<40, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0, 1:
                #expect(map.set(key, step) == take(key)?.value)
                twin.insert((key, step), at: 0)
            case 2:
                let entry = take(key)
                #expect(map.use(key) == entry?.value)
                if let entry { twin.insert(entry, at: 0) }
            case 3:
                map.replace(key, -step)
                if let index = twin.firstIndex(where: { $0.key == key }) { twin[index].value = -step }
            default: #expect(map.remove(key) == take(key)?.value)
            }
            #expect(map.count == twin.count && map.last?.key == twin.last?.key)
            #expect(map[peek: key] == twin.first { $0.key == key }?.value)
        }
        #expect(map.entries.map(\.key) == twin.map(\.key) && map.entries.map(\.value) == twin.map(\.value))
    }
}
