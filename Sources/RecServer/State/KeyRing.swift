import Artifacts
import JSON
import Threading

/// What a caller may do.
enum Role: String, CaseIterable, Sendable {
    /// Recommendations and similar items.
    case read
    /// Posting events.
    case events
    /// Changing the catalogue.
    case items
    /// What is held of users.
    case users
    /// The admin listener.
    case admin
}

/// The API keys of one `keys_file`, as digests: the keys themselves are nowhere but with their owners.
final class KeyRing: Sendable {
    /// Somebody who may ask: the owner of a key or of a client certificate, or with `anonymous` all who bring
    /// neither.
    struct Caller: Sendable {
        let name: String
        let roles: Set<Role>
        /// Unix seconds from which on the key is not taken any more.
        let expires: Double?
        let limit: Limit?
        let counters: Counters
    }

    /// A caller's rate.
    final class Limit: Sendable {
        let rate: Double
        let burst: Double
        private let bucket: Lock<TokenBucket>

        init(rate: Double, burst: Double) {
            self.rate = rate
            self.burst = burst
            bucket = Lock(TokenBucket(rate: rate, burst: burst, now: 0))
        }

        /// As `TokenBucket.take`.
        func take(now: UInt64) -> Int? { bucket.withLock { $0.take(now: now) } }
    }

    /// Requests of a caller by what became of them.
    final class Counters: Sendable {
        let allowed = Counter()
        let forbidden = Counter()
        let limited = Counter()
    }

    /// The limits of a keys file.
    enum Limits {
        static let fileBytes = 1 << 20
        static let keys = 1000
        static let certificates = 1000
        static let nameBytes = 1...64
        static let rate = 0.001...1_000_000.0
        static let burst = 1...1_000_000.0
        /// Unix seconds, to beyond the year 5000.
        static let expires = 0...1e11
    }

    /// The name under which requests without a key are counted.
    static let anonymousName = "anonymous"

    let callers: [Caller]
    /// What requests without a key may do; nil when they may do nothing.
    let anonymous: Caller?
    let certificates: [CertificateName: Caller]
    /// The digests of the first callers' keys one after the other.
    private let digests: [UInt8]

    /// The owner of `key`; takes as long for an unknown one.
    func caller(key: String) -> Caller? {
        Digest.place(of: Digest.sha256(of: key), in: digests).map { callers[$0] }
    }

    // MARK: - The file

    /// Reads a keys file.
    /// - Parameters:
    ///   - previous: the ring in use, whose callers keep their counters, and their budgets where the rates
    ///     are the same.
    /// - Throws: what is wrong, without any value that could be secret.
    convenience init(path: String, previous: KeyRing? = nil, warn: (String) -> Void = { _ in })
        throws(Configuration.Invalid)
    {
        let file: FileBytes
        do throws(BundleError) {
            file = try FileBytes(path: path, name: path, maximum: Limits.fileBytes, followsLinks: true)
        } catch {
            throw Configuration.Invalid(description: "keys_file: \(error.description)")
        }
        try self.init(json: file.copy(), previous: previous)
        if file.isOpenToOthers { warn("everybody on this machine may read the keys file") }
    }

