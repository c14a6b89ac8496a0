package server

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// lateLocks begins calls, and leaves it to the test to end them.
type lateLocks struct {
	lockdriver.Conn
	acquires chan lockdriver.Acquirer
	releases chan lockdriver.Releaser
	waits    chan *lateWait
}

// lateWait is a wait that was begun.
type lateWait struct {
	lockdriver.Acquirer
	told    atomic.Bool // or stopped
	stopped chan struct{}
}

func (w *lateWait) Stop() bool {
	if !w.told.CompareAndSwap(false, true) {
		return false
	}
	close(w.stopped)
	return true
}

func (l lateLocks) StartAcquire(_ *lockdriver.Request, to lockdriver.Acquirer) { l.acquires <- to }

func (l lateLocks) StartWait(_ *lockdriver.Request, to lockdriver.Acquirer) lockdriver.StartedWait {
	w := &lateWait{Acquirer: to, stopped: make(chan struct{})}
	l.waits <- w
	return w
}

func (l lateLocks) StartRelease(_ []lockdriver.Ref, to lockdriver.Releaser) { l.releases <- to }

func startLate(t *testing.T) (*daemon, lateLocks) {
	t.Helper()
	var late lateLocks
	d := start(t, func(c *Config) {
		late = lateLocks{c.Locks, make(chan lockdriver.Acquirer, 1), make(chan lockdriver.Releaser, 1), make(chan *lateWait, 1)}
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
	to.Flush()
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
	acquire.Flush()
	release.Flush()
	settled(t, d)
}

// TestSlowClientHoldsUpNobody: to tell outcomes to a session whose client takes
// none of its answers does not wait, and the client gets them in the end.
func TestSlowClientHoldsUpNobody(t *testing.T) {
	d, late := startLate(t)
	p := d.connect()
	first := p.ask(acquireBody("a", "h", false), frame.AppendRelease(nil, []lockdriver.Ref{{Name: "b", Holder: "h", Token: 1}}))
	acquire, release := <-late.acquires, <-late.releases
	ss := d.only()
	const filler = 16 << 20 // more than the connection buffers
	if _, err := ss.out.Send(0, frame.AppendReply(nil, &frame.Answer{Body: make([]byte, filler)}), 0, nil); err != nil {
		t.Fatal(err)
	}
	acquire.Acquired(&lockdriver.Grant{Token: 7, TTL: time.Minute}, nil, nil)
	release.Released(make([]lockdriver.Outcome, 1), nil)
	acquire.Flush()
	release.Flush()
	if n := ss.out.Bytes(); n < filler || n > filler+maxUnsent/2 {
		t.Errorf("%d bytes wait: the answers wait for their turn elsewhere", n)
	}
	p.expect(0, frame.Reply)
	got := map[uint64]frame.Kind{}
	for range 2 { // in any order
		f := p.next()
		got[f.ID] = f.Kind
	}
	if got[first] != frame.Granted || got[first+1] != frame.Outcomes {
		t.Errorf("got %v", got)
	}
}

// TestLargeBodiesComeTogether: once the messages of a session are large, a
// receive gets several of those that are there; one message is returned
// whatever its size, and small ones come as ever.
func TestLargeBodiesComeTogether(t *testing.T) {
	d := start(t, nil)
	d.queue("q")
	p := d.connect()
	const large, many = 1 << 20, 10
	for range many {
		p.expect(p.ask(publishBody("q", strings.Repeat("x", large))), frame.Receipts)
	}
	p.expect(p.ask(publishBody("q", "small")), frame.Receipts)
	receive := frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 100, MaxBytes: queuedriver.MaxReceiveBytes, Wait: time.Minute, Lease: time.Minute}, false)
	for i, want := range []int{1, bulkBytes / large, bulkBytes / large, many - 1 - 2*bulkBytes/large + 1} {
		ds, _, err := frame.ParseDeliveries(p.expect(p.ask(receive), frame.Deliveries))
		if err != nil || len(ds) != want {
			t.Fatalf("receive %d got %d, want %d: %v", i, len(ds), want, err)
		}
	}
	id := p.ask(receive) // waits, for nothing is there
	p.ask(publishBody("q", "small"))
	for range 2 { // in any order
		f := p.next()
		if f.ID != id {
			continue
		}
		if ds, _, err := frame.ParseDeliveries(f.Body); err != nil || len(ds) != 1 {
			t.Errorf("a receive that waited got %d: %v", len(ds), err)
		}
	}
	if err := p.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	settled(t, d)
}

