// Package redis is the driver for locks on Redis: one server, a primary that
// Sentinels watch, or a Redis Cluster. It is tested with Redis 7.0, and needs
// 6.2.
//
// Importing it registers these URLs with package lock:
//
//	redis://[USER:PASSWORD@]HOST[:PORT][/DB]
//	rediss://...                                      over TLS
//	unix:///PATH/OF/THE/SOCKET[?db=DB]
//	redis+sentinel://[USER:PASSWORD@]HOST,HOST/NAME[/DB]  of the Sentinels; NAME is the primary's
//	redis+cluster://[USER:PASSWORD@]HOST,HOST
//
// with the parameters
//
//	timeout        of connecting, writing and reading (2s)
//	prefix         begins all keys and channels (lockkeeper:)
//	fence_keep     how long the last number of a free name is remembered (2h)
//	token_base     is added to every token (0)
//	wait_replicas  how many replicas must acknowledge a grant or renewal (0)
//	password_file  file whose first line is the password
//	ca_file        PEM certificates that TLS checks against, instead of the system's
//	tls            true: TLS with redis+sentinel and redis+cluster
//	sentinel_password_file
//
// prefix, token_base and fence_keep must be the same for all who use the same
// locks. New takes a client that is configured in another way. A call is one
// attempt: nothing is repeated. go-redis reports lost connections to standard
// error by itself; its SetLogger changes that.
//
// A user with these rights can do all of it (with another prefix, other keys
// and channels): ~lockkeeper:* &lockkeeper:* -@all +@connection +@read +@write
// +@scripting +@pubsub +time +wait. One that may also run INFO is warned of a
// server that may evict locks, or that is a replica.
//
// # What is stored where
//
// Each step is one Lua script, which Redis runs as a whole. All keys of a name
// are in one slot, whatever the name looks like; see keysOf. A name that is
// held or awaited has
//
//	h  the state and the grants, with metadata and values; gone when the name is free
//	q  the line: waiters by their places' numbers
//	l  until when each waiter counts as alive
//	w  a record for each waiter
//
// and besides
//
//	f    the last number issued, kept for fence_keep after the last one
//	b    tokens of broken grants, kept while their holders may believe to hold
//	x, y cancelled requests, kept for a minute: a request that reaches the
//	     server after its Cancel does nothing
//
// Every key has a time to live, so that nothing is left of a name fence_keep
// after its last use, and the few seconds that Redis takes to remove what is
// over. A List looks at all keys of the database for
// each of its pages: give locks a database of their own where there are
// millions of other keys.
//
// # Tokens
//
// A token is the larger of the last number plus one and the server's time in
// microseconds, plus token_base. So tokens go on growing when the counter is
// gone: after FLUSHALL, an eviction, a restart without a file, or fence_keep.
//
// # Waiting
//
// The line is in order of arrival. A release, a cancel or a break calls the
// head by a message on its client's one channel, and the head tries again.
// Messages can be lost, and an expiry sends none. So each waiter also looks by
// itself, every 0.9 s and when the lease in front of the line may end; that is
// its sign of life, too. When it is a waiter's turn and it does not answer
// within 0.8 s, it is passed; another that is silent for 5 s loses its place.
// One that was passed and returns has its place again, unless somebody behind
// it was granted. A ticket has a code, so that a client of a daemon that serves
// these locks cannot make up a place in front of others. The code hangs on a
// secret in the name's state: when that is gone, the ticket is worth nothing.
//
// A grant that was waited for costs three scripts, whatever the length of the
// line, besides the looks. Where the first waiter of a client is the head of the
// line, the client's release takes its attempt along: the script that releases
// also grants, nobody need be called, and the hand-over is one script. That is
// tried with what the client knows of its own waiters, and given up for a while
// when others are in between.
//
// # Watching
//
// A script that changes the state of a name publishes the name, if somebody
// watches at that server. What ends by its time is looked at then, and all
// names of a watch every 5 s, in case that a message was lost: a watch of very
// many names costs the server as much as a List of them. Each watch has a
// connection of its own to each master.
//
// # What is assumed, and what a failover can lose
//
// The clock is the server's wall clock (driver.ClockServerWall), read within
// the scripts; the clients' clocks do not matter. As long as it runs as fast
// as theirs, a holder knows of its loss before anyone else is granted. If it
// is set forward, all leases end early by as much, and two can hold one name.
// If it is set back, a lease that nobody renews lasts for its TTL again, and
// tokens still grow as long as it is set back by less than fence_keep.
//
// Redis replicates after it has answered. A failover can lose the last grants,
// renewals, releases and places (driver.Caps.FailoverLosesGrant): two can hold
// one name for the rest of a TTL, and only the token protects what they work
// on. wait_replicas makes that less likely; it does not exclude it, since a
// failover may choose a replica that has not acknowledged. The new primary's
// tokens are larger as long as its clock is not behind by more than the time
// that the failover took: run NTP. A restart of a server without an
// append-only file that is synced each time loses what was not written, in the
// same way.
//
// maxmemory-policy must be noeviction: another may evict the state of a lock
// that is held. The driver warns of it. Several independent Redis servers with
// a majority vote (Redlock) are not supported: they assume bounded pauses and
// give no token that grows.
//
// # Several names
//
// On a Redis Cluster, names that are acquired together must be in one slot:
// give them the same tag in braces, as in {orders}/1 and {orders}/2. Otherwise
// the request is refused with lease.ErrUnsupported. Circles of waiters are not
// looked for (driver.Caps.Deadlock).
package redis
