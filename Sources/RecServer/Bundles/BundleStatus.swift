import Artifacts
import JSON

/// What `GET /bundles` answers: versions, labels, and loads.
struct BundleStatus {
    let registry: BundleRegistry
    let reaper: BundleReaper
    let loads: BundleLoads

    func encoded() -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("labels")
        writer.beginObject()
        for label in BundleLabel.allCases {
            guard let assignment = registry.assignment(label) else { continue }
            writer.key(label.rawValue)
            write(assignment, isPinned: registry.isPinned(label), to: &writer)
        }
        writer.endObject()
        writer.key("bundles")
        writer.beginArray()
        for bundle in registry.versions { write(bundle, to: &writer) }
        for draining in reaper.draining { write(draining, to: &writer) }
        writer.endArray()
        let (current, last) = loads.reports
        writer.key("loading")
        if let current { write(current, to: &writer) } else { writer.null() }
        writer.key("last_load")
        if let last { write(last, to: &writer) } else { writer.null() }
        writer.endObject()
        return writer.bytes
    }

    private func write(_ assignment: BundleRegistry.Assignment, isPinned: Bool, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("model_version", assignment.bundle.modelVersion)
        writer.member("sha256", assignment.bundle.digest)
        writer.key("share")
        writer.value(assignment.share)
        writer.key("pinned")
        writer.value(isPinned)
        writer.member("since", Timestamp.text(nanoseconds: assignment.since))
        if let previous = assignment.previous {
            writer.key("previous")
            writer.beginObject()
            writer.member("model_version", previous.modelVersion)
            writer.member("sha256", previous.digest)
            writer.member("path", previous.path)
            writer.key("loaded")
            writer.value(previous.bundle != nil)
            writer.endObject()
        }
        writer.endObject()
    }

    private func write(_ bundle: LoadedBundle, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("model_version", bundle.modelVersion)
        writer.member("space_version", bundle.snapshot.manifest.spaceVersion)
        writer.member("sha256", bundle.digest)
        writer.member("path", bundle.path)
        writer.member("state", "ready")
        writer.key("bytes")
        writer.value(bundle.byteCount)
        writer.key("items")
        writer.value(bundle.snapshot.manifest.items.count)
        writer.member("index", bundle.snapshot.indexName)
        writer.member("since", Timestamp.text(nanoseconds: bundle.readyAt))
        writer.key("labels")
        writer.beginArray()
        for label in BundleLabel.allCases where registry.assignment(label)?.bundle === bundle {
            writer.value(label.rawValue)
        }
        writer.endArray()
        writer.endObject()
    }

    private func write(_ draining: BundleReaper.Draining, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("model_version", draining.modelVersion)
        writer.member("sha256", draining.digest)
        writer.member("path", draining.path)
        writer.member("state", "draining")
        writer.key("bytes")
        writer.value(draining.byteCount)
        writer.member("since", Timestamp.text(nanoseconds: draining.since))
        writer.endObject()
    }

    private func write(_ report: BundleLoads.Report, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("path", report.order.path)
        writer.member("label", report.order.label.rawValue)
        writer.member("since", Timestamp.text(nanoseconds: report.since))
        if let result = report.result {
            writer.member("result", result.name)
            if let digest = result.digest { writer.member("sha256", digest) }
            if let refusal = result.refusal {
                writer.member("class", refusal.reason.rawValue)
                writer.member("detail", refusal.detail)
            }
            writer.key("seconds")
            writer.value(report.seconds)
        }
        writer.endObject()
    }
}

extension JSONWriter {
    fileprivate mutating func member(_ name: String, _ text: String) {
        key(name)
        value(text)
    }
}
