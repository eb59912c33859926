/// What of the log could not be used when the state was opened, as after a power loss or on a damaged disk.
public struct StateLogLoss: Sendable, Equatable {
    /// Frames, a page each, after the last whole commit.
    public var frames = 0
    /// Those of them that ended a commit: without any, only what was never acknowledged is lost.
    public var commits = 0
    /// Bytes of them in the file.
    public var bytes = 0

    /// Nothing.
    public init() {}
}

/// SQLite's log, looked through before SQLite does, which drops what it cannot use without a word.
///
/// Source: https://www.sqlite.org/fileformat2.html#walformat
struct StateLog {
    private static let headerBytes = 32
    private static let frameHeaderBytes = 24
    private static let magic: UInt32 = 0x377f_0682
    private static let pageSizes = 512...65_536

    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives bytes at a place of it; fewer at its end.
    static func loss(size: Int, read: (_ offset: Int, _ count: Int) -> [UInt8]) -> StateLogLoss {
        var loss = StateLogLoss()
        loss.bytes = size
        let header = read(0, headerBytes)
        guard header.count == headerBytes else { return loss }
        let pageBytes = Int(word(header, 8))
        guard pageSizes.contains(pageBytes) else { return loss }
        var sum = Checksum(isBigEndian: word(header, 0) & 1 == 1)
        sum.add(header[..<24])
        // A damaged header makes SQLite take none of the frames.
        var isSound = word(header, 0) & ~1 == magic & ~1 && sum.is(word(header, 24), word(header, 28))
        // Behind the frames of this log stand those of longer ones before it, with other salts.
        var salts = header[16..<24]
        var place = headerBytes
        loss.bytes = 0
        while place < size {
            let frame = read(place, frameHeaderBytes + pageBytes)
            place += frameHeaderBytes + pageBytes
            guard frame.count >= frameHeaderBytes else {
                loss.bytes += frame.count
                break
            }
            if !isSound, place == headerBytes + frameHeaderBytes + pageBytes { salts = frame[8..<16] }
            isSound = isSound && frame[8..<16] == salts && word(frame, 0) != 0
            // Both of them differ in older frames; in a damaged one that may be one.
            guard frame[8..<12] == salts.prefix(4) || frame[12..<16] == salts.suffix(4) else { continue }
            if isSound {
                sum.add(frame[..<8])
                sum.add(frame[frameHeaderBytes...])
                isSound =
                    frame.count == frameHeaderBytes + pageBytes && sum.is(word(frame, 16), word(frame, 20))
            }
            let endsCommit = word(frame, 4) != 0
            if isSound, endsCommit {
                loss = StateLogLoss()
            } else {
                loss.frames += 1
                loss.commits += endsCommit ? 1 : 0
                loss.bytes += frame.count
            }
        }
        return loss
    }

    fileprivate static func word(_ bytes: some Collection<UInt8>, _ offset: Int) -> UInt32 {
        bytes.dropFirst(offset).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }
}

/// The sum that runs over all frames of a log.
private struct Checksum {
    private let isBigEndian: Bool
    private var (first, second): (UInt32, UInt32) = (0, 0)

    init(isBigEndian: Bool) { self.isBigEndian = isBigEndian }

    /// Adds pairs of words; what is left of a pair is left out.
    mutating func add(_ bytes: ArraySlice<UInt8>) {
        var place = bytes.startIndex
        while place + 8 <= bytes.endIndex {
            first = first &+ word(bytes, place) &+ second
            second = second &+ word(bytes, place + 4) &+ first
            place += 8
        }
    }

    func `is`(_ first: UInt32, _ second: UInt32) -> Bool { self.first == first && self.second == second }

    private func word(_ bytes: ArraySlice<UInt8>, _ place: Int) -> UInt32 {
        let (a, b, c, d) = (
            UInt32(bytes[place]), UInt32(bytes[place + 1]), UInt32(bytes[place + 2]), UInt32(bytes[place + 3])
        )
        return isBigEndian ? a << 24 | b << 16 | c << 8 | d : d << 24 | c << 16 | b << 8 | a
    }
}
