package queuetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var commitChecks = []check{
	{"a commit does everything in it", commitAll},
	{"messages of a commit keep their order", commitOrder},
	{"each verb does what it does alone", commitVerbs},
	{"a delivery that is not held leaves nothing done", commitNotHeld},
	{"a message that cannot be published leaves nothing done", commitUnroutable},
	{"a full queue leaves nothing done", commitFull},
	{"a duplicate is stored once and says so", commitDuplicate},
	{"of many commits on one delivery one wins", commitRace},
	{"a repeat by ID changes nothing and says what was done", commitRepeat},
	{"an ID with other content is a conflict", commitConflict},
	{"a failed commit leaves its ID free", commitFailedID},
	{"results can be read", commitResult},
	{"a result is forgotten after its time and not before", commitForgotten},
	{"a commit past a limit is invalid", commitLimits},
	{"a commit releases locks", commitReleases},
	{"a commit requires locks and leaves them held", commitRequires},
	{"a lock that is not held leaves nothing done", commitLockNotHeld},
}

// commits reports whether the backend has commits; if not it must say so.
func (s *suite) commits() bool {
	s.Helper()
	if s.caps.Commit {
		return true
	}
	q := s.queue("q")
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	_, err := s.conn.Commit(s.ctx, &driver.Txn{ID: s.name("id"), Settle: acks(d)})
	s.unsupported(err, "Commit")
	_, err = s.conn.Result(s.ctx, s.name("id"))
	s.unsupported(err, "Result")
	s.ack(d) // it did nothing
	return false
}

// commit commits what must be possible.
func (s *suite) commit(t *driver.Txn) *driver.TxnResult {
	s.Helper()
	r, err := s.conn.Commit(s.ctx, t)
	s.must(err, "Commit")
	if len(r.Settled) != len(t.Settle) || len(r.Receipts) != len(t.Publish) {
		s.Fatalf("Commit of %d deliveries and %d messages returned %d outcomes and %d receipts",
			len(t.Settle), len(t.Publish), len(r.Settled), len(r.Receipts))
	}
	for i := range r.Settled {
		s.must(r.Settled[i].Err, fmt.Sprintf("Commit: outcome %d", i))
	}
	for i := range r.Receipts {
		s.must(r.Receipts[i].Err, fmt.Sprintf("Commit: receipt %d", i))
		if r.Receipts[i].Durability != s.caps.Durability {
			s.Errorf("receipt %d says %q, Caps say %q", i, r.Receipts[i].Durability, s.caps.Durability)
		}
	}
	return r
}

// fails asserts that a commit fails for the part and the reason.
func (s *suite) fails(t *driver.Txn, part driver.Part, index int, want error) {
	s.Helper()
	_, err := s.conn.Commit(s.ctx, t)
	s.is(err, want, "Commit")
	var failed *driver.CommitError
	if !errors.As(err, &failed) {
		s.Errorf("Commit: %v does not say which part of it failed", err)
		return
	}
	if failed.Part != part || failed.Index != index {
		s.Errorf("Commit: it says that %s[%d] failed, want %s[%d]: %v", failed.Part, failed.Index, part, index, err)
	}
}

func acks(ds ...driver.Delivery) []driver.Settlement {
	ss := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		ss[i] = driver.Settlement{Ref: d.Ref, Verb: driver.Ack}
	}
	return ss
}

// posts makes mandatory messages with these bodies, if the backend has such.
func (s *suite) posts(q string, bodies ...string) []driver.Publishing {
	ps := make([]driver.Publishing, len(bodies))
	for i, b := range bodies {
		ps[i] = driver.Publishing{Route: to(q), Message: body(b), Mandatory: s.caps.Mandatory}
	}
	return ps
}

// stillHeld asserts that a delivery is held, and acks it.
func (s *suite) stillHeld(d driver.Delivery) {
	s.Helper()
	s.none(d.Queue)
	if out := s.try(driver.Settlement{Ref: d.Ref, Verb: driver.Ack}); out.Err != nil {
		s.Errorf("a commit that failed has settled a delivery: %v", out.Err)
	}
}

