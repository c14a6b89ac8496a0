package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Commit is a transaction over queues and locks. Exactly one of Result and
// Err is set when it is decided.
type Commit struct {
	Txn    *queuedriver.Txn // validated; kept until the round is written
	Digest [32]byte         // of Txn

	Result *queuedriver.TxnResult
	Err    error
}

// ReadResult reads what a commit recorded.
type ReadResult struct {
	ID     string
	Result *queuedriver.TxnResult
	Err    error
}

func (*Commit) command()     {}
func (*ReadResult) command() {}

// Commits decides transactions over the queues and locks of one store.
//
// A commit has two phases. The first looks at everything that could stand in
// its way, and changes nothing but what goes by itself with time. It reads
// the store through a rememberingView. The second does what the commit says,
// by the same code that does each thing alone; all that it wants to read has
// been read, so that nothing can fail half way.
type Commits struct {
	queues  *Queues
	locks   *Locks
	results results
}

// NewCommits returns a Commits without results; RestoreBucket makes those in
// the store known.
func NewCommits(queues *Queues, locks *Locks) *Commits {
	return &Commits{queues: queues, locks: locks, results: newResults()}
}

// RestoreBucket makes known that the store has results in a bucket.
func (m *Commits) RestoreBucket(class byte, bucket int64) { m.results.add(class, bucket) }

// Tick begins a round: results whose time is over are dropped, a bucket at a
// time.
func (m *Commits) Tick(now Time, ch Changes) { m.results.tick(now, ch) }

// Commit decides c.
func (m *Commits) Commit(now Time, ch Changes, view View, c *Commit) {
	t := c.Txn
	if t.ID != "" {
		r, err := m.results.find(now, view, t.ID)
		switch {
		case err != nil:
			c.Err = err
			return
		case r != nil && r.Digest != c.Digest:
			c.Err = &queuedriver.CommitError{Part: queuedriver.PartID, Err: fmt.Errorf("an earlier commit with the id %q did something else: %w", t.ID, lease.ErrConflict)}
			return
		case r != nil:
			c.Result = repeated(r)
			return
		}
	}
	seen := newRememberingView(view)
	if c.Err = m.check(now, ch, seen, t); c.Err == nil {
		c.Result = m.apply(now, ch, seen, t)
		if t.ID != "" {
			m.results.put(now, ch, t, c.Digest, c.Result)
		}
	}
}

// Read reads a result.
func (m *Commits) Read(now Time, view View, c *ReadResult) {
	r, err := m.results.find(now, view, c.ID)
	switch {
	case err != nil:
		c.Err = err
	case r == nil:
		c.Err = fmt.Errorf("result of commit %q: %w", c.ID, lease.ErrNotFound)
	default:
		c.Result = repeated(r)
	}
}

// check says what stands in the way of t, if anything does.
func (m *Commits) check(now Time, ch Changes, view View, t *queuedriver.Txn) error {
	if m.queues.room != nil && (len(t.Publish) > 0 || t.ID != "") {
		return m.queues.room
	}
	for _, part := range [...]struct {
		name  queuedriver.Part
		locks []queuedriver.LockRef
	}{{queuedriver.PartRelease, t.Release}, {queuedriver.PartRequire, t.Require}} {
		for i := range part.locks {
			if err := m.checkLock(&part.locks[i]); err != nil {
				return &queuedriver.CommitError{Part: part.name, Index: i, Err: err}
			}
		}
	}
	var tried trial
	defer tried.undo()
	for i := range t.Settle {
		if err := m.queues.trySettle(now, view, &t.Settle[i], &tried); err != nil {
			return &queuedriver.CommitError{Part: queuedriver.PartSettle, Index: i, Err: err}
		}
	}
	for i := range t.Publish {
		if err := m.queues.tryPublish(now, ch, view, &t.Publish[i], &tried); err != nil {
			return &queuedriver.CommitError{Part: queuedriver.PartPublish, Index: i, Err: err}
		}
	}
	return nil
}

func (m *Commits) checkLock(l *queuedriver.LockRef) error {
	ref := lockRef(l)
	_, g := m.locks.held(&ref)
	switch {
	case g != nil:
		return nil
	case m.locks.broken.has(l.Token):
		return fmt.Errorf("lock %q: %w", l.Name, lease.ErrBroken)
	}
	return fmt.Errorf("lock %q is not held by %q with token %v in the store of these queues: %w", l.Name, l.Holder, l.Token, lease.ErrNotHeld)
}

func lockRef(l *queuedriver.LockRef) lockdriver.Ref {
	return lockdriver.Ref{Name: l.Name, Holder: l.Holder, Token: l.Token}
}

// apply does what check has found possible.
func (m *Commits) apply(now Time, ch Changes, view View, t *queuedriver.Txn) *queuedriver.TxnResult {
	r := &queuedriver.TxnResult{Result: t.Result}
	if len(t.Settle) > 0 {
		r.Settled = make([]queuedriver.Outcome, len(t.Settle))
	}
	for i := range t.Settle {
		r.Settled[i] = m.queues.settle(now, ch, view, &t.Settle[i])
		assert(r.Settled[i].Err == nil, "a settlement that was found possible is done")
	}
	if len(t.Publish) > 0 {
		r.Receipts = make([]queuedriver.Receipt, len(t.Publish))
	}
	var to []*queue
	for i := range t.Publish {
		var err error
		to, err = m.queues.look(now, ch, view, &t.Publish[i], to[:0])
		assert(err == nil, "a publish that was found possible is done")
		m.queues.take(now, ch, &t.Publish[i], &r.Receipts[i], to)
	}
	if len(t.Release) > 0 {
		release := ReleaseLocks{Refs: make([]lockdriver.Ref, len(t.Release))}
		for i := range t.Release {
			release.Refs[i] = lockRef(&t.Release[i])
		}
		m.locks.Release(now, ch, &release)
		for _, o := range release.Outcomes {
			assert(o.Err == nil, "a release that was found possible is done")
		}
	}
	return r
}

// rememberingView reads each thing once: what has been read is there again,
// and cannot fail.
type rememberingView struct {
	View
	messages map[messagePlace]*record.Message
	seen     map[seenPlace]bool
}

type messagePlace struct {
	queue uint32
	seq   uint64
}

type seenPlace struct {
	queue    uint32
	from, to int64
	id       string
}

func newRememberingView(v View) *rememberingView { return &rememberingView{View: v} }

// Message implements View.
func (v *rememberingView) Message(q uint32, blockFirst, seq uint64) (*record.Message, error) {
	at := messagePlace{q, seq}
	if rec := v.messages[at]; rec != nil {
		return rec, nil
	}
	rec, err := v.View.Message(q, blockFirst, seq)
	if err == nil {
		if v.messages == nil {
			v.messages = make(map[messagePlace]*record.Message)
		}
		v.messages[at] = rec
	}
	return rec, err
}

// Seen implements View.
func (v *rememberingView) Seen(q uint32, from, to int64, id string) (bool, error) {
	at := seenPlace{q, from, to, id}
	if seen, ok := v.seen[at]; ok {
		return seen, nil
	}
	seen, err := v.View.Seen(q, from, to, id)
	if err == nil {
		if v.seen == nil {
			v.seen = make(map[seenPlace]bool)
		}
		v.seen[at] = seen
	}
	return seen, err
}
