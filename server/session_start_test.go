package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// lateLocks begins calls, and leaves it to the test to end them.
type lateLocks struct {
	lockdriver.Conn
	acquires chan lockdriver.Acquirer
	releases chan lockdriver.Releaser
}

func (l lateLocks) StartAcquire(_ *lockdriver.Request, to lockdriver.Acquirer) { l.acquires <- to }

func (l lateLocks) StartRelease(_ []lockdriver.Ref, to lockdriver.Releaser) { l.releases <- to }

func startLate(t *testing.T) (*daemon, lateLocks) {
	t.Helper()
	var late lateLocks
	d := start(t, func(c *Config) {
		late = lateLocks{c.Locks, make(chan lockdriver.Acquirer, 1), make(chan lockdriver.Releaser, 1)}
		c.Locks = late
	})
	return d, late
}

// TestCancelWaitsForWhatHasBegun: an acquire that the driver is at is over
// before a cancel of it reaches the driver.
func TestCancelWaitsForWhatHasBegun(t *testing.T) {
	d, late := startLate(t)
	p := d.connect()
	id := p.ask(frame.AppendAcquire(nil, &lockdriver.Request{Name: "a", Holder: "h", ID: "r", TTL: 10 * time.Second}, false))
	to := <-late.acquires
	cancelled := make(chan int, 1)
	go func() {
		resp, err := d.client.Post(d.url+"/v1/locks/cancel", "application/json", strings.NewReader(`{"name":"a","holder":"h","request_id":"r"}`))
		if err != nil {
			t.Error(err)
			cancelled <- 0
			return
		}
		resp.Body.Close()
		cancelled <- resp.StatusCode
	}()
	until(t, "the cancel waits", func() bool {
		cs := &d.server.acquires
		cs.mu.Lock()
		defer cs.mu.Unlock()
		u := cs.m[acquireID{name: "a", holder: "h", id: "r"}]
		return u != nil && u.done != nil
	})
	to.Acquired(&lockdriver.Grant{Token: 7, TTL: time.Minute}, nil, nil)
	if g, err := frame.ParseGranted(p.expect(id, frame.Granted)); err != nil || g.Token != 7 || g.Waited <= 0 {
		t.Errorf("granted %+v, %v", g, err)
	}
	if status := <-cancelled; status != http.StatusNoContent {
		t.Errorf("the cancel was answered with %d", status)
	}
}

// TestOutcomesAfterTheSession: what a driver says about calls of a session
// that has ended goes nowhere, and nothing stays counted.
func TestOutcomesAfterTheSession(t *testing.T) {
	d, late := startLate(t)
	p := d.connect()
	p.ask(acquireBody("a", "h", false), frame.AppendRelease(nil, []lockdriver.Ref{{Name: "b", Holder: "h", Token: 1}}))
	acquire, release := <-late.acquires, <-late.releases
	if err := p.ws.CloseNow(); err != nil {
		t.Fatal(err)
	}
	until(t, "the session has ended", func() bool {
		d.server.sessions.mu.Lock()
		defer d.server.sessions.mu.Unlock()
		return len(d.server.sessions.all) == 0
	})
	acquire.Acquired(&lockdriver.Grant{Token: 7, TTL: time.Minute}, nil, nil)
	release.Released(nil, lease.ErrClosed)
	settled(t, d)
}

// TestSlowClientHoldsUpNobody: one that takes none of its answers, far more
// than connections buffer, does not keep others from theirs, and gets all of
// them in the end.
func TestSlowClientHoldsUpNobody(t *testing.T) {
	d := start(t, nil)
	slow, other := d.connect(), d.connect()
	refs := make([]lockdriver.Ref, lockdriver.MaxBatch)
	for i := range refs {
		refs[i] = lockdriver.Ref{Name: "nobody", Holder: "h", Token: 1}
	}
	release := frame.AppendRelease(nil, refs)
	const releases = 120
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for id := range uint64(releases) {
			if err := slow.ws.Write(slow.ctx, websocket.MessageBinary, frame.AppendFrame(nil, id+1, release)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	until(t, "answers pile up", func() bool { return d.server.sessions.unsent() > maxUnsent })
	for i := range 20 {
		other.expect(other.ask(acquireBody(fmt.Sprint("n", i), "h", false)), frame.Granted)
	}
	got := map[uint64]bool{}
	for range releases {
		f := slow.next()
		outcomes, err := frame.ParseOutcomes(f.Body)
		if f.Kind != frame.Outcomes || err != nil || len(outcomes) != len(refs) || got[f.ID] {
			t.Fatalf("got %v of %d with %d outcomes, %v", f.Kind, f.ID, len(outcomes), err)
		}
		got[f.ID] = true
	}
	<-sent
}
