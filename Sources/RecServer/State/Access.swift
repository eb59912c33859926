import HTTP
import Logging
import Threading

extension Router.Match {
    /// What a caller must be allowed to do; nil for what is open to all.
    var role: Role? {
        switch self {
        case .recommend, .similar: .read
        case .events: .events
        case .user, .removeEvent: .users
        case .livez, .readyz, .healthz, .version, .metrics, .openapi: nil
        }
    }
}

/// Who may do what, and how often: decided on the loops, before a body is looked at.
///
/// Without a keys file reading is open, and all else takes a peer on this machine.
final class Access: Sendable {
    /// Why a request was refused, as metrics name it.
    enum Refusal: String, CaseIterable, Sendable {
        case noKey = "no_key"
        case unknownKey = "unknown_key"
        case expiredKey = "expired_key"
        case role
        /// Without keys: the peer is not on this machine.
        case peer
        case keyRate = "key_rate"
        case addressRate = "address_rate"
    }

    private let path: String?
    private let ring: Lock<KeyRing?>
    private let addresses: Lock<AddressBuckets>?
    private let now: @Sendable () -> UInt64
    private let wallSeconds: @Sendable () -> Double
    private let refusals: [Refusal: Counter]
    /// Readings of the keys file on SIGHUP.
    let reloads = Counter()
    let refusedReloads = Counter()

    /// - Parameters:
    ///   - keysFile: where `ring` comes from; nil without keys.
    ///   - ratePerAddress: requests a second of each peer address; 0 for no limit.
    ///   - now: monotonic nanoseconds.
    init(
        keysFile: String? = nil, ring: KeyRing? = nil, ratePerAddress: Int = 0,
        now: @escaping @Sendable () -> UInt64 = { MonotonicClock.nanoseconds },
        wallSeconds: @escaping @Sendable () -> Double = { Double(WallClock.nanoseconds) / 1e9 }
    ) {
        path = keysFile
        self.ring = Lock(ring)
        addresses = ratePerAddress > 0 ? Lock(AddressBuckets(rate: Double(ratePerAddress))) : nil
        self.now = now
        self.wallSeconds = wallSeconds
        refusals = Dictionary(uniqueKeysWithValues: Refusal.allCases.map { ($0, Counter()) })
    }

    /// What the settings say.
    /// - Throws: what is wrong with the keys file.
    convenience init(_ configuration: Configuration, logger: Logger) throws(Configuration.Invalid) {
        let path = configuration.text("keys_file")
        let ring =
            path.isEmpty
            ? nil
            : try KeyRing(path: path, warn: { logger.warning("keys", metadata: ["reason": "\($0)"]) })
        if let ring { logger.info("keys", metadata: ["keys": "\(ring.callers.count)"]) }
        self.init(
            keysFile: path.isEmpty ? nil : path, ring: ring,
            ratePerAddress: configuration.integer("rate_per_address"))
    }

    /// Reads the keys file again; when anything is wrong with it, the keys stay as they are.
    func reload(logger: Logger) {
        guard let path else { return }
        do throws(Configuration.Invalid) {
            let new = try KeyRing(
                path: path, previous: ring.withLock { $0 },
                warn: { logger.warning("keys", metadata: ["reason": "\($0)"]) })
            ring.withLock { $0 = new }
            reloads.add()
            logger.info("keys", metadata: ["keys": "\(new.callers.count)"])
        } catch {
            refusedReloads.add()
            logger.error(
                "the keys file was refused, the keys stay", metadata: ["reason": "\(error.description)"])
        }
    }

    // MARK: - Decisions

    /// What a rate of addresses counts: an IPv4 address, or the IPv6 network of one customer.
    private static func group(of request: HTTPRequest) -> String {
        NetworkAddress(request.peer)?.countingGroup.description ?? request.peer
    }

    /// Lets a request to an endpoint of the main listener pass, or not.
    /// - Returns: the name of its key; nil without one.
    /// - Throws: `.rateLimited`, `.unauthorized` or `.forbidden`.
    @discardableResult
    func admit(_ request: HTTPRequest, to match: Router.Match) throws(Problem) -> String? {
        guard let role = match.role else { return nil }
        if let addresses, let wait = addresses.withLock({ $0.take(Self.group(of: request), now: now()) }) {
            throw refuse(.addressRate, Problem(.rateLimited, "too many from this address", retryAfter: wait))
        }
        if let ring = ring.withLock({ $0 }) { return try admit(request, as: role, ring) }
        guard role == .read || Self.isFromHere(request) else {
            throw refuse(
                .peer, Problem(.forbidden, "without keys only peers on this machine may do this"))
        }
        return nil
    }

