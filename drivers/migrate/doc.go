// Package migrate is the driver for moving locks from one backend to another
// while they are in use: it holds each lock on both.
//
// Importing it registers one URL with package lock:
//
//	migrate://?from=URL&to=URL[&tokens=old|new]
//
// where both URLs are escaped as in any query, and to has a token_base above
// all tokens of from. New takes two connections that are open. docs/moving.md
// is the procedure for operators, in short:
//
//  1. all replicas:  FROM
//  2. roll out       migrate://?from=FROM&to=TO                 tokens=old
//  3. roll out       migrate://?from=FROM&to=TO&tokens=new
//  4. roll out       TO
//
// Each roll-out is complete before the next begins. Back goes the same way
// until the first replica of step 3 has started; from then on only forward.
//
// # Who keeps two from holding
//
// A lock is acquired on the old backend, then on the new one, always in that
// order, and is held when both have granted it. So it excludes those who hold
// it on the old backend alone (step 1, beside 2) and on the new one alone (step
// 4, beside 3). One that is lost on either is lost: the earlier deadline
// counts. A renewal counts when both have renewed.
//
// # Which token is handed out
//
// One token is handed out, that of the old backend or that of the new one.
// While others use the old one alone it must be the old one's, or their next
// token would be smaller; while others use the new one alone it must be the new
// one's. Between them lies a moment from which on nobody hands out an old one.
// That moment is a lock, TokensName, on the new backend (on the old one if the
// new one ends leases with their session): the first replica with tokens=new
// takes it, and it is kept for a day after the last use of any. A replica with
// tokens=old asks for it with each grant, while it holds the name on both, and
// hands out the new backend's token from the moment when it is taken. So the
// tokens of a name grow in the order of its grants through all of it. A grant
// whose new token is not above its old one is refused: token_base is too small.
//
// # The line
//
// Waiters wait in the old backend's line. The one that has the name there
// stands in the new backend's line, too, and is renewed on the old one
// meanwhile. Beside users of the new backend alone, these stand in its line
// directly: waiters of the old line reach it one after another. Nobody
// starves, but the order between the two kinds is that of the new line. One
// that dies while it stands there keeps the name on the old backend for its
// TTL.
//
// # What fails, and how
//
// Both backends are needed. While one of them is down, nothing is granted,
// leases run out at their holders when they cannot be renewed there, and
// nothing overlaps. When it comes back, all goes on. Should it not come back:
// if the new one, roll back to FROM (before step 3); if the old one, roll on to
// TO (from step 3 on, when no replica of step 1 or 2 runs).
//
// If a grant on the new backend fails, the one on the old backend is taken
// back; if that fails, too, the outcome is lease.ErrUnknown and it ends by its
// TTL. A replica that dies leaves a lease on each, which end by their TTL. If
// every replica stops for more than a day between steps 3 and 4, or the
// backend with TokensName loses it, one that starts with tokens=old would hand
// out smaller tokens, which the thing that is guarded refuses: start with
// tokens=new.
//
// # What else it does
//
// List, Watch and Revoke cover both: a holder is shown once, with the token
// that is handed out now. A holder of the old backend alone cannot be told from
// one that is about to ask the new one, and is shown. Powers are those that
// both have, TTLs those that both take; deadlocks are found among those who
// use both.
package migrate
