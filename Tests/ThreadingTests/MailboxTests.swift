import Glibc
import Testing
import Threading

struct MailboxTests {
    /// How often the mailbox has signalled since the last call.
    private func wakeUps(_ mailbox: Mailbox<Int>) -> UInt64 {
        var count: UInt64 = 0
        let bytes = unsafe read(mailbox.wakeUpDescriptor, &count, 8)
        return bytes == 8 ? count : 0
    }

    @Test func `mail arrives in order and once`() throws {
        let mailbox = try Mailbox<Int>()
        mailbox.send(1)
        mailbox.send(2)
        var batch: [Int] = []
        mailbox.drain(into: &batch)
        #expect(batch == [1, 2])
        batch.removeAll()
        mailbox.drain(into: &batch)
        #expect(batch.isEmpty)
    }

    @Test func `a loop that is awake is not woken`() throws {
        let mailbox = try Mailbox<Int>()
        mailbox.send(1)
        #expect(wakeUps(mailbox) == 0)
        #expect(!mailbox.prepareToSleep())
    }

    @Test func `a sleeping loop is woken once for many messages`() throws {
        let mailbox = try Mailbox<Int>()
        #expect(mailbox.prepareToSleep())
        for number in 0..<5 { mailbox.send(number) }
        #expect(wakeUps(mailbox) == 1)
        mailbox.didWake()
        var batch: [Int] = []
        mailbox.drain(into: &batch)
        #expect(batch == [0, 1, 2, 3, 4])
    }

    @Test func `nothing sent by other threads is lost to a loop that sleeps between`() throws {
        let mailbox = try Mailbox<Int>()
        let senders = try (0..<3).map { sender in
            try NamedThread(name: "sender-\(sender)") {
                for number in 0..<2_000 { mailbox.send(sender * 2_000 + number) }
            }
        }
        var received: [Int] = []
        var batch: [Int] = []
        while received.count < 6_000 {
            if mailbox.prepareToSleep() {
                var waiting = pollfd(fd: mailbox.wakeUpDescriptor, events: Int16(POLLIN), revents: 0)
                let ready = unsafe poll(&waiting, 1, 10_000)
                #expect(ready == 1)
                guard ready == 1 else { break }
                _ = wakeUps(mailbox)
            }
            mailbox.didWake()
            mailbox.drain(into: &batch)
            received += batch
            batch.removeAll(keepingCapacity: true)
        }
        for thread in senders { thread.join() }
        #expect(received.sorted() == Array(0..<6_000))
    }
}
