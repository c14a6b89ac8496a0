package lock

import (
	"bytes"
	"context"
	"iter"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Campaign waits until it is elected: until it holds name, like Acquire. While
// it leads, value is shown to those who Observe the name: where to find the
// leader, say. The leader resigns by Release, and leads no more when the
// lease's context ends. It needs Caps.Election.
func (l *Locker) Campaign(ctx context.Context, name string, value []byte, o *Options) (*Lease, error) {
	le, _, err := l.acquire(ctx, demand{name: name, queue: true, campaign: true, value: bytes.Clone(value)}, o)
	return le, wrap("campaign for", name, err)
}

// TryCampaign leads if nobody does, and returns ErrHeld otherwise, see
// TryAcquire.
func (l *Locker) TryCampaign(ctx context.Context, name string, value []byte, o *Options) (*Lease, error) {
	le, _, err := l.acquire(ctx, demand{name: name, campaign: true, value: bytes.Clone(value)}, o)
	return le, wrap("try to campaign for", name, err)
}

// Proclaim replaces the leader's value, in one attempt. The error matches
// ErrNotHeld, and the cause, if the lease has ended.
func (le *Lease) Proclaim(ctx context.Context, value []byte) error {
	return wrap("proclaim", le.Name(), le.proclaim(ctx, value))
}

func (le *Lease) proclaim(ctx context.Context, value []byte) error {
	if err := le.held.Check(); err != nil {
		return notHeldFor(err)
	}
	l := le.locker
	if err := driver.ValidateValue(value, &l.caps); err != nil {
		return err
	}
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return l.conn.SetValue(ctx, le.held.Ref(), value)
}

// Leader is who holds a name. The zero Leader is a vacancy.
type Leader struct {
	Holder string
	Token  Token // 0: nobody leads
	Value  []byte
}

// Vacant reports that nobody leads.
func (l *Leader) Vacant() bool { return l.Token == 0 }

func (l *Leader) equal(other *Leader) bool {
	return l.Token == other.Token && l.Holder == other.Holder && bytes.Equal(l.Value, other.Value)
}

// Observe tells who leads: first who does now, or that nobody does, and then
// each change of the leader or its value, until ctx ends or the caller breaks
// off. It tells states and not histories: a leader that came and went between
// two calls is left out. The last it yields is an error. It needs Caps.Watch.
func (l *Locker) Observe(ctx context.Context, name string) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		var now, told Leader
		synced, first := false, true
		for e, err := range l.WatchName(ctx, name) {
			if err != nil {
				yield(Leader{}, err)
				return
			}
			switch e.Kind {
			case EventReset:
				now, synced = Leader{}, false
			case EventState:
				now = leaderOf(&e.Info)
			case EventGone:
				now = Leader{}
			case EventSynced:
				synced = true
			}
			if !synced || !first && now.equal(&told) {
				continue
			}
			told, first = now, false
			if !yield(now, nil) {
				return
			}
		}
	}
}

func leaderOf(info *Info) Leader {
	if len(info.Grants) == 0 {
		return Leader{}
	}
	g := &info.Grants[0]
	return Leader{Holder: g.Holder, Token: g.Token, Value: g.Value}
}
