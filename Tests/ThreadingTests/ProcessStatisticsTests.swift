import Glibc
import Testing
import Threading

struct ProcessStatisticsTests {
    @Test func `the kernel tells memory, time and descriptors`() throws {
        #expect(try #require(ProcessStatistics.residentByteCount) > 1_000_000)
        #expect(ProcessStatistics.processorTime > .zero)
        #expect(try #require(ProcessStatistics.openFileCount) >= 3)
    }

    @Test func `the file limit is raised to the hard limit`() throws {
        let limit = try #require(ProcessStatistics.raiseFileLimit())
        #expect(limit >= 3)
        #expect(ProcessStatistics.raiseFileLimit() == limit)
    }
}
