import Commands
import Testing
import Wire

@testable import Worker

/// What is asked of a worker is answered, whenever it is asked.
@Suite struct MailboxTests {
    /// Every question that there is, with what counts its answers.
    private static func questions(_ answers: Locked<Int>) -> [Command] {
        let peer = PeerID(rawValue: 1)
        let credentials = ICECredentials(usernameFragment: "ufrag", password: "a password of an ICE agent")
        let count: @Sendable () -> Void = { answers.withLock { $0 += 1 } }
        return [
            .addPeer(
                PeerDescription(
                    id: peer,
                    localCredentials: credentials,
                    remoteCredentials: credentials,
                    dtlsRole: .passive,
                    remoteFingerprints: []
                )
            ) {
                #expect(!$0)
                count()
            },
            .restartICE(peer, local: credentials, remote: credentials) { _ in count() },
            .setPublished(peer, []) { _ in count() },
            .changeSubscriptions(peer, ending: [], beginning: []) { _ in count() },
            .takeAudioLevels { _ in count() },
            .takeQualityChanges { _ in count() },
            .snapshot(includingPeers: true) { _ in count() },
            .lastHeard(peer) { _ in count() },
        ]
    }

    @Test func whatWaitsWhenItIsClosedIsAnswered() {
        let answers = Locked(0)
        let mailbox = Mailbox()
        let questions = Self.questions(answers)
        for question in questions { mailbox.send(question) }
        #expect(answers.withLock { $0 } == 0)
        mailbox.close()
        #expect(answers.withLock { $0 } == questions.count)
    }

    @Test func whatComesAfterwardsIsAnsweredToo() {
        let answers = Locked(0)
        let mailbox = Mailbox()
        mailbox.close()
        let questions = Self.questions(answers)
        for question in questions { mailbox.send(question) }
        #expect(answers.withLock { $0 } == questions.count)
        // And nothing is kept.
        #expect(mailbox.take().commands.isEmpty)
    }

    /// An answer that asks the next question is not in its own way.
    @Test func anAnswerMayAsk() {
        let answers = Locked(0)
        let mailbox = Mailbox()
        mailbox.close()
        mailbox.send(.takeAudioLevels { _ in mailbox.send(.takeAudioLevels { _ in answers.withLock { $0 += 1 } }) })
        #expect(answers.withLock { $0 } == 1)
    }
}
