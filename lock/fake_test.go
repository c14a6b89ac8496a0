package lock_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// fault is what goes wrong with one call.
type fault int

const (
	none      fault = iota
	away            // not carried out, and it says so
	lost            // carried out, the reply is lost
	hangs           // not carried out; answers when its ctx ends
	hangDone        // carried out; answers when its ctx ends
	stale           // not carried out: it knows no ticket of another store
	displaced       // not carried out: another call of the same request has taken its place
)

// fake is a backend with one exclusive lock for each name.
type fake struct {
	caps driver.Caps

	mu      sync.Mutex
	clock   lease.Clock
	token   lease.Token
	held    map[string]*fakeGrant
	line    map[string][]*driver.Request
	changed chan struct{}
	calls   []call
	closed  bool

	// What the tests set; called with the op of each call.
	fault func(op string) fault
	delay func(op string) time.Duration // between the decision and the reply
	renew error                         // refuses renewals

	events chan driver.Event
}

type fakeGrant struct {
	driver.Ref
	id       string
	deadline lease.Instant
}

// call is a record of one.
type call struct {
	op     string
	holder string
	id     string
	ticket bool
}

func newFake() *fake {
	return &fake{
		caps: driver.Caps{
			Backend: "fake", Fenced: true, FIFO: true, Meta: true, Resume: true, Revoke: true, Multi: true, Election: true, Watch: true,
			MinTTL: time.Second, MaxTTL: time.Hour, Loss: driver.LossBeforeGrant,
		},
		clock: lease.GoClock(), held: map[string]*fakeGrant{}, line: map[string][]*driver.Request{},
		changed: make(chan struct{}), events: make(chan driver.Event, 10),
		fault: func(string) fault { return none },
		delay: func(string) time.Duration { return 0 },
	}
}

// run gives f a Locker on a fake in a bubble, and closes it; synctest fails if a
// goroutine is left.
func run(t *testing.T, f func(t *testing.T, l *lock.Locker, b *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newFake()
		l := lock.New(b, &lock.Config{Clock: b.clock})
		defer func() {
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}()
		f(t, l, b)
	})
}

// on makes faults for one op, in order; later calls work.
func (f *fake) on(op string, faults ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = func(got string) fault {
		if got != op || len(faults) == 0 {
			return none
		}
		next := faults[0]
		faults = faults[1:]
		return next
	}
}

// always makes one fault for all calls.
func (f *fake) always(what fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = func(string) fault { return what }
}

// made returns the calls of one op.
func (f *fake) made(op string) []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.calls), func(c call) bool { return c.op != op })
}

// state returns who holds a name and how many wait.
func (f *fake) state(name string) (holder string, waiting int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tidy()
	if g := f.held[name]; g != nil {
		holder = g.Holder
	}
	return holder, len(f.line[name])
}

// forget loses all waiters, as a restart does.
func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.line)
	f.change()
}

func (f *fake) change() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) tidy() {
	for name, g := range f.held {
		if g.deadline < f.clock.Now() {
			delete(f.held, name)
		}
	}
}

// do records a call and carries it out around its fault.
func (f *fake) do(ctx context.Context, c call, decide func()) error {
	f.mu.Lock()
	f.calls = append(f.calls, c)
	what, delay := f.fault(c.op), f.delay(c.op)
	if what == stale && !c.ticket {
		what = none
	}
	if what != away && what != hangs && what != stale && what != displaced {
		f.tidy()
		decide()
	}
	f.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	switch what {
	case away:
		return lease.ErrUnavailable
	case lost:
		return lease.ErrUnknown
	case displaced:
		return driver.ErrAlreadyHeld
	case stale:
		return lease.Invalidf("ticket", "is not of this store")
	case hangs, hangDone:
		<-ctx.Done()
		return ctx.Err() // not classified, as from a careless driver
	default:
		return nil
	}
}

func (f *fake) grant(r *driver.Request) *driver.Grant {
	g := f.held[r.Name]
	if g == nil {
		f.token++
		g = &fakeGrant{Ref: driver.Ref{Name: r.Name, Holder: r.Holder, Token: f.token}, id: r.ID}
		f.held[r.Name] = g
	}
	g.deadline = f.clock.Now().Add(r.TTL)
	out := &driver.Grant{Token: g.Token, TTL: r.TTL}
	for _, name := range r.More { // no test contends for these
		one := *r
		one.Name, one.More = name, nil
		out.More = append(out.More, f.grant(&one).Token)
	}
	return out
}

func (f *fake) Caps() driver.Caps { return f.caps }

