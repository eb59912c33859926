internal import CKernels

/// The C kernels behind the module's functions, and the instruction set they use.
public enum Kernel {
    /// Instruction sets the element-wise kernels are compiled for.
    public enum Level: Int32, CaseIterable, Comparable, Sendable {
        case portable = 0, avx2 = 1, avx512 = 2
        /// Whether `a` is the older, narrower set.
        public static func < (a: Level, b: Level) -> Bool { a.rawValue < b.rawValue }
    }

    /// The best level of this machine.
    public static var supported: Level { Level(rawValue: CKernels_level_supported()) ?? .portable }

    /// The level the calling thread uses: `supported` unless a test lowered it. A level above that is
    /// ignored.
    public static var level: Level {
        get { Level(rawValue: CKernels_level()) ?? .portable }
        set { CKernels_set_level(newValue.rawValue) }
    }

    @unsafe static func isFinite(_ x: UnsafePointer<Float>, _ count: Int) -> Bool {
        unsafe CKernels_all_finite(x, count) != 0
    }
}
