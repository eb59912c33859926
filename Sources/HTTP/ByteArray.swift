// UNSAFE ALLOWED: moving bytes by the block instead of one by one; nothing here keeps a pointer.

extension Span<UInt8> {
    /// The eight bytes from `position` on, the first in the lowest bits.
    @inline(__always)
    func word(at position: Int) -> UInt64 {
        precondition(position >= 0 && position <= count - 8, "no word at \(position) of \(count)")
        // SAFETY: the eight bytes lie within the span, which outlives the call; any bits are a UInt64.
        return unsafe UInt64(
            littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self))
    }

    /// The position of the first line feed from `position` on; `count` when there is none.
    func lineFeed(from position: Int) -> Int {
        var position = position
        while position <= count - 8 {
            let other = word(at: position) ^ 0x0A0A_0A0A_0A0A_0A0A
            let zeros = (other &- 0x0101_0101_0101_0101) & ~other & 0x8080_8080_8080_8080
            // Only the lowest mark is certain, and that is the one.
            if zeros != 0 { return position &+ zeros.trailingZeroBitCount &>> 3 }
            position &+= 8
        }
        while position < count, self[position] != ASCII.lineFeed { position &+= 1 }
        return position
    }

    /// The position of the first byte that no field value may hold; nil when there is none.
    var firstOutsideFieldValue: Int? {
        var position = 0
        while position <= count - 8 {
            let word = word(at: position)
            let below = (word &- 0x2020_2020_2020_2020) & ~word
            let delete = word ^ 0x7F7F_7F7F_7F7F_7F7F
            let marks = below | (delete &- 0x0101_0101_0101_0101) & ~delete
            // A tab is below too, so that the eight are looked at one by one.
            if marks & 0x8080_8080_8080_8080 != 0 {
                for offset in position..<position + 8 where !ASCII.isFieldValue(self[offset]) {
                    return offset
                }
            }
            position &+= 8
        }
        while position < count {
            if !ASCII.isFieldValue(self[position]) { return position }
            position &+= 1
        }
        return nil
    }

    /// Whether the first bytes are those of `other`.
    func starts(with other: [UInt8]) -> Bool {
        guard other.count <= count else { return false }
        let other = other.span
        var position = 0
        while position <= other.count - 8 {
            guard word(at: position) == other.word(at: position) else { return false }
            position &+= 8
        }
        while position < other.count {
            guard self[position] == other[position] else { return false }
            position &+= 1
        }
        return true
    }

    /// A copy as text; what is no UTF-8 is replaced by U+FFFD.
    var text: String {
        // SAFETY: the buffer is read before the closure returns, and the span outlives it.
        unsafe withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}

extension [UInt8] {
    /// Appends a copy of `bytes`.
    mutating func append(copying bytes: Span<UInt8>) {
        // Appending nothing to the empty array would write to storage that all empty arrays share: a race by
        // the letter.
        guard !bytes.isEmpty else { return }
        // SAFETY: the buffer is read before the closure returns, and the span outlives it.
        unsafe bytes.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }

    /// Appends the bytes of `text`.
    mutating func append(_ text: String) { append(copying: text.utf8.span) }

    /// Lets `body` append up to `count` bytes without looking for room again.
    mutating func append(atMost count: Int, _ body: (inout ByteCursor) -> Void) {
        append(addingCapacity: count) { (output: inout OutputSpan<UInt8>) in
            // SAFETY: the cursor writes only to the buffer's free part, which it is told the size of, and
            // ends with this closure; what it has written is initialized.
            unsafe output.withUnsafeMutableBufferPointer { buffer, initialized in
                guard let base = buffer.baseAddress else { return }
                var cursor = unsafe ByteCursor(base + initialized, room: buffer.count - initialized)
                body(&cursor)
                initialized += cursor.count
            }
        }
    }
}

/// A place in memory that is being filled; what does not fit is a programmer error.
@safe struct ByteCursor: ~Copyable {
    private let start: UnsafeMutablePointer<UInt8>
    private let room: Int
    private(set) var count = 0

    /// The `room` bytes from `start` on must outlive the cursor.
    fileprivate init(_ start: UnsafeMutablePointer<UInt8>, room: Int) {
        unsafe self.start = start
        self.room = room
    }

    @inline(__always)
    mutating func put(_ byte: UInt8) {
        precondition(count < room, "no room for another byte")
        // SAFETY: below `room`, as just seen.
        unsafe start[count] = byte
        count &+= 1
    }

    mutating func put(copying bytes: Span<UInt8>) {
        precondition(bytes.count <= room - count, "no room for \(bytes.count) bytes")
        // SAFETY: there is room, as just seen, and memory being written is nobody else's.
        unsafe bytes.withUnsafeBufferPointer { source in
            guard let base = source.baseAddress else { return }
            unsafe (start + count).update(from: base, count: source.count)
        }
        count &+= bytes.count
    }

    mutating func put(_ bytes: [UInt8]) { put(copying: bytes.span) }
    mutating func put(_ text: String) { put(copying: text.utf8.span) }

    @inline(__always)
    mutating func put(constant text: StaticString) {
        precondition(text.utf8CodeUnitCount <= room - count, "no room for \(text)")
        // SAFETY: there is room, as just seen, and the text of a literal stays where it is.
        unsafe (start + count).update(from: text.utf8Start, count: text.utf8CodeUnitCount)
        count &+= text.utf8CodeUnitCount
    }

    /// Up to 19 digits; `number` is at least 0.
    mutating func put(decimal number: Int) {
        var divisor = 1
        while number / 10 >= divisor { divisor *= 10 }
        var rest = number
        while divisor > 1 {
            put(0x30 &+ UInt8(truncatingIfNeeded: rest / divisor))
            rest %= divisor
            divisor /= 10
        }
        put(0x30 &+ UInt8(truncatingIfNeeded: rest))
    }
}
