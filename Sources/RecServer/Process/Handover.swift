import HTTP
import JSON
import Threading

/// What a process leaves to the one that goes on in its place: the sockets it listens on, the lock of the
/// user state, and a channel between the two.
struct Handover: Sendable {
    /// What the processes tell each other, in this order.
    enum Message: UInt8 {
        /// New to old: the bundle is loaded, nothing serves yet.
        case loaded = 0x4C
        /// Old to new: serve; both have the user state from here on.
        case serve = 0x53
        /// New to old: connections are accepted.
        case serves = 0x52
        /// Old to new: the service manager counts on you.
        case isMain = 0x4D
    }

    /// Sockets that listen on one address.
    struct Listening: Sendable, Equatable {
        /// Which server they are of.
        let server: String
        /// What `name(of:)` says.
        let address: String
        let descriptors: [Int32]
    }

    /// The process that hands over.
    let parent: Int32
    let channel: Int32
    /// The descriptor of the user state's lock; nil without any.
    let stateLock: Int32?
    let listening: [Listening]

    /// The environment variable that a process finds this in.
    static let variable = "RECSERVER_HANDOVER"
    private static let bytesMaximum = 65_536

    /// The descriptors that the new process needs.
    var descriptors: [Int32] { [channel] + [stateLock].compactMap { $0 } + listening.flatMap(\.descriptors) }

    /// What both processes call a listener: its address as the settings have it, or that the service manager
    /// has opened it; and whether it speaks TLS.
    static func name(of listener: HTTPListener) -> String {
        if case .inherited = listener.address { return activatedName(isSecure: listener.tls != nil) }
        return listener.address.description + (listener.tls == nil ? "" : secureSuffix)
    }

    private static let secureSuffix = " tls"
    private static func activatedName(isSecure: Bool) -> String {
        "activated" + (isSecure ? secureSuffix : "")
    }

    // MARK: - In the old process

    /// The variable's value.
    var encoded: String {
        var json = JSONWriter()
        json.beginObject()
        json.key("parent")
        json.value(Int(parent))
        json.key("channel")
        json.value(Int(channel))
        if let stateLock {
            json.key("state_lock")
            json.value(Int(stateLock))
        }
        json.key("listening")
        json.beginArray()
        for one in listening {
            json.beginObject()
            json.key("server")
            json.value(one.server)
            json.key("address")
            json.value(one.address)
            json.key("descriptors")
            json.beginArray()
            for descriptor in one.descriptors { json.value(Int(descriptor)) }
            json.endArray()
            json.endObject()
        }
        json.endArray()
        json.endObject()
        return String(decoding: json.bytes, as: UTF8.self)
    }

    /// The environment of the new process: this one's, without what was meant for this one alone.
    func environment(_ own: [String] = ProcessEnvironment.all) -> [String] {
        let left = [Self.variable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"]
        return own.filter { entry in !left.contains { entry.hasPrefix($0 + "=") } }
            + ["\(Self.variable)=\(encoded)"]
    }

    // MARK: - In the new process

    /// What was left to this process; nil where it was not started to take over.
    /// - Throws: where it was, but what it was left is not there.
    static func found(
        _ text: String? = ProcessEnvironment.value(variable), parent: Int32 = ChildProcess.parentID
    ) throws(Configuration.Invalid) -> Handover? {
        guard let text else { return nil }
        guard text.utf8.count <= bytesMaximum, let handover = Self(text) else {
            throw Configuration.Invalid(description: "\(variable): malformed")
        }
        // A process that inherited the variable from further back has inherited no descriptors.
        guard handover.parent == parent else { return nil }
        for descriptor in handover.descriptors where !InheritedDescriptor.adopt(descriptor) {
            throw Configuration.Invalid(description: "\(variable): there is no descriptor \(descriptor)")
        }
        for descriptor in handover.listening.flatMap(\.descriptors)
        where !InheritedDescriptor.isListening(descriptor) {
            throw Configuration.Invalid(description: "\(variable): descriptor \(descriptor) does not listen")
        }
        return handover
    }

    init(parent: Int32, channel: Int32, stateLock: Int32?, listening: [Listening]) {
        self.parent = parent
        self.channel = channel
        self.stateLock = stateLock
        self.listening = listening
    }

    /// Reads what `encoded` wrote.
    init?(_ text: String) {
        guard let document = try? JSONParser.parse(Array(text.utf8), depthMaximum: 6),
            case .object(let object) = document, let parent = Self.number(object["parent"]),
            let channel = Self.number(object["channel"]), case .array(let list) = object["listening"]
        else { return nil }
        var listening: [Listening] = []
        for case .object(let one) in list {
            guard case .string(let server) = one["server"], case .string(let address) = one["address"],
                case .array(let descriptors) = one["descriptors"]
            else { return nil }
            listening.append(
                Listening(server: server, address: address, descriptors: descriptors.compactMap(Self.number)))
        }
        self.init(
            parent: parent, channel: channel, stateLock: Self.number(object["state_lock"]),
            listening: listening)
    }

    private static func number(_ value: JSONValue?) -> Int32? {
        guard case .integer(let number) = value else { return nil }
        return Int32(exactly: number)
    }

    /// The sockets that the service manager has opened for an earlier process.
    var activated: InheritedSockets {
        func descriptors(_ server: String, isSecure: Bool = false) -> [Int32] {
            let name = Self.activatedName(isSecure: isSecure)
            return listening.filter { $0.server == server && $0.address == name }.flatMap(\.descriptors)
        }
        var sockets = InheritedSockets()
        sockets.http = descriptors("main")
        sockets.https = descriptors("main", isSecure: true)
        sockets.admin = descriptors("admin")
        return sockets
    }

    /// A server's listeners, on the sockets that were left to this process where there are some of the
    /// address.
    func adopted(_ listeners: [HTTPListener], of server: String) -> [HTTPListener] {
        var rest = listening.filter { $0.server == server }
        return listeners.map { listener in
            // Those have their sockets already.
            if case .inherited = listener.address { return listener }
            guard let index = rest.firstIndex(where: { $0.address == Self.name(of: listener) }) else {
                return listener
            }
            var adopted = listener
            adopted.address = .inherited(descriptors: rest.remove(at: index).descriptors)
            return adopted
        }
    }

    /// Lets go of sockets that no listener of the settings asks for any more.
    func closeRest(_ servers: [(name: String, listeners: [HTTPListener])]) {
        var taken: Set<Int32> = []
        for (name, listeners) in servers {
            for case .inherited(let descriptors) in adopted(listeners, of: name).map(\.address) {
                taken.formUnion(descriptors)
            }
        }
        for descriptor in listening.flatMap(\.descriptors) where !taken.contains(descriptor) {
            HTTPServer.close(descriptor: descriptor)
        }
    }
}
