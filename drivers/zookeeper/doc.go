// Package zookeeper is the driver for locks on ZooKeeper. It is tested with
// ZooKeeper 3.9, one server and three, and needs 3.5 for container nodes.
//
// Importing it registers these URLs with package lock:
//
//	zk://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/ROOT]
//
// with the parameters
//
//	session        how long the servers keep a session they do not hear of (10s)
//	tick           the servers' tickTime, or more (2s, which is their default)
//	timeout        of connecting (5s)
//	token_base     is added to every token (0)
//	acl            of new nodes: world, creator or read (creator with a USER)
//	password_file  file whose first line is the password
//
// USER and PASSWORD are shown to the servers by the digest scheme. ROOT is the
// node that has all others (/lockkeeper); it and token_base must be the same
// for all who use the same locks. New takes a client that is configured in
// another way; one whose dialer (zk.WithDialer) speaks TLS, for one: URLs know no
// TLS. A call is one attempt: nothing is repeated. Of the client,
// github.com/go-zookeeper/zk, the driver uses sessions, calls and watches; the
// recipe is its own.
//
// # What is stored where
//
//	ROOT/SHARD/NAME/KIND.HOLDER.ID.MOVE.NUMBER   a claim: a holder or a waiter
//	ROOT/SHARD/NAME/d.ID                         the lock-delay of a claim
//	ROOT/SHARD/NAME/b.TOKEN                      a grant that was broken
//
// ROOT is persistent. SHARD, one of 64, and NAME, with what is special in it
// escaped, are containers: the servers remove them some time after their last
// child (znode.container.checkIntervalMs, a minute by default, and 10,000 of
// them a minute). A claim is an ephemeral node of its client's session; its
// data say who it is, and hold metadata and value. NUMBER is its place in the
// line. A claim is granted when nothing is before it that excludes it:
// position is all, and no node is before one that was granted once that was
// not there then. ID tells the claim of a create whose reply was lost.
//
// The marks d and b are persistent. A holder, or its driver, removes its own;
// what a holder leaves that was killed is removed when the name is used the
// next time, or listed an hour later.
//
// # Tokens
//
// A token is the zxid of the transaction that made the claim, plus token_base:
// an epoch of the ensemble and a counter. It grows over all names, restarts and
// changes of the leader, and is not the number of the place, which begins anew
// with each container.
//
// # Sessions and TTLs
//
// A dead client's claims go with its session: the session's time-out, and up
// to two ticks, after the servers last heard of it. That is how long a dead
// holder or waiter is in the way, however short its TTL was
// (driver.Caps.DeadWaiter).
//
// A lease that its live client does not renew ends after its TTL: the client
// removes the claim then. A lease is never given longer than its session is
// sure to live, which is session - session/3 - tick after the last round trip
// through the leader: the client's heartbeats come every third of the session,
// and a follower tells the leader of them with its next ping, every half tick.
// With the defaults these are 4.7 s; a longer TTL gets as much, and is renewed
// as often as that needs. tick must not be less than the servers' tickTime.
//
// A renewal is one transaction that finds all leases of the session as they
// were and changes nothing. It is not a ping, which a follower answers by
// itself also when it is cut off, nor a sync, which a leader answers that was
// replaced and does not know it yet: it needs a quorum.
//
// A request, a renewal or a ticket that comes over another connection than the
// one before moves the claim to its session, in one transaction: token and
// place stay.
//
// # Waiting
//
// Each claim watches only what is in its way: an exclusive one the one before
// it, a shared one the last exclusive one before it, one for a permit the one
// before it, and the first in line the name. So a grant that was waited for
// costs two transactions and four reads at most, whatever the length of the
// line: the claim, the children, the watch, the children again, the round trip
// through the leader, and the release besides. A grant of a free name is one
// transaction, and so is its release. A try asks first (sync, children), so
// that it writes nothing where it has no hope.
//
// The place of a waiter stays while its session lives and its client asks for
// it: one that nobody asks for is given up after the session's time-out, which
// begins anew when the servers were away. A ticket whose claim is gone begins at
// the end of the line.
//
// # What is assumed
//
// Sessions decide (driver.ClockSession): what is assumed is that the clients'
// clocks run as fast as the leader's, and that a follower's pings are not late
// by more than the half tick that is left for it. A lock-delay and the times
// in lists are by the wall clocks of leader and client. Every grant is on a
// quorum's disks before it is told (Durable): a crash of the leader, or of all
// servers, loses none. Sessions are counted anew when there is a leader again,
// so that a holder may be without its lease, by its own clock, before the
// servers let go of it, and never after.
//
// Several names at once are refused with lease.ErrUnsupported
// (driver.Caps.Multi), and circles of waiters are not looked for
// (driver.Caps.Deadlock). A watch costs two watches on each name in use, and a
// list reads the names of all locks: give locks an ensemble of their own where
// there are very many.
package zookeeper
