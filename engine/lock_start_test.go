package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// outcome is what a started call was told.
type outcome struct {
	grant    *lockdriver.Grant
	ticket   *lockdriver.Ticket
	outcomes []lockdriver.Outcome
	err      error
}

// told notes what it is told; a second time would block and show.
type told chan outcome

func (c told) Acquired(g *lockdriver.Grant, t *lockdriver.Ticket, err error) {
	c <- outcome{grant: g, ticket: t, err: err}
}

func (c told) Released(outcomes []lockdriver.Outcome, err error) {
	c <- outcome{outcomes: outcomes, err: err}
}

func (told) Flush() {}

// TestStartedCalls: what is begun without waiting has the outcomes that it
// would have otherwise, and after a Close lease.ErrClosed.
func TestStartedCalls(t *testing.T) {
	core, _ := startOn(t, storetest.NewDisk())
	c := lockConnOn(core)
	const names = 100
	acquired, released := make(told, names+2), make(told, names+2)
	for i := range names {
		c.StartAcquire(request(fmt.Sprint("n", i), "h"), acquired)
	}
	tokens := map[lease.Token]bool{}
	for range names {
		if got := <-acquired; got.err != nil || got.grant == nil || got.ticket != nil {
			t.Fatalf("acquired: %+v", got)
		} else {
			tokens[got.grant.Token] = true
		}
	}
	if len(tokens) != names {
		t.Errorf("%d tokens for %d names", len(tokens), names)
	}
	c.StartAcquire(request("n0", "other"), acquired)
	if got := <-acquired; !errors.Is(got.err, lockdriver.ErrHeld) {
		t.Errorf("an acquire of a held name: %+v", got)
	}
	queued := request("n0", "other")
	queued.Queue = true
	c.StartAcquire(queued, acquired)
	if got := <-acquired; got.err != nil || got.ticket == nil {
		t.Errorf("an acquire that queues: %+v", got)
	}
	again := acquire(t, c, "m", "h")
	ref := lockdriver.Ref{Name: "m", Holder: "h", Token: again.Token}
	c.StartRelease([]lockdriver.Ref{ref, ref}, released)
	if got := <-released; got.err != nil || len(got.outcomes) != 2 || got.outcomes[0].Err != nil || !errors.Is(got.outcomes[1].Err, lease.ErrNotHeld) {
		t.Errorf("released: %+v", got)
	}
	c.end()
	c.StartAcquire(request("late", "h"), acquired)
	c.StartRelease([]lockdriver.Ref{ref}, released)
	for _, ch := range []told{acquired, released} {
		if got := <-ch; !errors.Is(got.err, lease.ErrClosed) {
			t.Errorf("after the connection was closed: %+v", got)
		}
	}
	other := lockConnOn(core)
	if err := core.close(); err != nil {
		t.Fatal(err)
	}
	other.StartAcquire(request("late", "h"), acquired)
	if got := <-acquired; !errors.Is(got.err, lease.ErrClosed) {
		t.Errorf("after the engine was closed: %+v", got)
	}
}

// queueUp gets a holder into the line of a name that is held.
func queueUp(t *testing.T, c *lockConn, name, holder string) *lockdriver.Request {
	t.Helper()
	r := request(name, holder)
	r.Queue = true
	g, ticket, err := c.Acquire(t.Context(), r)
	if g != nil || ticket == nil || err != nil {
		t.Fatalf("an acquire of a held name: %+v, %+v, %v", g, ticket, err)
	}
	r.Ticket = ticket
	return r
}

// TestStartedWaits: a wait that was begun is told its grant, or nothing once it
// was stopped, and its place is kept then; a Close ends it with lease.ErrClosed.
func TestStartedWaits(t *testing.T) {
	core, _ := startOn(t, storetest.NewDisk())
	c := lockConnOn(core)
	held := acquire(t, c, "n", "h")
	first, second := queueUp(t, c, "n", "first"), queueUp(t, c, "n", "second")
	stopped, granted, closed := make(told, 1), make(told, 2), make(told, 1)
	if w := c.StartWait(first, stopped); !w.Stop() || w.Stop() {
		t.Error("a wait is not stopped once")
	}
	later := c.StartWait(second, granted)
	c.StartWait(first, granted)
	release(t, c, "n", "h", held.Token)
	got := <-granted
	if got.err != nil || got.grant == nil || got.grant.Token <= held.Token {
		t.Fatalf("told %+v", got)
	}
	release(t, c, "n", "first", got.grant.Token) // fails if it is another's
	if got := <-granted; got.err != nil || got.grant == nil {
		t.Fatalf("told %+v", got)
	}
	if later.Stop() {
		t.Error("a wait was stopped that had been told its grant")
	}
	c.StartWait(queueUp(t, c, "n", "third"), closed)
	c.end()
	if got := <-closed; !errors.Is(got.err, lease.ErrClosed) {
		t.Errorf("told %+v", got)
	}
	if c.StartWait(first, closed).Stop() {
		t.Error("a wait was stopped that was never begun")
	}
	if got := <-closed; !errors.Is(got.err, lease.ErrClosed) {
		t.Errorf("told %+v", got)
	}
	if len(c.waits.all) != 0 || len(stopped) != 0 {
		t.Errorf("%d waits are left; one that was stopped was told %d times", len(c.waits.all), len(stopped))
	}
	if err := core.close(); err != nil {
		t.Error(err)
	}
}

// TestStartedWaitIsToldWhatIsDurable: a grant whose sync fails is not told.
func TestStartedWaitIsToldWhatIsDurable(t *testing.T) {
	disk := storetest.NewDisk()
	core, _ := startOn(t, disk)
	c := lockConnOn(core)
	held := acquire(t, c, "n", "h")
	waited, released := make(told, 1), make(told, 1)
	c.StartWait(queueUp(t, c, "n", "next"), waited)
	disk.OnOp(func(op storetest.Op) error {
		if op.Kind == storetest.Sync {
			return errors.New("the disk is on fire")
		}
		return nil
	})
	c.StartRelease([]lockdriver.Ref{{Name: "n", Holder: "h", Token: held.Token}}, released)
	for what, ch := range map[string]told{"the release": released, "the wait": waited} {
		if got := <-ch; got.grant != nil || !errors.Is(got.err, lease.ErrUnknown) {
			t.Errorf("%s was told %+v", what, got)
		}
	}
	_ = core.close() // it says what failed
}

// TestStartedCallAndAFailedSync: who began a call that was not confirmed does
// not know, as who waits for one.
func TestStartedCallAndAFailedSync(t *testing.T) {
	disk := storetest.NewDisk()
	core, _ := startOn(t, disk)
	c := lockConnOn(core)
	disk.OnOp(func(op storetest.Op) error {
		if op.Kind == storetest.Sync {
			return errors.New("the disk is on fire")
		}
		return nil
	})
	acquired := make(told, 1)
	c.StartAcquire(request("n", "h"), acquired)
	select {
	case got := <-acquired:
		if !errors.Is(got.err, lease.ErrUnknown) {
			t.Errorf("told %+v", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("told nothing")
	}
	<-core.failed
	c.StartAcquire(request("m", "h"), acquired)
	if got := <-acquired; !errors.Is(got.err, lease.ErrUnavailable) {
		t.Errorf("a later call: %+v", got)
	}
	_ = core.close() // it says what failed
}
