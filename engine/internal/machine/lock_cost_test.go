package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

func quietLocks() (*Locks, *lockDisk) {
	d := newLockDisk()
	l := d.open(Time{})
	return l, d
}

// TestLockCycleAllocates keeps the cost of an uncontended cycle.
func TestLockCycleAllocates(t *testing.T) {
	l, d := quietLocks()
	r := &lockdriver.Request{Name: "n", Holder: "h", TTL: time.Second}
	acquire := &Acquire{Request: r}
	release := &ReleaseLocks{Refs: make([]lockdriver.Ref, 1)}
	got := testing.AllocsPerRun(1000, func() {
		l.Acquire(Time{}, d, acquire)
		release.Refs[0] = lockdriver.Ref{Name: "n", Holder: "h", Token: acquire.Grant.Token}
		l.Release(Time{}, d, release)
		l.Write(Time{}, d)
	})
	if got > 4 { // the name, its slice of grants, the grant, the reply
		t.Errorf("a cycle allocates %v times", got)
	}
}

// TestLongLine has the most waiters that a name can have, who leave from the
// middle, come back and are granted in order, and one more, who is refused.
func TestLongLine(t *testing.T) {
	l, d := quietLocks()
	request := func(i int) *lockdriver.Request {
		return &lockdriver.Request{Name: "n", Holder: fmt.Sprint(i), TTL: time.Minute, Queue: true}
	}
	first := &Acquire{Request: request(-1)}
	l.Acquire(Time{}, d, first)
	tickets := make([]*lockdriver.Ticket, MaxWaitersPerName)
	for i := range tickets {
		c := &Acquire{Request: request(i)}
		l.Acquire(Time{}, d, c)
		if c.Err != nil || c.Ticket.Position != i+1 {
			t.Fatalf("waiter %d: %+v, %v", i, c.Ticket, c.Err)
		}
		tickets[i] = c.Ticket
	}
	c := &Acquire{Request: request(MaxWaitersPerName)}
	if l.Acquire(Time{}, d, c); outcome(c.Err) != "limit" {
		t.Fatalf("one waiter too many: %v", c.Err)
	}
	for i := range tickets {
		if i%2 == 0 {
			l.Await(Time{}, d, &Await{Request: request(i)})
		}
	}
	now := Time{Mono: lease.Instant(DeadWaiter)}
	l.Tick(now, d)
	l.Write(now, d) // prunes every second one
	for i := range tickets {
		if i%2 == 1 {
			r := request(i)
			r.Ticket = tickets[i]
			l.Acquire(now, d, &Acquire{Request: r})
			l.Await(now, d, &Await{Request: r})
		}
	}
	token := first.Grant.Token
	for i := range tickets {
		holder := "-1"
		if i > 0 {
			holder = fmt.Sprint(i - 1)
		}
		l.Release(now, d, &ReleaseLocks{Refs: []lockdriver.Ref{{Name: "n", Holder: holder, Token: token}}})
		if len(l.Finished) != 1 || l.Finished[0].(*Await).Request.Holder != fmt.Sprint(i) {
			t.Fatalf("release %d did not grant the next in line: %v", i, l.Finished)
		}
		token = l.Finished[0].(*Await).Grant.Token
		l.Finished = l.Finished[:0]
	}
}

// TestLockLimits takes each limit to its edge, and one past it.
func TestLockLimits(t *testing.T) {
	try := func(l *Locks, d *lockDisk, r lockdriver.Request) string {
		r.TTL = time.Second
		c := &Acquire{Request: &r}
		l.Acquire(Time{}, d, c)
		return outcome(c.Err)
	}
	expect := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	l, d := quietLocks()
	l.maxNames, l.maxWaiters = 3, 2
	for i := range l.maxNames {
		expect(try(l, d, lockdriver.Request{Name: fmt.Sprint(i), Holder: "h"}), "ok")
	}
	expect(try(l, d, lockdriver.Request{Name: "x", Holder: "h"}), "limit")
	for i := range l.maxWaiters {
		expect(try(l, d, lockdriver.Request{Name: fmt.Sprint(i), Holder: "w", Queue: true}), "ok")
	}
	expect(try(l, d, lockdriver.Request{Name: "2", Holder: "w", Queue: true}), "limit")
	l.Cancel(Time{}, d, &CancelLock{Request: &lockdriver.Request{Name: "0", Holder: "w"}})
	expect(try(l, d, lockdriver.Request{Name: "2", Holder: "w", Queue: true}), "ok")

	l, d = quietLocks()
	for i := range MaxSharedGrants {
		expect(try(l, d, lockdriver.Request{Name: "s", Holder: fmt.Sprint(i), Mode: lockdriver.Shared}), "ok")
	}
	expect(try(l, d, lockdriver.Request{Name: "s", Holder: "h", Mode: lockdriver.Shared}), "held")
}

