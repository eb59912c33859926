// Sources: Sources/HTTP/ASCII.swift Sources/HTTP/NetworkAddress.swift Sources/HTTP/NetworkAddress+Text.swift
// Sources: Sources/HTTP/TrustedPeers.swift Sources/HTTP/ProxyHeader.swift Tests/HTTPTests/ProxyProperty.swift

/// One input: the beginning of a connection as a PROXY header, and as the text of addresses.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzProxy(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = ProxyProperty.violation(bytes) { fatalError(violation) }
    let text = String(decoding: bytes, as: UTF8.self)
    if let address = NetworkAddress(text), NetworkAddress(address.description) != address {
        fatalError("\(text) became \(address)")
    }
    _ = AddressRange(text)
    _ = TrustedPeers(includesUnix: true).client(forwardedFor: [text, text])
    return 0
}
