import Testing
import Wire

/// RFC 5769: test vectors for STUN.
@Suite struct STUNTests {
    /// §2.1, password "VOkJxbRl1RmTxUk/WvJxBt".
    static let request = hex(
        """
        000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff
        80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
        80280004e57a3bcf
        """
    )
    /// §2.2
    static let responseV4 = hex(
        """
        0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643
        000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96
        """
    )
    /// §2.3
    static let responseV6 = hex(
        """
        010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147
        0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c
        """
    )

    @Test func readsTheRequestOfRFC5769() throws {
        let message = try STUNMessage(Self.request)
        #expect(message.messageClass == .request)
        #expect(message.method == STUNMessage.bindingMethod)
        #expect(message.transactionID == .init(high: 0xb7e7_a701_bc34_d686, low: 0xfa87_dfae))
        #expect(message.priority == 0x6e00_01ff)
        #expect(message.controlled == 0x932f_f9b1_5126_3b36)
        let names = ["evtj", "evt", "evtj:h6vY", ""].map { message.hasUsernamePrefix($0, in: Self.request.span.bytes) }
        #expect(names == [true, false, false, false])
        #expect(message.hasFingerprint)
        #expect(message.integrity?.length == 20)
    }

    @Test func readsTheAddressesOfRFC5769() throws {
        let v4 = try STUNMessage(Self.responseV4)
        #expect(v4.mappedAddress?.description == "192.0.2.1:32853")
        let v6 = try STUNMessage(Self.responseV6)
        #expect(v6.mappedAddress?.description == "[2001:db8:1234:5678:11:2233:4455:6677]:32853")
    }

    @Test func writesTheAddressAndFingerprintThatItReads() throws {
        for text in ["192.0.2.1", "2001:db8:1234:5678:11:2233:4455:6677"] {
            let address = SocketAddress(ip: try #require(IPAddress(text)), port: 32853)
            var builder = STUNBuilder(.success, transactionID: .init(high: 0xb7e7_a701_bc34_d686, low: 0xfa87_dfae))
            builder.addXORMappedAddress(address)
            builder.addFingerprint()
            let bytes = builder.finish()
            let message = try STUNMessage(bytes)
            #expect(message.mappedAddress == address)
            #expect(message.hasFingerprint)
        }
    }

    @Test func refusesEveryTruncation() {
        for length in 0..<Self.request.count {
            let part = Array(Self.request.prefix(length))
            #expect(throws: STUNError.self) { try STUNMessage(part) }
        }
    }

    @Test func refusesEveryChangedBitByItsFingerprint() {
        for offset in Self.request.indices {
            var bytes = Self.request
            bytes[offset] ^= 0x10
            // A change in a type can hide the fingerprint itself: then it isn't there.
            if let message = try? STUNMessage(bytes) { #expect(!message.hasFingerprint) }
        }
    }

    @Test func tellsOfARequiredAttributeThatItDoesNotKnow() throws {
        var bytes = hex("0001 0004 2112a442 000000000000000000000000 7fff 0000")
        #expect(try STUNMessage(bytes).unknownRequiredAttribute == 0x7fff)
        bytes = hex("0001 0004 2112a442 000000000000000000000000 ffff 0000")
        #expect(try STUNMessage(bytes).unknownRequiredAttribute == nil)
    }
}
