package machine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

var errUnread = errors.New("cannot be read")

// failingView fails all reads but so many.
type failingView struct {
	View
	left   int
	failed bool
}

func (v *failingView) read() error {
	if v.left--; v.left < 0 {
		v.failed = true
		return errUnread
	}
	return nil
}

func (v *failingView) Message(q uint32, first, seq uint64) (*record.Message, error) {
	if err := v.read(); err != nil {
		return nil, err
	}
	return v.View.Message(q, first, seq)
}

func (v *failingView) Seen(q uint32, from, to int64, id string) (bool, error) {
	if err := v.read(); err != nil {
		return false, err
	}
	return v.View.Seen(q, from, to, id)
}

func (v *failingView) Result(class byte, bucket int64, id string) (*record.Result, error) {
	if err := v.read(); err != nil {
		return nil, err
	}
	return v.View.Result(class, bucket, id)
}

// txn makes a commit of which now and then a part cannot be done.
func (m *commitModel) txn() *queuedriver.Txn {
	t := &queuedriver.Txn{}
	if m.rand.IntN(2) == 0 {
		t.ID = fmt.Sprint("t", m.rand.IntN(60))
		t.ResultFor = []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute, time.Hour, queuedriver.MaxResultFor}[m.rand.IntN(5)]
		t.Result = []byte(fmt.Sprint("r", m.rand.IntN(2)))
		if r := m.results[t.ID]; r != nil && r.until > m.now.Wall && m.rand.IntN(2) == 0 {
			return r.txn // a repeat
		}
	}
	for _, msg := range m.sorted() {
		if msg.ref.Token != 0 && m.rand.IntN(3) == 0 && len(t.Settle) < 5 {
			s := queuedriver.Settlement{Ref: msg.ref, Verb: queuedriver.Verb(1 + m.rand.IntN(4))}
			t.Settle = append(t.Settle, s)
		}
	}
	m.rand.Shuffle(len(t.Settle), func(i, j int) { t.Settle[i], t.Settle[j] = t.Settle[j], t.Settle[i] })
	if len(m.oldRefs) > 0 && m.rand.IntN(8) == 0 {
		old := m.oldRefs[m.rand.IntN(len(m.oldRefs))]
		if !slices.ContainsFunc(t.Settle, func(s queuedriver.Settlement) bool { return s.Ref.Queue == old.Queue && s.Ref.Seq == old.Seq }) {
			t.Settle = append(t.Settle, queuedriver.Settlement{Ref: old, Verb: queuedriver.Ack})
		}
	}
	for range m.rand.IntN(4) {
		t.Publish = append(t.Publish, m.posting())
	}
	for _, l := range []string{"n0", "n1", "n2", "n3"} {
		held := m.locks[l]
		if held == nil {
			continue
		}
		switch m.rand.IntN(4) {
		case 0:
			t.Release = append(t.Release, held.ref)
		case 1:
			t.Require = append(t.Require, held.ref)
		}
	}
	if len(m.oldLocks) > 0 && m.rand.IntN(8) == 0 {
		old := m.oldLocks[m.rand.IntN(len(m.oldLocks))]
		if m.rand.IntN(2) == 0 {
			t.Release = append(t.Release, old)
		} else {
			t.Require = append(t.Require, old)
		}
	}
	return t
}

func (m *commitModel) posting() queuedriver.Publishing {
	m.published++
	p := queuedriver.Publishing{Mandatory: true, Message: &queuedriver.Message{ID: fmt.Sprint("m", m.published), Priority: uint8(m.rand.IntN(6))}}
	switch n := m.rand.IntN(20); {
	case n == 0:
		p.Route.Key = "nowhere"
	case n == 1:
		p.Route.Exchange = "unknown"
	case n < 5:
		p.Route.Exchange = "all"
	case n < 12:
		p.Route.Key = "a"
	default:
		p.Route.Key = "b"
	}
	if p.Route.Exchange != "all" && m.rand.IntN(6) == 0 { // one of before, or of this commit
		p.Message.ID = fmt.Sprint("m", m.published-1-m.rand.IntN(min(3, m.published)))
	}
	return p
}

// expect says for what reason a commit is to be refused, "" if for none.
func (m *commitModel) expect(t *queuedriver.Txn, full bool) (why string, sentinel error) {
	if r := m.results[t.ID]; t.ID != "" && r != nil && r.until > m.now.Wall {
		if r.digest == t.Digest() {
			return "repeated", nil
		}
		return "id", lease.ErrConflict
	}
	if full && (len(t.Publish) > 0 || t.ID != "") {
		return "full", lease.ErrNoSpace
	}
	for i, locks := range [][]queuedriver.LockRef{t.Release, t.Require} {
		for _, ref := range locks {
			if l := m.locks[ref.Name]; l == nil || l.ref != ref {
				return []string{"release", "require"}[i], lease.ErrNotHeld
			}
		}
	}
	for _, s := range t.Settle {
		msg := m.heldBy(s.Ref)
		if msg == nil {
			return "settle", lease.ErrNotHeld
		}
		if full && s.Verb == queuedriver.Reject && msg.queue == "a" {
			return "full", lease.ErrNoSpace
		}
	}
	for _, p := range t.Publish {
		switch {
		case p.Route.Exchange == "unknown":
			return "publish", lease.ErrNotFound
		case p.Route.Key == "nowhere":
			return "publish", queuedriver.ErrUnroutable
		}
	}
	return "", nil
}

