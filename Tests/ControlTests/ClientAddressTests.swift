import Testing

@testable import Control

@Suite struct ClientAddressTests {
    @Test(arguments: [
        ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("::1", "::/64"), ("::ffff:192.0.2.7", "192.0.2.7"), ("", ""),
    ])
    func limitsAreOfAnAddressOrAnIPv6Network(address: String, counted: String) {
        #expect(ClientAddress.network(of: address) == counted)
    }
}
