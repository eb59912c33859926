import Artifacts
import JSON
import Threading

/// The body of `GET /version`, made anew only when another version serves.
final class VersionAnswer: Sendable {
    /// This program's version.
    let server: String
    private let made = Lock<(changes: Int, body: [UInt8])?>(nil)

    init(server: String) { self.server = server }

    func body(_ service: RecommendService) -> [UInt8] {
        // Counted before it is read: a change in between makes the body stale, not wrong for ever.
        let changes = service.registry.changeCount
        if let body = made.withLock({ $0?.changes == changes ? $0?.body : nil }) { return body }
        let body = encoded(service)
        made.withLock { $0 = (changes, body) }
        return body
    }

    private func encoded(_ service: RecommendService) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("server")
        writer.value("recserver")
        writer.key("version")
        writer.value(server)
        writer.key("kernels")
        writer.value(service.settings.kernelLevel)
        if let assignment = service.registry.assignment(.default) {
            writer.key("bundle")
            write(assignment.bundle.snapshot, to: &writer)
        }
        writer.key("labels")
        writer.beginObject()
        for label in BundleLabel.allCases {
            guard let assignment = service.registry.assignment(label) else { continue }
            writer.key(label.rawValue)
            writer.value(assignment.bundle.modelVersion)
        }
        writer.endObject()
        writer.endObject()
        return writer.bytes
    }

    private func write(_ snapshot: Snapshot, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("model_version")
        writer.value(snapshot.manifest.modelVersion)
        writer.key("space_version")
        writer.value(snapshot.manifest.spaceVersion)
        writer.key("sha256")
        writer.value(snapshot.digest)
        writer.key("items")
        writer.value(snapshot.manifest.items.count)
        writer.key("index")
        writer.value(snapshot.indexName)
        writer.key("info")
        writer.value(snapshot.manifest.info)
        writer.endObject()
    }
}