    /// Lets a request to the admin listener pass, or not.
    func admitAdministrator(_ request: HTTPRequest) throws(Problem) {
        guard Self.isFromHere(request) else {
            throw refuse(.peer, Problem(.forbidden, "only peers on this machine may ask, and no web page"))
        }
        if let ring = ring.withLock({ $0 }) { try admit(request, as: .admin, ring) }
    }

    @discardableResult
    private func admit(_ request: HTTPRequest, as role: Role, _ ring: KeyRing) throws(Problem) -> String {
        let caller = try caller(request, ring)
        guard caller.roles.contains(role) else {
            caller.counters.forbidden.add()
            // Who has not said who they are may still do so.
            guard caller.name != KeyRing.anonymousName else {
                throw refuse(.noKey, Problem(.unauthorized, "this takes an API key"))
            }
            throw refuse(.role, Problem(.forbidden, "the caller lacks the role \(role.rawValue)"))
        }
        if let wait = caller.limit?.take(now: now()) {
            caller.counters.limited.add()
            throw refuse(.keyRate, Problem(.rateLimited, "too many with this key", retryAfter: wait))
        }
        caller.counters.allowed.add()
        return caller.name
    }

    private func caller(_ request: HTTPRequest, _ ring: KeyRing) throws(Problem) -> KeyRing.Caller {
        let keys = Self.keys(request.headers)
        guard let key = keys.first else {
            if let caller = try caller(request.clientCertificate, ring) { return caller }
            guard let anonymous = ring.anonymous else {
                throw refuse(.noKey, Problem(.unauthorized, "this takes an API key"))
            }
            return anonymous
        }
        guard keys.count == 1, let caller = ring.caller(key: key) else {
            throw refuse(.unknownKey, Problem(.unauthorized, "the API key is not known"))
        }
        return try unexpired(caller)
    }

    /// The owner of a certificate, which counts where a request brings no key.
    private func caller(_ certificate: ClientCertificate?, _ ring: KeyRing) throws(Problem) -> KeyRing.Caller?
    {
        guard let certificate, let caller = ring.caller(certificate: certificate) else { return nil }
        // A connection may live longer than the certificate it began with.
        guard wallSeconds() < Double(certificate.expires) else {
            throw refuse(.expiredKey, Problem(.unauthorized, "the client certificate has expired"))
        }
        return try unexpired(caller)
    }

    private func unexpired(_ caller: KeyRing.Caller) throws(Problem) -> KeyRing.Caller {
        guard let expires = caller.expires, wallSeconds() >= expires else { return caller }
        throw refuse(.expiredKey, Problem(.unauthorized, "the API key has expired"))
    }

    /// The different keys that a request brings, as `Authorization: Bearer` or `X-Api-Key`.
    private static func keys(_ headers: HTTPHeaders) -> Set<String> {
        var keys = Set(RequestHeaders.values(of: "X-Api-Key", headers))
        for value in RequestHeaders.values(of: "Authorization", headers) {
            let scheme = value.prefix { $0 != " " }
            guard scheme.lowercased() == "bearer" else { continue }
            keys.insert(String(value.dropFirst(scheme.count).drop { $0 == " " }))
        }
        return keys
    }

    /// Whether a request was made on this machine, by a program rather than by a web page or for somebody
    /// behind a proxy.
    static func isFromHere(_ request: HTTPRequest) -> Bool {
        let headers = request.headers
        guard request.isLoopback, headers.count(of: "Origin") == 0,
            forwarding.allSatisfy({ headers.count(of: $0) == 0 })
        else { return false }
        // A page may have its own name lead here; a browser then says that name. It never says none.
        guard let host = headers.first("Host") else { return true }
        let name = host.lowercased().prefix { $0 != ":" }
        if host.hasPrefix("[") { return host == "[::1]" || host.hasPrefix("[::1]:") }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return name == "localhost" || name.hasSuffix(".localhost")
            || parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }

    private static let forwarding = ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"]

    // MARK: - Figures

    private func refuse(_ refusal: Refusal, _ problem: Problem) -> Problem {
        refusals[refusal]?.add()
        return problem
    }

    /// Requests refused for a reason.
    func refused(_ refusal: Refusal) -> UInt64 { refusals[refusal]?.value ?? 0 }

    /// Those who may ask, with their counters.
    var callers: [KeyRing.Caller] {
        ring.withLock { ring in (ring?.callers ?? []) + [ring?.anonymous].compactMap { $0 } }
    }
}