func (f *fake) Acquire(ctx context.Context, r *driver.Request) (g *driver.Grant, t *driver.Ticket, err error) {
	var refused error
	err = f.do(ctx, call{"acquire", r.Holder, r.ID, r.Ticket != nil}, func() {
		held, line := f.held[r.Name], f.line[r.Name]
		at := slices.IndexFunc(line, func(w *driver.Request) bool { return w.Holder == r.Holder })
		switch {
		case held != nil && held.Holder == r.Holder && held.id != r.ID:
			refused = driver.ErrAlreadyHeld
		case held != nil && held.Holder == r.Holder, held == nil && (len(line) == 0 || at == 0):
			if at == 0 {
				f.line[r.Name] = line[1:]
			}
			g = f.grant(r)
		case !r.Queue:
			refused = driver.ErrHeld
		default:
			if at < 0 {
				f.line[r.Name] = append(line, r)
			}
			t = &driver.Ticket{Opaque: r.Holder}
		}
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, nil, err
	}
	return g, t, nil
}

func (f *fake) Wait(ctx context.Context, r *driver.Request, _ *driver.Ticket) (*driver.Grant, error) {
	received := f.clock.Now()
	for {
		var g *driver.Grant
		var changed chan struct{}
		err := f.do(ctx, call{"wait", r.Holder, r.ID, true}, func() {
			line := f.line[r.Name]
			switch {
			case !slices.ContainsFunc(line, func(w *driver.Request) bool { return w.Holder == r.Holder }):
			case f.held[r.Name] == nil && line[0].Holder == r.Holder:
				f.line[r.Name] = line[1:]
				g = f.grant(r)
				g.Waited = f.clock.Now().Sub(received)
			default:
				changed = f.changed
			}
		})
		if err != nil || changed == nil {
			if err != nil {
				g = nil
			}
			return g, err
		}
		select {
		case <-changed:
		case <-time.After(time.Second): // a lease may have expired
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fake) Cancel(ctx context.Context, r *driver.Request) error {
	return f.do(ctx, call{"cancel", r.Holder, r.ID, false}, func() {
		if g := f.held[r.Name]; g != nil && g.Holder == r.Holder && g.id == r.ID {
			delete(f.held, r.Name)
		}
		f.line[r.Name] = slices.DeleteFunc(f.line[r.Name], func(w *driver.Request) bool { return w.Holder == r.Holder && w.ID == r.ID })
		f.change()
	})
}

func (f *fake) each(ctx context.Context, op string, refs []driver.Ref, do func(g *fakeGrant, r driver.Ref) driver.Outcome) ([]driver.Outcome, error) {
	outcomes := make([]driver.Outcome, len(refs))
	err := f.do(ctx, call{op: op, holder: refs[0].Holder}, func() {
		for i, r := range refs {
			if g := f.held[r.Name]; g != nil && g.Token == r.Token {
				outcomes[i] = do(g, r)
			} else {
				outcomes[i].Err = lease.ErrNotHeld
			}
		}
		f.change()
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

func (f *fake) Renew(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	return f.each(ctx, "renew", refs, func(g *fakeGrant, r driver.Ref) driver.Outcome {
		if f.renew != nil {
			return driver.Outcome{Err: f.renew}
		}
		g.deadline = f.clock.Now().Add(r.TTL)
		return driver.Outcome{TTL: r.TTL}
	})
}

func (f *fake) Release(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	return f.each(ctx, "release", refs, func(g *fakeGrant, _ driver.Ref) driver.Outcome {
		delete(f.held, g.Name)
		return driver.Outcome{}
	})
}

func (f *fake) Revoke(ctx context.Context, r *driver.RevokeRequest) error {
	return f.do(ctx, call{op: "revoke", id: r.Name}, func() {})
}

func (f *fake) SetValue(ctx context.Context, ref driver.Ref, value []byte) error {
	refused := lease.ErrNotHeld
	err := f.do(ctx, call{op: "value", holder: ref.Holder, id: string(value)}, func() {
		if g := f.held[ref.Name]; g != nil && g.Token == ref.Token {
			refused = nil
		}
	})
	if err == nil {
		err = refused
	}
	return err
}

func (f *fake) Watch(ctx context.Context, r *driver.WatchRequest) (driver.Watcher, error) {
	w := &fakeWatcher{f: f}
	return w, f.do(ctx, call{op: "watch", id: r.Name + r.Prefix}, func() {})
}

// fakeWatcher tells what the test puts into fake.events.
type fakeWatcher struct{ f *fake }

func (w *fakeWatcher) Next(ctx context.Context) ([]driver.Event, error) {
	if err := w.f.do(ctx, call{op: "next"}, func() {}); err != nil {
		return nil, err
	}
	select {
	case e := <-w.f.events:
		return []driver.Event{e}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *fakeWatcher) Close() error {
	return w.f.do(context.Background(), call{op: "unwatch"}, func() {})
}

func (f *fake) List(ctx context.Context, r *driver.ListRequest) (found []driver.Info, err error) {
	err = f.do(ctx, call{op: "list"}, func() {
		for _, name := range []string{"a", "b", "c"} {
			if f.held[name] != nil && name > r.After && (r.Name == "" || r.Name == name) {
				found = append(found, driver.Info{Name: name})
			}
		}
	})
	return found, err
}

func (f *fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}
