// Package kafka is the driver for queues on Kafka, over franz-go. It needs Kafka
// 2.4 and is tested with one and three brokers of Kafka 4.4 (KRaft).
//
// Importing it registers this URL with package queue:
//
//	kafka://[USER[:PASSWORD]@]HOST[:PORT][,HOST...]
//
// Parameters:
//
//	queue_type     of the queues that are declared: ordered or share (ordered)
//	timeout        of connecting, and how long an answer of a broker may take (10s)
//	publish_for    for how long an unconfirmed message is sent again (30s)
//	session        after how long of silence a client loses its partitions (10s)
//	drain          how long a partition that is to be given up waits for what is in flight (15s)
//	partitions     of the topics that are declared (4)
//	replication    brokers that hold a declared topic (3, or all where there are fewer)
//	prefix         begins the name of the driver's own topic (lockkeeper.)
//	tls            true: TLS
//	ca_file        PEM certificates that TLS checks against, instead of the system's
//	sasl           how USER logs in: plain, scram-sha-256 or scram-sha-512 (plain)
//	password_file  file whose first line is the password
//
// prefix must be the same for all who use the same queues. New takes options of
// the client instead.
//
// # What maps to what
//
//   - An exchange is a topic of its name, and its messages stay there as long as
//     the topic keeps them: for anybody to read, also from the start. One that
//     exists is taken over, and not deleted with the exchange.
//   - A queue is a consumer group, NAME.N; N tells it from earlier ones of its
//     name. What is sent to the queue itself, by the default exchange, is in the
//     topic NAME.queue. Names that Kafka does not take are replaced by as much of
//     them as it takes, and a digest.
//   - A binding is evaluated by those who receive: a queue reads the topics of all
//     exchanges that it is bound to and leaves out what does not match. A binding
//     takes what is published after it was declared; once it is deleted, what was
//     not delivered yet does not match either.
//   - OrderKey is the key of the record. A key always comes to one partition.
//   - A publish returns when all in-sync replicas have the message in memory;
//     nobody syncs it. Topics that are declared have min.insync.replicas such
//     that more than half of their replicas are in sync: two of three. What was
//     confirmed outlives the loss of any one of three, and the others go on. A
//     topic that is taken over stays as it is, and so do its confirms. Who publishes looks at the bindings, too, for
//     Receipt.Queues and mandatory messages; that nobody is bound is asked for
//     each time. The producer is idempotent: what the client sends again is not
//     there twice. Below min.insync.replicas, and when nobody answers, a publish is
//     lease.ErrUnknown after publish_for.
//   - With one partition what is published first is delivered first. With
//     several that is so of messages with one key only (driver.Caps.FIFO).
//
// # Deliveries
//
// Messages with one order key are delivered one after the other, each when the
// one before it is settled for good; those of different keys at once, however
// many there are. What is settled may be so in any order. Committed is the
// offset before which everything in the partition is settled, at most 200 ms
// later: after a crash, messages behind one that was not settled come again.
// driver.Caps.ConfirmedAck is false.
//
// A message that failed stays where it is and is offered again after its delay:
// its partition is read on, and what is before it is committed. It is in memory
// meanwhile, as are its attempts: a client that gets the partition begins to
// count at 1 anew. So a message that kills every process that takes it is never
// dead-lettered. A dead letter is published and confirmed before the commit can
// pass the message it is a copy of: dying in between leaves a copy too many.
//
// Two bounds keep one message from filling the memory: at most 32 MiB of messages
// of a queue are read ahead, and no partition further than 4,194,304 messages
// past the first one that is not settled (Options.Buffer, Options.Span). At a
// bound reading waits.
//
// Leases are kept by the client that has the partition: one that has run out is
// a failed attempt. Tokens tell deliveries apart and grow as far as clocks agree.
//
// The two sections above and the next one are about ordered queues.
//
// # Work queues
//
// A queue that is declared with queue_type=share is a share group: its messages
// have no order, not even those of one key, and each is settled by itself at the
// broker. It stays what it was declared as, whoever receives from it. All brokers
// must have share groups that can renew, which is Kafka 4.2 or newer with the
// feature share.version; declaring is lease.ErrUnsupported otherwise. Messages
// with an order key are refused, and leases beyond MaxShareLease: a minute is the
// longest for which brokers lock a message by default, and what is locked for a
// client is its own until then. Declaring makes the settings of the group: from
// the start of its topics, committed messages only, a lock of MaxShareLease. What
// was published before the queue or its bindings were declared is read and left
// out.
//
// A delivery is the broker's acquisition of the message, and its attempts are
// those that the broker has counted (and those before the message was begun anew).
// Ack accepts it, Release releases it, Reject and a dead letter reject it, Extend
// renews its lock; each returns when the broker has confirmed it, and is
// lease.ErrNotHeld if the broker says that the lock was over. Several are one
// request, which the broker does or refuses as a whole: it is halved then until
// those stand alone that are refused. If the answer is lost it is lease.ErrUnknown.
// A session with a broker is one request at a time: a settlement waits for a look
// that is under way, for up to 20 ms while anything is in flight.
//
// The lease that was asked for is kept by the client, and is over when the broker's
// lock is at the latest; what runs out is released. What is to be tried again
// later stays locked until then, renewed by the client that has it: it counts
// against how many messages the brokers lock in a partition (2,000 by default). A
// client that is closed, or whose connections are lost, gives back what it had;
// others get it once the group has given them its partitions, for which brokers
// wait 45 s by default after a client that did not say farewell. What is handed
// back in any way counts as an attempt (driver.Caps.FreeRelease).
//
// The group shares out the partitions: each is one client's, or several clients'
// where there are more of them than partitions. So a client that does not receive
// for a while, and is in the group still, holds up what is in its own.
//
// After a number of deliveries (share.delivery.count.limit, 5 by default) a broker
// forgets a message without a word. So the driver does not deliver one at the last
// two of them: it publishes a copy to the queue's own topic, with the attempts so far
// (lockkeeper-attempts), and accepts the original when that is confirmed. Queues
// need no limit, or one as high as they like; dying in between leaves a copy too
// many. A dead letter is likewise confirmed before the message is rejected. Only two
// clients that die one after the other, each between getting a message at the last
// two deliveries and its copy, lose it. A limit below 3 is refused.
//
// # Who has which partition
//
// A partition is one client's at a time: more clients than partitions are idle.
// Group membership is classic and cooperative. A client that is to give up a
// partition delivers nothing more of it, waits for what is in flight up to
// drain, commits, and forgets the rest, whose settlement is lease.ErrNotHeld from
// then on. A client that was silent for a session has lost its partitions: it
// commits nothing for them, and settling what it had is lease.ErrNotHeld as
// soon as it knows. Until then, a client that was stopped or cut off may take a
// settlement for good while another has the message:
// driver.Caps.DeliveryFence is false. A client from which nobody receives leaves
// the group, at once when the last consumer detaches, or after the queue's lease
// and timeout.
//
// # The record
//
// The topology is in the topic PREFIXtopology, which has one partition: each
// message is the whole of it, and says from which version it was made. The first
// one made from a version is the next version. All clients read it as it grows.
//
// # What is refused
//
// With lease.ErrUnsupported: delays and schedules (a partition is read in its
// order), a window of dedup,
// alternates, bindings between exchanges, streams, commits, peek, statistics,
// purge, deleting a queue if it is empty; and of the policies of a queue
// priorities, TTLs, bounds, a single active consumer, exclusive and auto-delete.
// Message.TTL and Priority are passed on, and nothing acts upon them. A redrive
// moves what is in the partitions that this client has or is given.
//
// # For clients of other languages
//
// The body is the value of the record, untouched. Headers are headers of the
// record: texts as they are, other types as text; those are in
// lockkeeper-headers once more, as JSON with their types. Properties are headers,
// too, as text, and left out if they are empty:
//
//	lockkeeper-id                Message.ID
//	lockkeeper-key               the routing key, of what went through an exchange
//	lockkeeper-content-type      and -content-encoding, -correlation-id, -reply-to,
//	                             -type, -app-id, -user-id
//	lockkeeper-timestamp         in seconds since 1970
//	lockkeeper-priority
//	lockkeeper-ttl               in milliseconds
//	lockkeeper-attempts          of what a work queue has begun anew; and
//	lockkeeper-exchange          the exchange that it came by
//	lockkeeper-death-...         of a dead letter, see driver.HeaderDeathReason
//	lockkeeper-first-...
//
// A record without lockkeeper-key in an exchange's topic has its key as routing
// key. Only committed records of transactions are read.
package kafka
