// Package rabbitmq is the driver for queues on RabbitMQ, over AMQP 0-9-1 alone:
// no plugin and no management interface is needed. It needs RabbitMQ 3.10 and
// is tested with 3.10.8, which Debian has: one broker under faults, and three of
// which one is killed under load. Nothing confirmed is lost then, and a queue with
// a single active consumer keeps its order; see "Order".
//
// Importing it registers these URLs with package queue:
//
//	amqp://[USER:PASSWORD@]HOST[:PORT][,HOST...][/VHOST]
//	amqps://...                                        over TLS
//
// Without USER it is guest with the password guest, without VHOST it is "/". Of
// several hosts one that answers is taken, another one each time. Parameters:
//
//	timeout        of connecting and of each request about topology (10s)
//	publish_for    for how long an unconfirmed message is sent again (30s)
//	heartbeat      a connection that is silent for three of them is lost (5s)
//	queue_type     of queues that are declared: quorum or classic (quorum)
//	prefix         begins the names of the driver's own queues (lockkeeper.)
//	password_file  file whose first line is the password
//	ca_file        PEM certificates that TLS checks against, instead of the system's
//
// prefix must be the same for all who use the same queues. New takes a function
// that makes the connections. A client has two: one publishes and declares, the
// other receives and settles, since a broker that is short of memory or disk
// stops reading from those who publish.
//
// # What maps to what
//
//   - Exchanges, bindings (also between exchanges) and alternates are
//     RabbitMQ's. All are durable.
//   - A queue is a durable quorum queue, or classic with queue_type. Messages
//     are persistent.
//   - A publish returns when the broker has confirmed it. At most 2,048 messages
//     of a client are unconfirmed, all over one channel, so in their order. Every
//     message is sent as mandatory: Receipt.Queues is 0 or 1.
//     A message that the broker refuses is sent again, four times in a third of a
//     second, and is lease.ErrUnknown then; what is behind it in its batch, on
//     the same route, is not sent, so that a batch that is published again keeps
//     its order. Later batches of a Publisher are.
//   - A delivery is an unacknowledged message of a channel. Its lease is kept by
//     the driver: one that has run out is failed by it. The broker has a limit of
//     its own, by default half an hour, after which it closes the channel: then
//     all of the channel's deliveries go back, however often they were extended.
//   - Ack is basic.ack, Release basic.nack, and Nack without a delay
//     basic.reject, with requeue. The acks of a consumer that reads ahead go
//     together where they can, after a millisecond at the latest, or two if an
//     earlier delivery is still with its handler.
//   - Nack with a delay or backoff is a copy in the ladder (below), and then an
//     ack. So is a dead letter: a copy on the dead letter's route, which is
//     mandatory and confirmed, and then an ack. A copy carries what the driver
//     needs in headers, see below.
//   - Receive takes messages one by one with basic.get, and subscribes for as long
//     as it has to wait. The consumers of package queue say how far they read
//     ahead (ReceiveRequest.Ahead), and get a subscription with that as its
//     prefetch.
//
// # Order
//
// A queue is first in, first out while one consumer has it, and loses no
// connection. When one is lost, its consumer may be back before the broker has
// put back what the old connection had, and a broker that has been away takes
// the consumers of before for live ones: seen with 3.10.8, after the restart of
// one of three nodes it gave every second message to a consumer that was gone
// for long, and to the live one only when later ones had been handled. So the
// order outlives faults only in a queue with a single active consumer
// (driver.Queue.SingleActive): the broker puts back, in order, what the old
// consumer had before the next gets anything. There is one order for the whole
// queue: an order for each of some keys is one such queue for each part of them.
//
// There a consumer has a subscription whatever it asks for, and 256 deliveries at
// most unless it says how far it reads ahead; a receive waits for 100 ms at least.
// What is released stays with the consumer, in its place, and is no attempt. An
// attempt that failed comes again behind what was read ahead. A consumer that
// detaches keeps its place until all that it was given is settled, and one that
// was not heard of for the queue's lease is detached.
//
// # The ladder
//
// A delayed message goes through one of the queues PREFIXdelay.N, which keep
// everything for N milliseconds and then hand it to the exchange PREFIXdue, to
// which its queue is bound. There are four of them for each doubling, made when
// they are first used: a message is never early, and late by a quarter of its
// delay at most, up to MaxDelay. They are quorum queues that dead-letter at
// least once, so that nothing is lost on the way. What is for a queue that is
// gone by then ends up in PREFIXlost. A delayed message must name its queue, and
// cannot be cancelled: what is in the ladder cannot be found.
//
// # The record
//
// AMQP has no way to ask what is declared, nor a place for leases, limits and
// backoffs. So the topology is also one message in the queue PREFIXtopology.
// Who reads or writes it holds the exclusive queue PREFIXlock meanwhile, which
// a lost connection lets go of. A queue that is not in the record, because
// another client declared it, can be used: it has a lease of 30 s, and neither a
// limit nor a dead letter. A policy is read when a queue is first used.
//
// # Attempts
//
// Delivery.Attempt is 1, and one more for each failed attempt in the header
// lockkeeper-attempts, and for each time that the broker had the message back
// (x-delivery-count of quorum queues). Before RabbitMQ 4.3 that includes
// releases (driver.Caps.FreeRelease). Classic queues count nothing: there what
// a dying consumer had is not counted as an attempt. A message past the limit
// goes to the dead letter when it is received next.
//
// # A lost connection
//
// The next call makes a new one. What was not confirmed is sent again, with the
// same id and in the same order, for publish_for; likewise if the broker
// confirms nothing for five seconds, as one whose queue has lost its leader: a message can then be there
// twice, and none that was confirmed is lost. (RabbitMQ 3.10 itself forgets a
// quorum queue with all that is in it if it is killed within three seconds of
// its declaration.) After publish_for a publish is
// lease.ErrUnknown, or lease.ErrUnavailable if nothing of it was sent.
// Deliveries of the lost connection are with the broker again; settling them is
// lease.ErrNotHeld, though their tags mean something on the new one. An ack that
// was under way may be lost, since AMQP confirms none: the message comes again.
// An ack of a delivery that somebody else has by now is not noticed by the
// broker if it was this connection's: driver.Caps.DeliveryFence is false. Tokens
// tell the deliveries of one connection apart and grow as far as clocks agree.
//
// # What is refused
//
// With lease.ErrUnsupported: a window of dedup, streams, schedules, commits, peek
// and statistics; a message with an order key (RabbitMQ keeps an order only
// where one consumer has all); a delay through an exchange; cancelling what is
// delayed; deleting a queue if it is empty, for a quorum queue does not tell; and
// a redrive out of a queue with a single active consumer. Of the policies of a
// queue those are refused that RabbitMQ has by the same name and with another
// meaning, and the error says which:
//
//   - MaxPriority for a quorum queue: there are none before RabbitMQ 4.0.
//   - MaxLength, MaxBytes: what is in flight is not counted, a quorum queue takes
//     a few more, and of several queues those that have room take the message.
//   - MessageTTL: a delayed retry is a copy, whose time would begin anew.
//   - Expires, AutoDelete: only a subscription counts as use, and a queue whose
//     deliveries are being handled would be deleted with them.
//   - Exclusive: a connection has it, of which a client has two and makes new
//     ones; it would be gone with the first that is lost.
//
// Message.TTL is passed on as AMQP's
// expiration, which a broker looks at when the message is at the front.
//
// # For clients of other languages
//
// The body is untouched. ID is message-id, TTL expiration, and the other
// properties are AMQP's of the same name, but UserID, which a broker would
// compare with who is logged in. Headers are headers: whole numbers are long
// (l), texts S, bytes x. Ours begin with "lockkeeper-":
//
//	lockkeeper-attempts      failed attempts before this copy of the message
//	lockkeeper-via-exchange  as it was published, if it came through the ladder
//	lockkeeper-via-key
//	lockkeeper-ttl           its TTL in milliseconds, likewise
//	lockkeeper-user-id       Message.UserID
//	lockkeeper-bury          it is past its limit, and has no dead letter yet
//	lockkeeper-death-...     of a dead letter, see driver.HeaderDeathReason
//	lockkeeper-first-...
//
// What another client rejects goes to the same dead letter, by the broker;
// x-death is then read as those headers.
package rabbitmq