// standInLine has an acquire of a session wait in the line.
func standInLine(t *testing.T, p *peer, late lateLocks) (id uint64, to lockdriver.Acquirer, wait *lateWait) {
	t.Helper()
	id = p.ask(frame.AppendAcquire(nil, &lockdriver.Request{Name: "a", Holder: "h", ID: "r", TTL: time.Minute}, true))
	to = <-late.acquires
	to.Acquired(nil, &lockdriver.Ticket{Opaque: "first", Position: 1}, nil)
	to.Flush()
	p.expect(id, frame.Queued)
	return id, to, <-late.waits
}

// TestToldAtOnceLeavesTogether: a grant and the answer to the release that it
// follows from are one batch, whoever they are told by.
func TestToldAtOnceLeavesTogether(t *testing.T) {
	d, late := startLate(t)
	p := d.connect()
	id, to, wait := standInLine(t, p, late)
	other := p.ask(frame.AppendRelease(nil, []lockdriver.Ref{{Name: "a", Holder: "other", Token: 1}}))
	release := <-late.releases
	release.Released(make([]lockdriver.Outcome, 1), nil)
	wait.told.Store(true)
	to.Acquired(&lockdriver.Grant{Token: 7, TTL: time.Minute}, nil, nil)
	release.Flush()
	to.Flush()
	_, b, err := p.ws.Read(p.ctx)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, err := frame.Next(b)
	if err != nil || first.ID != other || first.Kind != frame.Outcomes {
		t.Fatalf("%d %v, %v", first.ID, first.Kind, err)
	}
	second, rest, err := frame.Next(rest)
	if err != nil || second.ID != id || second.Kind != frame.Granted || len(rest) != 0 {
		t.Errorf("%d %v and %d bytes, %v", second.ID, second.Kind, len(rest), err)
	}
}

// TestLostPlaceIsTakenAnew: a wait whose place is not known any more is begun
// anew, and the client hears of the ticket only if it is another.
func TestLostPlaceIsTakenAnew(t *testing.T) {
	d, late := startLate(t)
	p := d.connect()
	id, to, wait := standInLine(t, p, late)
	for _, ticket := range []string{"first", "second"} {
		wait.told.Store(true)
		to.Acquired(nil, nil, nil)
		to = <-late.acquires
		to.Acquired(nil, &lockdriver.Ticket{Opaque: ticket, Position: 1}, nil)
		to.Flush()
		wait = <-late.waits
	}
	if place, err := frame.ParseQueued(p.expect(id, frame.Queued)); err != nil || place.Opaque != "second" {
		t.Errorf("queued %+v, %v", place, err)
	}
	p.send(frame.AppendFrame(nil, id, frame.AppendCancel(nil)))
	<-wait.stopped
	p.expect(id, frame.Problem)
	settled(t, d)
}

// TestCancelEndsAWait: a cancel by HTTP ends a wait on a session before it
// reaches the driver.
func TestCancelEndsAWait(t *testing.T) {
	d, late := startLate(t)
	p := d.connect()
	id, _, wait := standInLine(t, p, late)
	resp, err := d.client.Post(d.url+"/v1/locks/cancel", "application/json", strings.NewReader(`{"name":"a","holder":"h","request_id":"r"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-wait.stopped
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("the cancel was answered with %d", resp.StatusCode)
	}
	p.expect(id, frame.Problem)
	settled(t, d)
}
