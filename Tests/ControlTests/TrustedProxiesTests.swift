import Testing
import Wire

@testable import Control

private let unclear = "unclear, behind 127.0.0.1"

/// Whom proxies speak for; `Tests/EndToEnd/test_connections.py` has the same over sockets.
@Suite struct TrustedProxiesTests {
    private static let proxies = TrustedProxies(
        ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].compactMap { IPNetwork($0) }
    )

    private static func client(
        _ peer: String = "127.0.0.1",
        forwardedFor: [String] = [],
        forwarded: [String] = []
    ) -> String {
        proxies.client(peer: peer, forwardedFor: forwardedFor, forwarded: forwarded)
    }

    @Test(arguments: [
        ("10.0.0.0/8", "10.255.255.255", true), ("10.0.0.0/8", "11.0.0.0", false), ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.1.2.4", false), ("0.0.0.0/0", "203.0.113.1", true), ("0.0.0.0/0", "::1", false),
        ("192.0.2.128/25", "192.0.2.127", false), ("192.0.2.128/25", "192.0.2.255", true),
        ("2001:db8::/32", "2001:db8:ffff::1", true), ("2001:db8::/32", "2001:db9::", false),
        ("2001:db8::1", "2001:db8::1", true), ("2001:db8::/64", "2001:db8:0:1::", false),
        ("2001:db8::/65", "2001:db8::7fff:0:0:1", true), ("2001:db8::/65", "2001:db8::8000:0:0:1", false),
        ("::/0", "2001:db8::1", true), ("::ffff:10.0.0.1", "10.0.0.1", true), ("10.0.0.1", "::ffff:10.0.0.1", true),
    ])
    func networks(network: String, address: String, isIn: Bool) throws {
        #expect(TrustedProxies([try #require(IPNetwork(network))]).contains(address) == isIn)
    }

    @Test(arguments: [
        "", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "10.0.0/8", "::/129", "10.0.0.0/8/8", "all", "::/+8",
    ])
    func whatIsNoNetwork(text: String) { #expect(IPNetwork(text) == nil) }

    @Test func onlyTrustedProxiesAreBelieved() {
        #expect(Self.client("203.0.113.1", forwardedFor: ["198.51.100.1"]) == "203.0.113.1")
        #expect(Self.client("203.0.113.1", forwarded: ["for=198.51.100.1"]) == "203.0.113.1")
        #expect(Self.client() == "127.0.0.1")
        #expect(Self.client(forwardedFor: ["198.51.100.1"]) == "198.51.100.1")
        #expect(Self.client("::ffff:127.0.0.1", forwardedFor: ["198.51.100.1"]) == "198.51.100.1")
        #expect(Self.client("fd00::1%eth0", forwardedFor: ["198.51.100.1"]) == "198.51.100.1")
        #expect(TrustedProxies([]).client(peer: "127.0.0.1", forwardedFor: ["1.2.3.4"], forwarded: []) == "127.0.0.1")
    }

    @Test func theRightmostThatIsNoProxyIsTheClient() {
        #expect(Self.client(forwardedFor: ["1.1.1.1, 198.51.100.1, 10.0.0.5,10.0.0.6"]) == "198.51.100.1")
        #expect(Self.client(forwardedFor: ["1.1.1.1", "198.51.100.1", "10.0.0.5"]) == "198.51.100.1")
        #expect(Self.client(forwarded: ["for=1.1.1.1, for=198.51.100.1;proto=http", "for=10.0.0.5"]) == "198.51.100.1")
        // All of them proxies: the first of them asked.
        #expect(Self.client(forwardedFor: ["10.0.0.9, 10.0.0.5"]) == "10.0.0.9")
    }

    @Test(arguments: [
        ("198.51.100.1:4711", "198.51.100.1"), ("[2001:db8::1]:4711", "2001:db8::1"), ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"), ("\t198.51.100.1 ", "198.51.100.1"), ("::ffff:198.51.100.1", "198.51.100.1"),
        // What is no address is the proxy's word for nobody.
        ("unknown", unclear), ("_hidden", unclear), ("", unclear), ("198.51.100.1,", unclear),
        ("198.51.100.1, nonsense", unclear), ("198.51.100.1:", unclear), ("198.51.100.1:123456", unclear),
        ("198.51.100.1:x", unclear), ("[198.51.100.1]", unclear), ("[2001:db8::1", unclear),
        ("[2001:db8::1]x", unclear), ("198.51.100.1 10.0.0.1", unclear), ("198.51.100.256", unclear),
        ("nonsense, 198.51.100.1", "198.51.100.1"), ("198.51.100.1, nonsense, 10.0.0.5", "unclear, behind 10.0.0.5"),
    ])
    func addressesInXForwardedFor(value: String, client: String) {
        #expect(Self.client(forwardedFor: [value]) == client)
    }

    /// RFC 7239 §4 and §7.1.
    @Test(arguments: [
        ("for=198.51.100.1", "198.51.100.1"), ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
        ("for=192.0.2.43;proto=http;by=203.0.113.43", "192.0.2.43"),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        ("proto=https;for=192.0.2.43", "192.0.2.43"), ("for=\"192.0.2.43:80\"", "192.0.2.43"),
        ("for=\"[2001:db8::1]:_port\"", "2001:db8::1"), ("for=192.0.2.43;host=\"a,b;for=1.1.1.1\"", "192.0.2.43"),
        ("host=\"\\\",for=1.1.1.1\";for=192.0.2.43", "192.0.2.43"),
        ("for=unknown", unclear), ("for=_gazonk", unclear), ("for=\"_gazonk\"", unclear),
        ("proto=https", unclear),
        ("for=192.0.2.43, proto=https", unclear), ("for=192.0.2.43;for=192.0.2.44", unclear),
        ("for=\"192.0.2.43", unclear), ("for=192.0.2.43\"", unclear), ("192.0.2.43", unclear),
        ("for=", unclear), ("for=192.0.2.43,", unclear), ("for =192.0.2.43", "192.0.2.43"),
    ])
    func addressesInForwarded(value: String, client: String) {
        #expect(Self.client(forwarded: [value]) == client)
    }

    /// A client's own word in the header that its proxy doesn't write makes it nobody else, and its proxy neither: the host's own
    /// requests have the proxy's address too.
    @Test(arguments: [
        "for=198.51.100.2", "for=127.0.0.1", "for=10.0.0.5", "nonsense", "", "for=_hidden",
        "for=198.51.100.1, nonsense",
        "nonsense, for=10.0.0.5", "for=198.51.100.1, for=198.51.100.2",
    ])
    func headersThatDisagreeAreNotBelieved(forwarded: String) {
        #expect(Self.client(forwardedFor: ["198.51.100.1"], forwarded: [forwarded]) == unclear)
        #expect(Self.client("::ffff:127.0.0.1", forwardedFor: ["198.51.100.1"], forwarded: [forwarded]) == unclear)
    }

    @Test func headersThatAgreeAreBelieved() {
        #expect(Self.client(forwardedFor: ["198.51.100.1"], forwarded: ["for=198.51.100.1"]) == "198.51.100.1")
    }

    /// One name for each proxy, which no client has for its address.
    @Test func unclearClientsHaveANameOfTheirOwn() {
        let other = Self.client("fd00::1%eth0", forwardedFor: ["198.51.100.1"], forwarded: ["for=198.51.100.2"])
        #expect(other == "unclear, behind fd00::1" && other != unclear)
        for name in [other, unclear] { #expect(ClientAddress.network(of: name) == name) }
    }
}
