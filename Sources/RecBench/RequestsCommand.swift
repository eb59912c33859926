internal import ArgumentParser
internal import Artifacts
internal import JSON
internal import Kernels

/// Writes requests for a reference bundle: bodies of `POST /recommend`, one a line.
struct RequestsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "requests", abstract: "Writes requests for a reference bundle, users by Zipf's law.")

    @Option(help: "The bundle's folder.") var bundle: String
    @Option(help: "Requests to write.") var count = 2_000
    @Option(help: "Users to draw from, the bundle's when absent.") var users: Int?
    @Option(help: "Seed of the draw.") var seed: UInt64 = 1
    @Option(help: "The file to write.") var out: String

    func validate() throws {
        guard (1...10_000_000).contains(count), users.map({ $0 > 0 }) ?? true else {
            throw ValidationError("Every size must be at least 1.")
        }
    }

    func run() throws {
        let manifest = try BundleFolder.manifest(of: bundle)
        guard let known = manifest.users?.count, known > 0 else {
            throw ValidationError("The bundle has no users.")
        }
        let ranks = ZipfRanks(count: min(users ?? known, known))
        var random = GaussianRandom(seed: seed, name: "requests")
        var lines: [UInt8] = []
        for _ in 0..<count {
            let user = ranks.row(rank: ranks.rank(random.uniform()))
            var json = JSONWriter()
            json.beginObject()
            json.key("user_id")
            json.value(ReferenceBundle.userID(user))
            json.key("now")
            json.value(ReferenceShape.now)
            json.key("n")
            json.value(100)
            json.key("context")
            json.beginObject()
            json.key("device")
            json.value(ReferenceShape.devices[random.integer(below: ReferenceShape.devices.count)])
            json.key("hour")
            json.value(random.integer(below: 24))
            json.endObject()
            json.key("exclude_seen")
            json.value(false)
            json.key("fields")
            json.beginArray()
            json.endArray()
            json.key("deadline_ms")
            json.value(10_000)
            json.key("degrade")
            json.value("never")
            json.endObject()
            lines.append(contentsOf: json.bytes)
            lines.append(0x0A)
        }
        try AtomicFile.write(lines, to: out)
    }
}