// crowd lets so many requests wait within a holder, for names that nobody
// frees.
func crowd(l *Locks, d *lockDisk, within string, n int) {
	for i := range n {
		r := &lockdriver.Request{
			Name: fmt.Sprint("crowded", i/MaxWaitersPerName), Holder: fmt.Sprint("crowd", i),
			Within: []string{within}, TTL: time.Hour, Queue: true,
		}
		if i%MaxWaitersPerName == 0 {
			owner := *r
			owner.Holder, owner.Within = "owner", nil
			l.Acquire(Time{}, d, &Acquire{Request: &owner})
		}
		l.Acquire(Time{}, d, &Acquire{Request: r})
		l.Await(Time{}, d, &Await{Request: r})
	}
	l.Write(Time{}, d)
	for len(l.suspects.waiters) > 0 {
		l.Write(Time{}, d)
	}
}

// TestCycleSearchStops has a search come upon more waits than it may look at.
func TestCycleSearchStops(t *testing.T) {
	l, d := quietLocks()
	l.Acquire(Time{}, d, &Acquire{Request: &lockdriver.Request{Name: "n", Holder: "h", TTL: time.Hour}})
	crowd(l, d, "h", 3*maxCycleSteps)
	l.Acquire(Time{}, d, &Acquire{Request: &lockdriver.Request{Name: "n", Holder: "w", TTL: time.Hour, Queue: true}})
	if left := l.search.left; left > 0 || left < -lockdriver.MaxCycle {
		t.Errorf("a search left %d of its steps", left)
	}
}

// TestCycleSearchesAreSpread closes a circle by a grant to a holder of many
// waits: it is found, a few searches in each round.
func TestCycleSearchesAreSpread(t *testing.T) {
	l, d := quietLocks()
	l.suspects.maxSteps = 1000
	ask := func(name, holder, within string) *Await {
		r := &lockdriver.Request{Name: name, Holder: holder, Within: []string{within}, TTL: time.Hour, Queue: true}
		l.Acquire(Time{}, d, &Acquire{Request: r})
		a := &Await{Request: r}
		l.Await(Time{}, d, a)
		return a
	}
	ask("n", "first", "first")
	ask("m", "other", "other")
	waits := ask("m", "h1", "h") // the last of them that is looked at
	ask("n", "h", "h")
	cut := ask("n", "o1", "other")
	crowd(l, d, "h", MaxWaitersPerName)
	l.Finished = nil
	l.Release(Time{}, d, &ReleaseLocks{Refs: []lockdriver.Ref{{Name: "n", Holder: "first", Token: l.names["n"].grants[0].Token}}})
	rounds := 0
	for more := true; more; rounds++ {
		before := l.searches
		l.Write(Time{}, d)
		if n := l.searches - before; n > uint64(l.suspects.maxSteps) {
			t.Fatalf("round %d makes %d searches", rounds, n)
		}
		at, _ := l.NextWake()
		more = at == 0
	}
	if rounds < 10 {
		t.Errorf("%d searches were spread over %d rounds", MaxWaitersPerName, rounds)
	}
	if !errors.Is(cut.Err, lockdriver.ErrDeadlock) || waits.waiter == nil {
		t.Errorf("the circle: %v", cut.Err)
	}
}

// BenchmarkAcquireAmongShared is a try for the most names within the most
// holders, when each of the names has the most grants.
func BenchmarkAcquireAmongShared(b *testing.B) {
	l, d := quietLocks()
	r := &lockdriver.Request{Name: "n00", Holder: "h", TTL: time.Hour, Mode: lockdriver.Exclusive}
	for i := range lockdriver.MaxWithin {
		r.Within = append(r.Within, fmt.Sprintf("within%07d", i))
	}
	for n := range lockdriver.MaxNames {
		name := fmt.Sprintf("n%02d", n)
		if n > 0 {
			r.More = append(r.More, name)
		}
		for i := range MaxSharedGrants {
			l.Acquire(Time{}, d, &Acquire{Request: &lockdriver.Request{Name: name, Holder: fmt.Sprintf("holder%07d", i), TTL: time.Hour, Mode: lockdriver.Shared}})
		}
	}
	for b.Loop() {
		l.Acquire(Time{}, d, &Acquire{Request: r})
	}
}

