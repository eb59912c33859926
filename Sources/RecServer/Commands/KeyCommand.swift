import ArgumentParser
import Artifacts
import JSON
import Threading

/// `recserver key`
struct KeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "Make API keys.", subcommands: [NewKeyCommand.self])
}

/// `recserver key new NAME --roles read,events`
struct NewKeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new",
        abstract: "Print a new API key, which is kept nowhere, and its entry for the keys file.")

    @Argument(help: "Whose key it is: letters, digits, hyphens, dots, underscores.")
    var name: String

    @Option(help: "Roles, separated by commas: read, events, items, users, admin.")
    var roles: String

    @Option(help: "Requests a second.")
    var rate: Double?

    @Option(help: "Requests at once, where they are more than one second's.")
    var burst: Double?

    @Option(help: "Days after which the key is not taken any more.")
    var days: Int?

    func run() throws {
        var random = SystemRandomNumberGenerator()
        let key = (0..<4).map { _ in Self.hexadecimal(random.next()) }.joined()
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("name")
        writer.value(name)
        writer.key("sha256")
        writer.value(Digest.sha256(Array(key.utf8)))
        writer.key("roles")
        writer.beginArray()
        for role in roles.split(separator: ",") { writer.value(String(role)) }
        writer.endArray()
        for case let (member, number?) in [("rate", rate), ("burst", burst), ("expires", expires)] {
            writer.key(member)
            writer.value(number)
        }
        writer.endObject()
        do {
            _ = try KeyRing(json: Array("{\"keys\":[".utf8) + writer.bytes + Array("]}".utf8))
        } catch {
            StandardStream.error.write("recserver: \(error.description)\n")
            throw ExitCode(2)
        }
        StandardStream.output.write(Array((key + "\n").utf8) + writer.bytes + [0x0A])
    }

    private var expires: Double? { days.map { Double(WallClock.seconds) + 86_400 * Double($0) } }

    private static func hexadecimal(_ value: UInt64) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }
}