// Acks, publishes to several queues, all of it there afterwards.
func commitAll(s *suite) {
	if !s.commits() {
		return
	}
	in, a, b := s.queue("in"), s.queue("a"), s.queue("b")
	s.bodies(to(in), "1", "2")
	ds := s.receive(in, 2)
	r := s.commit(&driver.Txn{Settle: acks(ds...), Publish: append(s.posts(a, "x"), s.posts(b, "y")...)})
	if r.Repeated || r.Receipts[0].Queues != 1 || r.Receipts[1].Queues != 1 {
		s.Errorf("Commit returned %+v", r)
	}
	s.refused(ds[0].Ref)
	s.none(in)
	s.want(a, "x")
	s.want(b, "y")
	s.counted(in, func(st driver.QueueStats) {
		if st.Acked != 2 || st.Ready+st.InFlight != 0 {
			s.Errorf("after the commit: %+v", st)
		}
	})
}

// They are behind what was published before, and before what comes later.
func commitOrder(s *suite) {
	if !s.commits() {
		return
	}
	q := s.queue("q")
	s.bodies(to(q), "0")
	s.commit(&driver.Txn{Publish: s.posts(q, "1", "2", "3")})
	s.bodies(to(q), "4")
	s.want(q, "0", "1", "2", "3", "4")
}

// Nack counts an attempt, and dead-letters the last; release does not count;
// reject dead-letters; an extend is refused.
func commitVerbs(s *suite) {
	if !s.commits() {
		return
	}
	dead := s.queue("dead")
	q := s.queue("q", func(q *driver.Queue) {
		if s.caps.DeadLetter {
			q.DeadLetter, q.DeliveryLimit = &driver.Route{Key: dead}, 2
		}
	})
	s.bodies(to(q), "nack", "release", "reject")
	ds := s.receive(q, 3)
	s.bodies(to(q), "extend")
	extended := s.one(q, "extend")
	_, err := s.conn.Commit(s.ctx, &driver.Txn{Settle: []driver.Settlement{{Ref: extended.Ref, Verb: driver.Extend}}})
	s.field(err, "Commit with an extend")
	s.ack(extended)
	r := s.commit(&driver.Txn{Settle: []driver.Settlement{
		{Ref: ds[0].Ref, Verb: driver.Nack}, {Ref: ds[1].Ref, Verb: driver.Release}, {Ref: ds[2].Ref, Verb: driver.Reject, Reason: "because"},
	}})
	if r.Settled[0].DeadLettered || r.Settled[1].DeadLettered || r.Settled[2].DeadLettered != s.caps.DeadLetter {
		s.Errorf("outcomes %+v", r.Settled)
	}
	ds = s.receive(q, 2)
	if ds[0].Attempt != 2 || ds[1].Attempt != 1 {
		s.Errorf("attempts %d and %d after a nack and a release, want 2 and 1", ds[0].Attempt, ds[1].Attempt)
	}
	r = s.commit(&driver.Txn{Settle: []driver.Settlement{{Ref: ds[0].Ref, Verb: driver.Nack}, {Ref: ds[1].Ref, Verb: driver.Ack}}})
	if r.Settled[0].DeadLettered != s.caps.DeadLetter {
		s.Errorf("after the last attempt: %+v", r.Settled[0])
	}
	if s.caps.DeadLetter {
		s.want(dead, "reject", "nack")
		s.none(q)
	}
}