// TestBrokenTokens remembers as many as it says.
func TestBrokenTokens(t *testing.T) {
	b := brokenTokens{known: make(map[lease.Token]struct{})}
	for i := range 3 * maxBrokenTokens {
		b.add(lease.Token(i + 1))
	}
	for i := range 3 * maxBrokenTokens {
		if got, want := b.has(lease.Token(i+1)), i >= 2*maxBrokenTokens; got != want {
			t.Fatalf("broken token %d of %d is remembered: %v", i, 3*maxBrokenTokens, got)
		}
	}
	if len(b.known) != maxBrokenTokens {
		t.Errorf("%d are remembered", len(b.known))
	}
}

// FuzzTicket reads arbitrary tickets: only what was issued is accepted.
func FuzzTicket(f *testing.F) {
	ts := newTickets([16]byte{1, 2, 3})
	f.Add("n", "h", uint64(7), issueTo(&ts, 7, "h", "n"))
	f.Add("n", "h", uint64(7), issueTo(&ts, 7, "", "nh"))
	f.Add("n", "h", uint64(7), issueTo(&ts, 7, "h", "n", "o"))
	f.Add("", "", uint64(0), "")
	f.Fuzz(func(t *testing.T, name, holder string, seq uint64, ticket string) {
		r := &lockdriver.Request{Name: name, Holder: holder}
		if got, err := ts.read(r, issueTo(&ts, seq, holder, name)); err != nil || got != seq {
			t.Fatalf("its own ticket %d: %d, %v", seq, got, err)
		}
		if _, err := ts.read(r, issueTo(&ts, seq, holder, name, name+"more")); outcome(err) != "invalid" {
			t.Fatalf("a ticket for one name more: %v", err)
		}
		got, err := ts.read(r, ticket)
		if err == nil && issueTo(&ts, got, holder, name) != ticket {
			t.Fatalf("accepted %q as %d", ticket, got)
		}
		if err != nil && outcome(err) != "invalid" {
			t.Fatal(err)
		}
	})
}

// issueTo returns the ticket of a place.
func issueTo(ts *tickets, seq uint64, holder string, names ...string) string {
	w := &lockWaiter{lockClaim: lockClaim{holder: holder}, seq: seq}
	for _, name := range names {
		w.names = append(w.names, &lockName{name: name})
	}
	return ts.issue(w)
}

// TestListPages lists many names in pages.
func TestListPages(t *testing.T) {
	l, d := quietLocks()
	const names = 1000
	for i := range names {
		l.Acquire(Time{}, d, &Acquire{Request: &lockdriver.Request{Name: fmt.Sprintf("p/%04d", i*7%names), Holder: "h", TTL: time.Second}})
		l.Acquire(Time{}, d, &Acquire{Request: &lockdriver.Request{Name: fmt.Sprintf("q/%d", i), Holder: "h", TTL: time.Second}})
	}
	next, after := 0, ""
	for {
		c := &ListLocks{Request: &lockdriver.ListRequest{Prefix: "p/", After: after, Max: 33}}
		l.List(Time{}, c)
		for _, info := range c.Infos {
			if want := fmt.Sprintf("p/%04d", next); info.Name != want {
				t.Fatalf("got %s, want %s", info.Name, want)
			}
			next++
			after = info.Name
		}
		if len(c.Infos) < 33 {
			break
		}
	}
	if next != names {
		t.Fatalf("listed %d of %d names", next, names)
	}
}

func BenchmarkLockCycle(b *testing.B) {
	l, d := quietLocks()
	r := &lockdriver.Request{Name: "n", Holder: "h", TTL: time.Second}
	acquire := &Acquire{Request: r}
	release := &ReleaseLocks{Refs: make([]lockdriver.Ref, 1)}
	b.ReportAllocs()
	for b.Loop() {
		l.Acquire(Time{}, d, acquire)
		release.Refs[0] = lockdriver.Ref{Name: "n", Holder: "h", Token: acquire.Grant.Token}
		l.Release(Time{}, d, release)
		l.Write(Time{}, d)
	}
}
