import HTTP

/// Where the daemon listens: what it inherits in place of the addresses that are set, and the Unix socket.
struct Listeners: Sendable {
    let main: [HTTPListener]
    let admin: [HTTPListener]
    /// Proxies that may say for whom they speak.
    let trusted: TrustedPeers

    /// Permissions of the Unix socket: for the daemon's user and group.
    static let socketMode: UInt32 = 0o660

    /// - Parameter tls: the certificates of the TLS port; nil without any.
    /// - Throws: the setting that is wrong, or that there is nowhere to listen.
    init(
        _ configuration: Configuration, _ inherited: InheritedSockets, tls: TLSContext? = nil
    ) throws(Configuration.Invalid) {
        trusted = try Self.trusted(configuration.text("trusted_proxies"))
        let takesProxyHeader = configuration.text("proxy_protocol") == "required"
        guard !takesProxyHeader || trusted != TrustedPeers() else {
            throw Configuration.Invalid(
                description: "proxy_protocol: trusted_proxies has to name the proxies")
        }
        var main = Self.listeners(
            inherited.http, configuration.text("host"), configuration.integer("port"))
        if let tls {
            let secure = Self.listeners(
                inherited.https, configuration.text("host"), configuration.integer("tls_port"))
            main += secure.map { listener in
                var listener = listener
                listener.tls = tls
                return listener
            }
        }
        for index in main.indices { main[index].takesProxyHeader = takesProxyHeader }
        let path = configuration.text("unix_socket")
        if !path.isEmpty { main.append(HTTPListener(.unix(path: path, mode: Self.socketMode))) }
        let hasCertificate = !configuration.text("tls_certificate_file").isEmpty
        guard hasCertificate || inherited.https.isEmpty else {
            throw Configuration.Invalid(description: "LISTEN_FDNAMES: https needs a tls_certificate_file")
        }
        guard !main.isEmpty || hasCertificate else {
            throw Configuration.Invalid(
                description: "port: without one there has to be a tls_port or a unix_socket")
        }
        self.main = main
        admin = Self.listeners(
            inherited.admin, configuration.text("admin_host"), configuration.integer("admin_port"))
    }

    /// The inherited sockets, or one at the address; none where its port is -1.
    private static func listeners(_ inherited: [Int32], _ host: String, _ port: Int) -> [HTTPListener] {
        guard inherited.isEmpty else { return inherited.map { HTTPListener(.inherited(descriptor: $0)) } }
        return UInt16(exactly: port).map { [HTTPListener(.tcp(host: host, port: $0))] } ?? []
    }

    /// Addresses and ranges between commas, and `unix` for those who connect to a Unix socket.
    private static func trusted(_ setting: String) throws(Configuration.Invalid) -> TrustedPeers {
        var peers = TrustedPeers()
        for element in setting.split(separator: ",") {
            let text = String(element.filter { $0 != " " })
            if text == "unix" {
                peers.includesUnix = true
            } else if let range = AddressRange(text) {
                peers.ranges.append(range)
            } else {
                throw Configuration.Invalid(
                    description: "trusted_proxies: \"\(text)\" is neither an address nor a range "
                        + "such as 10.0.0.0/8 or 2001:db8::/32, nor unix")
            }
        }
        return peers
    }
}