    /// The same of the file's text.
    init(json: [UInt8], previous: KeyRing? = nil) throws(Configuration.Invalid) {
        var known: [String: Caller] = [:]
        if let previous {
            for caller in previous.callers + [previous.anonymous].compactMap({ $0 }) {
                known[caller.name] = caller
            }
        }
        do throws(JSONSchemaError) {
            var file = try JSONObjectReader(try Self.document(json), at: "")
            var (callers, digests, names): ([Caller], [UInt8], Set<String>) = ([], [], [Self.anonymousName])
            for (index, value) in try file.array("keys", maximum: Limits.keys).enumerated() {
                var entry = try JSONObjectReader(value, at: "/keys/\(index)")
                let name = try Self.name(&entry)
                guard names.insert(name).inserted else {
                    throw JSONSchemaError(.outOfRange, entry.pointer(to: "name"), "the name is taken")
                }
                let digest = try Self.digest(
                    try entry.string("sha256"), at: entry.pointer(to: "sha256"))
                guard Digest.place(of: digest, in: digests) == nil else {
                    throw JSONSchemaError(.outOfRange, entry.pointer(to: "sha256"), "the key is listed twice")
                }
                digests += digest
                let expires = try entry.optionalNumber("expires", in: Limits.expires)
                callers.append(try Self.caller(name, &entry, expires: expires, known: known))
            }
            var certificates: [CertificateName: Caller] = [:]
            let entries = try file.optionalArray("certificates", maximum: Limits.certificates) ?? []
            for (index, value) in entries.enumerated() {
                var entry = try JSONObjectReader(value, at: "/certificates/\(index)")
                let name = try Self.name(&entry)
                guard names.insert(name).inserted else {
                    throw JSONSchemaError(.outOfRange, entry.pointer(to: "name"), "the name is taken")
                }
                let certificate = try CertificateName(&entry)
                let expires = try entry.optionalNumber("expires", in: Limits.expires)
                let caller = try Self.caller(name, &entry, expires: expires, known: known)
                guard certificates.updateValue(caller, forKey: certificate) == nil else {
                    throw JSONSchemaError(
                        .outOfRange, entry.pointer(to: "name"), "the certificate is listed twice")
                }
                callers.append(caller)
            }
            var anonymous: Caller?
            if var entry = try file.optionalObject(Self.anonymousName) {
                anonymous = try Self.caller(Self.anonymousName, &entry, expires: nil, known: known)
            }
            try file.finish()
            self.callers = callers
            self.digests = digests
            self.certificates = certificates
            self.anonymous = anonymous
        } catch {
            throw Configuration.Invalid(description: "keys_file: \(error.description)")
        }
    }

    private static func document(_ json: [UInt8]) throws(JSONSchemaError) -> JSONValue {
        do throws(JSONSyntaxError) { return try JSONParser.parse(json, depthMaximum: 4) } catch {
            throw JSONSchemaError(.wrongType, "", error.description)
        }
    }

    /// A name that may stand in logs and metrics as it is.
    private static func name(_ entry: inout JSONObjectReader) throws(JSONSchemaError) -> String {
        let name = try entry.string("name", bytes: Limits.nameBytes)
        let isPlain = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
                UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard isPlain else {
            throw JSONSchemaError(
                .outOfRange, entry.pointer(to: "name"),
                "a name has letters, digits, hyphens, dots, underscores")
        }
        return name
    }

    static func digest(_ text: String, at pointer: String) throws(JSONSchemaError) -> [UInt8] {
        let text = Array(text.utf8)
        let nibbles = text.compactMap { byte -> UInt8? in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
            default: nil
            }
        }
        guard text.count == 2 * Digest.byteCount, nibbles.count == text.count else {
            throw JSONSchemaError(
                .outOfRange, pointer, "expected 64 lower-case hexadecimal digits")
        }
        return stride(from: 0, to: nibbles.count, by: 2).map { nibbles[$0] << 4 | nibbles[$0 + 1] }
    }

    /// The rest of an entry.
    private static func caller(
        _ name: String, _ entry: inout JSONObjectReader, expires: Double?, known: [String: Caller]
    ) throws(JSONSchemaError) -> Caller {
        var roles: Set<Role> = []
        for (index, value) in try entry.array("roles", maximum: Role.allCases.count).enumerated() {
            let pointer = entry.pointer(to: "roles") + "/\(index)"
            guard let role = Role(rawValue: try JSONObjectReader.string(value, at: pointer)) else {
                throw JSONSchemaError(
                    .outOfRange, pointer,
                    "expected one of " + Role.allCases.map(\.rawValue).joined(separator: ", "))
            }
            guard roles.insert(role).inserted else {
                throw JSONSchemaError(.outOfRange, pointer, "the role is given twice")
            }
        }
        let rate = try entry.optionalNumber("rate", in: Limits.rate)
        let burst = try entry.optionalNumber("burst", in: Limits.burst)
        if rate == nil, burst != nil {
            throw JSONSchemaError(.missing, entry.pointer(to: "rate"), "a burst needs a rate")
        }
        try entry.finish()
        let before = known[name]
        let limit = rate.map { rate in
            let burst = burst ?? max(1, rate)
            if let kept = before?.limit, kept.rate == rate, kept.burst == burst { return kept }
            return Limit(rate: rate, burst: burst)
        }
        return Caller(
            name: name, roles: roles, expires: expires, limit: limit,
            counters: before?.counters ?? Counters())
    }
}
