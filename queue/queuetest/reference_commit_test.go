package queuetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// refResult is what a reference remembers of a commit.
type refResult struct {
	digest [32]byte
	until  time.Time
	result driver.TxnResult
}

func (c *refConn) Commit(ctx context.Context, t *driver.Txn) (*driver.TxnResult, error) {
	own, caps := *t, c.Caps()
	if err := own.Validate(&caps); err != nil && !c.flaws.commitUnlimited {
		return nil, err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	digest := own.Digest()
	if known := c.results[own.ID]; own.ID != "" && known != nil && (now.Before(known.until) || c.flaws.resultsForever) {
		if known.digest != digest && !c.flaws.digestIgnored {
			return nil, &driver.CommitError{Part: driver.PartID, Err: lease.ErrConflict}
		}
		out := known.result
		out.Repeated = true
		return &out, nil
	}
	if err := c.refuse(now, &own); err != nil {
		if c.flaws.failuresKept {
			c.results[own.ID] = &refResult{digest: digest, until: now.Add(own.ResultFor)}
		}
		return nil, err
	}
	before := c.copyQueues()
	out := c.carryOut(now, &own)
	for i := range out.Receipts {
		if err := out.Receipts[i].Err; err != nil { // only now it is known: there was no room
			if !c.flaws.commitOverfull {
				c.queues = before
			}
			return nil, &driver.CommitError{Part: driver.PartPublish, Index: i, Err: err}
		}
	}
	if own.ID != "" && !c.flaws.resultsForgotten {
		c.results[own.ID] = &refResult{digest: digest, until: now.Add(own.ResultFor), result: *out}
	}
	c.wake()
	return out, nil
}

func (c *refConn) Result(ctx context.Context, id string) (*driver.TxnResult, error) {
	if err := driver.ValidateCommitID("id", id); err != nil {
		return nil, err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	known := c.results[id]
	if known == nil || !now.Before(known.until) && !c.flaws.resultsForever {
		return nil, fmt.Errorf("commit %q: %w", id, lease.ErrNotFound)
	}
	out := known.result
	out.Repeated = true
	return &out, nil
}

// refuse says why a commit cannot be carried out.
func (r *reference) refuse(now time.Time, t *driver.Txn) error {
	for i := range t.Settle {
		if r.flaws.commitBelieves {
			break
		}
		err := lease.ErrNotHeld
		q, unknown := r.find(t.Settle[i].Ref.Queue)
		if unknown != nil {
			err = unknown
		} else {
			for _, m := range q.messages {
				if m.seq == t.Settle[i].Ref.Seq && m.flying && m.token == t.Settle[i].Ref.Token {
					err = nil
				}
			}
		}
		if err != nil {
			return &driver.CommitError{Part: driver.PartSettle, Index: i, Err: err}
		}
	}
	for i := range t.Publish {
		p := &t.Publish[i]
		to, err := r.match(p.Route, p.Message.Headers)
		if err == nil && len(to) == 0 && p.Mandatory {
			err = driver.ErrUnroutable
		}
		if err != nil {
			if r.flaws.commitByHalf {
				r.publish(now, &t.Publish[1-i%2])
			}
			return &driver.CommitError{Part: driver.PartPublish, Index: i, Err: err}
		}
	}
	for i, l := range t.Release {
		if !r.holds(l) {
			return &driver.CommitError{Part: driver.PartRelease, Index: i, Err: lease.ErrNotHeld}
		}
	}
	for i, l := range t.Require {
		if !r.holds(l) && !r.flaws.requireIgnored {
			return &driver.CommitError{Part: driver.PartRequire, Index: i, Err: lease.ErrNotHeld}
		}
	}
	return nil
}

func (r *reference) carryOut(now time.Time, t *driver.Txn) *driver.TxnResult {
	out := &driver.TxnResult{}
	if len(t.Result) > 0 {
		out.Result = bytes.Clone(t.Result)
	}
	for i := range t.Settle {
		var o driver.Outcome
		if !r.flaws.commitAcksNothing {
			o = r.settle(now, &t.Settle[i])
		}
		o.Err = nil // a flaw lets through what is not held
		out.Settled = append(out.Settled, o)
	}
	for i := range t.Publish {
		out.Receipts = append(out.Receipts, r.publish(now, &t.Publish[i]))
	}
	for _, l := range t.Release {
		if !r.flaws.locksKept {
			delete(r.locks, l.Name)
		}
	}
	if r.flaws.requireReleases {
		for _, l := range t.Require {
			delete(r.locks, l.Name)
		}
	}
	return out
}

// copyQueues returns the queues as they are, with what is in them.
func (r *reference) copyQueues() map[string]*refQueue {
	out := make(map[string]*refQueue, len(r.queues))
	for name, q := range r.queues {
		own := *q
		own.seen, own.consumers = maps.Clone(q.seen), maps.Clone(q.consumers)
		own.messages, own.scheduled = copyMessages(q.messages), copyMessages(q.scheduled)
		out[name] = &own
	}
	return out
}

func copyMessages(ms []*refMessage) []*refMessage {
	out := make([]*refMessage, len(ms))
	for i, m := range ms {
		own := *m
		out[i] = &own
	}
	return out
}

func (r *reference) holds(l driver.LockRef) bool {
	held, ok := r.locks[l.Name]
	return ok && held == l
}

// refLocks is as much of a lock service as the suite needs.
type refLocks struct{ *reference }

func (l refLocks) Acquire(_ context.Context, name, holder string, _ time.Duration) (lease.Token, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, held := l.locks[name]; held {
		return 0, errors.New("held")
	}
	l.token++
	l.locks[name] = driver.LockRef{Name: name, Holder: holder, Token: l.token}
	return l.token, nil
}

func (l refLocks) Renew(_ context.Context, ref driver.LockRef, _ time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.holds(ref) {
		return lease.ErrNotHeld
	}
	return nil
}

func (l refLocks) Release(ctx context.Context, ref driver.LockRef) error {
	if err := l.Renew(ctx, ref, 0); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.locks, ref.Name)
	return nil
}

func (refLocks) Close() error { return nil }