// One of several deliveries is not the live one.
func commitNotHeld(s *suite) {
	if !s.commits() || !s.caps.DeliveryFence {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	s.bodies(to(in), "1", "2")
	ds := s.receive(in, 2)
	s.ack(ds[0])
	s.fails(&driver.Txn{Settle: acks(ds[1], ds[0]), Publish: s.posts(out, "x")}, driver.PartSettle, 1, lease.ErrNotHeld)
	forged := ds[1]
	forged.Token++
	s.fails(&driver.Txn{Settle: acks(forged), Publish: s.posts(out, "x")}, driver.PartSettle, 0, lease.ErrNotHeld)
	forged = ds[1]
	forged.Queue = s.name("nobody's")
	s.fails(&driver.Txn{Settle: acks(forged), Publish: s.posts(out, "x")}, driver.PartSettle, 0, lease.ErrNotFound)
	s.none(out)
	s.stillHeld(ds[1])
}

// An unknown exchange, and a mandatory message that matches no queue.
func commitUnroutable(s *suite) {
	if !s.commits() {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	s.bodies(to(in), "1")
	d := s.one(in, "1")
	lost := driver.Publishing{Route: driver.Route{Exchange: s.name("none")}, Message: body("y")}
	s.fails(&driver.Txn{Settle: acks(d), Publish: append(s.posts(out, "x"), lost)}, driver.PartPublish, 1, lease.ErrNotFound)
	if s.caps.Mandatory {
		s.fails(&driver.Txn{Settle: acks(d), Publish: append(s.posts(s.name("nowhere"), "y"), s.posts(out, "x")...)},
			driver.PartPublish, 0, driver.ErrUnroutable)
	}
	s.none(out)
	s.stillHeld(d)
	r := s.commit(&driver.Txn{Publish: []driver.Publishing{{Route: to(s.name("nowhere")), Message: body("y")}}})
	if r.Receipts[0].Queues != 0 {
		s.Errorf("the receipt of a message to nowhere: %+v", r.Receipts[0])
	}
}

// What else the commit puts into the queue, and takes out of it, counts.
func commitFull(s *suite) {
	if !s.commits() || !s.caps.MaxLength {
		return
	}
	q := s.queue("q", func(q *driver.Queue) { q.MaxLength = 3 })
	other := s.queue("other")
	s.bodies(to(q), "1")
	s.fails(&driver.Txn{Publish: append(s.posts(other, "x"), s.posts(q, "2", "3", "4")...)}, driver.PartPublish, 3, driver.ErrQueueFull)
	s.none(other)
	s.commit(&driver.Txn{Publish: s.posts(q, "2", "3")})
	s.fails(&driver.Txn{Publish: s.posts(q, "4")}, driver.PartPublish, 0, driver.ErrQueueFull)
	ds := s.receive(q, 3)
	s.fails(&driver.Txn{Settle: acks(ds[0]), Publish: s.posts(q, "4", "5")}, driver.PartPublish, 1, driver.ErrQueueFull)
	s.commit(&driver.Txn{Settle: acks(ds[0]), Publish: s.posts(q, "4")})
	s.commit(&driver.Txn{Settle: acks(ds[1]), Publish: s.posts(q, "5")})
	s.ack(ds[2])
	s.want(q, "4", "5")
}

// Also of a message of the same commit.
func commitDuplicate(s *suite) {
	if !s.commits() || !s.caps.Dedup {
		return
	}
	q := s.queue("q", func(q *driver.Queue) { q.DedupWindow = time.Hour })
	s.publish(to(q), &driver.Message{ID: "known", Body: []byte("a")})
	ps := s.posts(q, "b", "c", "d")
	ps[0].Message.ID, ps[1].Message.ID, ps[2].Message.ID = "known", "new", "new"
	r := s.commit(&driver.Txn{Publish: ps})
	for i, want := range []bool{true, false, true} {
		if r.Receipts[i].Duplicate != want || r.Receipts[i].Queues != 1 {
			s.Errorf("receipt %d: %+v, want Duplicate %v", i, r.Receipts[i], want)
		}
	}
	s.want(q, "a", "c")
}

// And the messages are those of the winner.
func commitRace(s *suite) {
	if !s.commits() {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	const rivals = 8
	for round := range 5 {
		s.bodies(to(in), "job")
		d := s.one(in, "job")
		errs := make([]error, rivals)
		var wg sync.WaitGroup
		for i := range rivals {
			wg.Go(func() {
				_, errs[i] = s.conn.Commit(s.ctx, &driver.Txn{
					ID: s.name(fmt.Sprint(round, "/", i)), Settle: acks(d), Publish: s.posts(out, fmt.Sprint(i)),
				})
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				s.Fatalf("both %d and %d settled one delivery", winner, i)
			case err == nil:
				winner = i
			default:
				s.is(err, lease.ErrNotHeld, "Commit of a rival")
			}
		}
		if winner < 0 {
			s.Fatalf("nobody won: %v", errs)
		}
		s.want(out, fmt.Sprint(winner))
	}
}
