// Package etcd is the driver for locks on etcd. It is tested with etcd 3.7 of
// one and of three members.
//
// Importing it registers these URLs with package lock:
//
//	etcd://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT][/PREFIX]
//	etcds://...                                              over TLS
//
// PREFIX begins all keys, with a slash behind it; without one it is
// lockkeeper/. The parameters are
//
//	timeout        of each call (2s)
//	session        how long a client may be silent before its waiters lose
//	               their places, in whole seconds (5s)
//	token_base     is added to every token (0)
//	password_file  file whose first line is the password
//	ca_file        PEM certificates that TLS checks against, instead of the system's
//	cert_file, key_file
//	               the client's own certificate
//
// The prefix and token_base must be the same for all who use the same locks.
// New takes a client that is configured in another way. A call is one attempt:
// writes that may have been sent are not repeated.
//
// # What is stored where
//
// Each step is one transaction; those of different names that a client makes at
// the same time share one. Keys are PREFIX, the name, a zero byte, and
//
//	hx               the exclusive grant
//	hs HOLDER        a shared grant
//	hz HOLDER        a grant of a semaphore
//	q NUMBER HOLDER  a place in the line
//	w HOLDER         which place a waiter has
//	b TOKEN          a grant that was broken, kept while its holder may
//	                 believe to hold, and a minute
//
// without the spaces. Values are JSON, those of grants behind the holder and a
// zero byte. Every key hangs on a lease, so that
// nothing is left of a name when it is free, nor of a client that dies.
//
// Each grant has a lease at etcd of its own, with the TTL that was asked for,
// rounded up to whole seconds, plus the lock-delay. Nobody renews it but the
// holder. Leases of released grants are kept for a while for the next ones, as
// making one costs a write to the disks of a majority. A grant on such a lease
// is up to an eighth of its TTL, and up to a second, shorter than asked: driver.Grant
// says what it got. The places of all waiters of a client hang on one lease,
// the session, which the driver renews as long as somebody waits.
//
// # Tokens
//
// A token is the revision at which the grant's key was created, plus
// token_base. Revisions grow over all names and never go back, whichever
// member leads. Names that are granted in one request have the same token. A
// store that is restored from a snapshot is behind: restore it with
// etcdutl's --bump-revision, or raise token_base.
//
// # Waiting
//
// The line is in the order of the revisions at which the waiters found the
// name in use. Each waiter watches the key of the one ahead of it, and the head
// the key of a holder, so that a release concerns one client. The waiter grants
// itself: a transaction makes the grant if no holder is in the way and nobody
// is ahead. Should a watch tell nothing, a waiter looks every ten seconds.
//
// A waiter whose process dies is out of the line when its session has ended,
// and so is one that nobody calls Wait for during that time (driver.Caps.DeadWaiter).
// A ticket is the number of the place: one that comes back with it, over any
// connection, has its place again, even if it was lost with a session. Tickets
// are not sealed: whoever may write to the etcd may do worse.
//
// # What a call costs
//
// A grant of a free name is one write, and its release by the client that made
// it is one; of several names too. A grant that was waited for costs four writes in all (the first attempt,
// the place, the grant, the release), two reads or three, and two watches,
// whatever the length of the line; but finding the one ahead costs the server
// a walk over the line. Until it compacts, etcd also walks over the keys that
// have been deleted: a line in which many wait wants an etcd that is told to
// (--auto-compaction-retention), as every one is that is written to. Renewals are no writes: a read for up to 32 grants, and
// a message for each. A List reads the keys of the names of its page, and asks
// for the lease of each grant.
//
// # What is assumed, and what a failover can lose
//
// Leases run out by the monotonic clock of the leader (driver.ClockMonotonic).
// As long as it runs as fast as those of the clients, a holder knows of its
// loss before anyone else is granted. A new leader gives all leases their whole
// time again: a failover makes them longer, never shorter. etcd looks for
// leases that have run out twice a second, so that a name comes free up to a
// second after its lease has ended.
//
// etcd answers when a majority has written, so that no failover loses a grant,
// a release or a place. One thing is left to trust: a leader that is stuck in
// a write to its disk, and has been replaced, may answer renewals for up to an
// election time-out, in older versions (etcd-io/etcd#15247). What is
// renewed there may end early: only the token protects then.
//
// The smallest TTL is two seconds. An etcd whose election time-out is longer
// than the default of one second gives longer leases than asked, and dead
// holders and waiters are in the way for as much longer.
//
// The lock-delay of a shared grant keeps exclusive ones out, and that of a
// permit keeps the permit; other shared holders and other permits go on.
// Circles of waiters are not looked for (driver.Caps.Deadlock).
package etcd
