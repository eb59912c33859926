import Artifacts
import HTTP
import Logging
import Threading

/// The TLS listener's certificates, as the settings name them; read again on SIGHUP.
final class Certificates: Sendable {
    let context: TLSContext
    /// Readings on SIGHUP.
    let reloads = Counter()
    let refusedReloads = Counter()

    /// What the settings say; nil without a TLS port or a certificate.
    /// - Throws: what is wrong with them, or with a file.
    init?(_ configuration: Configuration, logger: Logger) throws(Configuration.Invalid) {
        guard
            configuration.integer("tls_port") >= 0 || !configuration.text("tls_certificate_file").isEmpty
        else { return nil }
        let settings = try Self.settings(configuration)
        do throws(HTTPError) {
            context = try TLSContext(settings)
        } catch {
            throw Configuration.Invalid(description: Self.text(error))
        }
        report(logger)
    }

    /// Reads the files again; when anything is wrong with them, the certificates stay as they are.
    func reload(logger: Logger) {
        do throws(HTTPError) {
            try context.reload()
            reloads.add()
            report(logger)
        } catch {
            refusedReloads.add()
            logger.error(
                "the certificates were refused, those before stay",
                metadata: ["reason": "\(Self.text(error))"])
        }
    }

    /// Days until the first certificate expires; below 0 afterwards.
    var remainingDays: Double { (Double(context.expires) - Double(WallClock.seconds)) / 86_400 }

    private func report(_ logger: Logger) {
        let days = remainingDays
        logger.info("certificates", metadata: ["days_left": "\(Int(days.rounded(.down)))"])
        if days <= 0 { logger.warning("a certificate has expired") }
        for identity in context.settings.identities where Self.isOpenToOthers(identity.keyFile) {
            logger.warning(
                "everybody on this machine may read a private key", metadata: ["file": "\(identity.keyFile)"])
        }
    }

    private static func isOpenToOthers(_ file: String) -> Bool {
        let file = try? FileBytes(path: file, name: file, maximum: 1 << 20, followsLinks: true)
        return file?.isOpenToOthers ?? false
    }

    private static func text(_ error: HTTPError) -> String {
        guard case .tls(let file, let reason) = error else { return "TLS: \(error)" }
        return file.isEmpty ? "TLS: \(reason)" : "TLS: \(file): \(reason)"
    }

    private static func settings(_ configuration: Configuration) throws(Configuration.Invalid)
        -> TLSContext.Settings
    {
        func files(_ name: String) throws(Configuration.Invalid) -> [String] {
            let files = configuration.text(name).split(separator: ":").map(String.init)
            // One RSA key and one of an elliptic curve.
            guard (1...2).contains(files.count) else {
                throw Configuration.Invalid(
                    description: "\(name): a TLS port needs one file, or two of different kinds of key")
            }
            return files
        }
        let (certificates, keys) = (try files("tls_certificate_file"), try files("tls_key_file"))
        guard certificates.count == keys.count else {
            throw Configuration.Invalid(
                description: "tls_key_file: expected as many files as tls_certificate_file names")
        }
        var settings = TLSContext.Settings(
            identities: zip(certificates, keys).map { .init(certificateFile: $0, keyFile: $1) })
        settings.minimumVersion = .init(rawValue: configuration.text("tls_min_version")) ?? .v12
        settings.clientAuthentication = .init(rawValue: configuration.text("tls_client_auth")) ?? .none
        let authorities = configuration.text("tls_client_ca_file")
        settings.clientAuthorityFile = authorities.isEmpty ? nil : authorities
        guard settings.clientAuthentication == .none || !authorities.isEmpty else {
            throw Configuration.Invalid(description: "tls_client_ca_file: tls_client_auth needs it")
        }
        settings.ticketRotation = .seconds(configuration.integer("tls_ticket_rotation_s"))
        return settings
    }
}
