/// Where a server listens, and how it speaks there.
public struct HTTPListener: Sendable {
    /// A place to listen.
    public enum Address: Sendable, Equatable {
        /// A numeric IPv4 or IPv6 address, or `localhost`; port 0 picks a free one.
        case tcp(host: String, port: UInt16)
        /// A Unix socket whose file gets the permissions `mode`, at most 107 bytes long. The file of a socket
        /// that nobody listens on any more is replaced.
        case unix(path: String, mode: UInt32)
        /// Sockets that listen already, all on one address: several where each loop of the process they come
        /// from had its own. The server owns them from its start on.
        case inherited(descriptors: [Int32])

        /// One socket that listens already.
        public static func inherited(descriptor: Int32) -> Address { .inherited(descriptors: [descriptor]) }

        /// The port of a TCP address.
        public var port: UInt16? {
            guard case .tcp(_, let port) = self else { return nil }
            return port
        }
    }

    /// The place.
    public var address: Address
    /// Connections speak TLS, with these certificates; nil for plain ones.
    public var tls: TLSContext?
    /// Every connection begins with a PROXY header of version 2, from a peer that may speak for others.
    public var takesProxyHeader = false
    /// The file of a Unix socket goes when the server listens no more; that of an inherited one stays unless
    /// this is set.
    public var removesSocketFile: Bool

    /// A listener at `address`.
    public init(_ address: Address) {
        self.address = address
        removesSocketFile = if case .unix = address { true } else { false }
    }
}

extension HTTPListener.Address: CustomStringConvertible {
    /// `host:port`, `unix:path`, or `fd:3,4`.
    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path, _): "unix:\(path)"
        case .inherited(let descriptors): "fd:" + descriptors.map(String.init).joined(separator: ",")
        }
    }
}

/// What a connection knows of the listener it came from.
final class ListenerProperties: Sendable {
    let takesProxyHeader: Bool
    let tls: TLSContext?

    init(_ listener: HTTPListener) {
        takesProxyHeader = listener.takesProxyHeader
        tls = listener.tls
    }
}
