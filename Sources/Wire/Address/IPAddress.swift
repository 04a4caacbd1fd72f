/// An IPv4 or IPv6 address, held as 128 bits without allocation.
///
/// IPv4 addresses keep their own family: they are never turned into IPv4-mapped IPv6 addresses.
public struct IPAddress: Hashable, Sendable, BitwiseCopyable {
    /// The address family.
    public enum Family: UInt8, Sendable, BitwiseCopyable {
        case v4 = 4
        case v6 = 6
    }

    /// Bytes 0 to 7 of an IPv6 address as a big-endian number; 0 for IPv4.
    public let high: UInt64
    /// Bytes 8 to 15 of an IPv6 address as a big-endian number; the 32-bit address for IPv4.
    public let low: UInt64
    /// IPv4 or IPv6.
    public let family: Family

    /// An IPv4 address from its 32 bits, the first octet the most significant.
    @inlinable
    public init(v4 bits: UInt32) {
        high = 0
        low = UInt64(bits)
        family = .v4
    }

    /// An IPv6 address from its two halves, each read as a big-endian number.
    @inlinable
    public init(v6High high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
        family = .v6
    }

    /// 127.0.0.1.
    public static let loopbackV4 = IPAddress(v4: 0x7F00_0001)

    /// 0.0.0.0.
    @inlinable public static var unspecified: IPAddress { IPAddress(v4: 0) }

    /// Whether this is 127.0.0.0/8 or ::1.
    public var isLoopback: Bool {
        switch family {
        case .v4: low >> 24 == 127
        case .v6: high == 0 && low == 1
        }
    }

    /// Whether this is 0.0.0.0 or ::.
    public var isUnspecified: Bool { high == 0 && low == 0 }
}

/// A UDP endpoint: an IP address and a port.
public struct SocketAddress: Hashable, Sendable, BitwiseCopyable {
    /// The IP address.
    public let ip: IPAddress
    /// The port, in host byte order.
    public let port: UInt16

    @inlinable
    public init(ip: IPAddress, port: UInt16) {
        self.ip = ip
        self.port = port
    }
}