func (m *commitModel) heldBy(ref queuedriver.Ref) *commitMessage {
	for _, msg := range m.msgs {
		if msg.ref == ref {
			return msg
		}
	}
	return nil
}

// commit makes a commit and holds it against the model.
func (m *commitModel) commit(t *queuedriver.Txn) {
	m.t.Helper()
	view := &failingView{View: m.store, left: 1 << 30}
	if m.rand.IntN(4) == 0 {
		view.left = m.rand.IntN(6)
	}
	full := m.rand.IntN(10) == 0
	if full { // what is past its limit would stay, which the model does not know
		t = &queuedriver.Txn{ID: t.ID, Settle: slices.Clone(t.Settle), Publish: t.Publish, Release: t.Release, Require: t.Require, Result: t.Result, ResultFor: t.ResultFor}
		for i := range t.Settle {
			if t.Settle[i].Verb == queuedriver.Nack {
				t.Settle[i].Verb = queuedriver.Ack
			}
		}
	}
	why, sentinel := m.expect(t, full)
	m.tick()
	m.endRound()
	before := m.dump()
	m.tick()
	if full {
		m.m.SetRoom(lease.ErrNoSpace)
	}
	c := &Commit{Txn: t, Digest: t.Digest()}
	m.c.Commit(m.now, m.store, view, c)
	m.m.SetRoom(nil)
	if view.failed {
		why, sentinel = "unread", errUnread
		m.m.Faults() // reported, too
	}
	if !errors.Is(c.Err, sentinel) || (c.Err == nil) != (sentinel == nil) {
		m.t.Fatalf("commit of %+v: %v, want %s %v", t, c.Err, why, sentinel)
	}
	var failed *queuedriver.CommitError
	if errors.As(c.Err, &failed) && why != string(failed.Part) && why != "full" && why != "unread" {
		m.t.Fatalf("commit of %+v: %v, want one about %s", t, c.Err, why)
	}
	if why == "" {
		m.committed++
		m.carryOut(t, c)
		m.endRound()
		return
	}
	m.refused[why]++
	m.endRound()
	if after := m.dump(); after != before {
		m.t.Fatalf("a commit that is refused (%s, %v) has left traces:\n%s\nbefore:\n%s", why, c.Err, after, before)
	}
	if why == "repeated" && (!c.Result.Repeated || !sameResult(c.Result, m.results[t.ID].result)) {
		m.t.Fatalf("a repeat returned %+v, want %+v", c.Result, m.results[t.ID].result)
	}
}

// carryOut does in the model what the machine has done.
func (m *commitModel) carryOut(t *queuedriver.Txn, c *Commit) {
	m.t.Helper()
	for i, s := range t.Settle {
		msg := m.heldBy(s.Ref)
		m.oldRefs = append(m.oldRefs, s.Ref)
		dead := false
		switch s.Verb {
		case queuedriver.Ack:
			m.remove(msg)
		case queuedriver.Nack:
			dead = m.failed(msg)
		case queuedriver.Release:
			msg.ref.Token = 0
		case queuedriver.Reject:
			if dead = msg.queue == "a"; dead {
				m.bury(msg)
			} else {
				m.remove(msg)
			}
		case queuedriver.Extend:
		}
		if c.Result.Settled[i].DeadLettered != dead {
			m.t.Fatalf("outcome %+v of %+v, want dead %v", c.Result.Settled[i], s, dead)
		}
	}
	fresh := make(map[string]bool)
	for i, p := range t.Publish {
		to := []string{p.Route.Key}
		if p.Route.Exchange == "all" {
			to = []string{"b", "c", "s"}
		}
		duplicate := true
		for _, queue := range to {
			if queue == "s" { // which remembers no ids
				m.streamed++
				duplicate = false
				continue
			}
			key := queue + "/" + p.Message.ID
			if queue != "c" && (m.known(queue, p.Message.ID) || fresh[key]) {
				continue
			}
			fresh[key], duplicate = true, false
			m.add(queue, p.Message.ID)
		}
		if r := c.Result.Receipts[i]; r.Queues != len(to) || r.Duplicate != duplicate {
			m.t.Fatalf("receipt %+v of %s to %v, want duplicate %v", r, p.Message.ID, to, duplicate)
		}
	}
	for _, ref := range t.Release {
		m.oldLocks = append(m.oldLocks, ref)
		delete(m.locks, ref.Name)
	}
	if t.ID != "" {
		m.results[t.ID] = &commitResult{txn: t, digest: t.Digest(), until: m.now.Wall + int64(t.ResultFor), result: c.Result}
	}
}
