package kafka

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// record is the topology as one message of the topic PREFIXtopology, which has
// one partition. Who changes it appends a record that says which version it was
// made from: the first one made from a version is the next version, and others
// made from the same count for nothing. So all readers agree on what counts,
// and nobody holds a lock. The first message of the topic always counts:
// what is before the newest version may be deleted.
type record struct {
	ID      string `json:"id"`
	Base    uint64 `json:"base"`
	Version uint64 `json:"version"`

	Topology *wire.Topology `json:"topology"`
	// Queues has more about each queue of the topology, by its index, and
	// likewise the others.
	Queues    []queueRecord    `json:"queues,omitempty"`
	Exchanges []exchangeRecord `json:"exchanges,omitempty"`
	// Since has, for each binding and partition of its exchange's topic, the
	// offset from which on it matches.
	Since [][]int64 `json:"since,omitempty"`
}

type queueRecord struct {
	Born  uint64  `json:"born"`            // the version in which it was made
	Since []int64 `json:"since,omitempty"` // by partition of its topic
	Own   bool    `json:"own,omitempty"`   // the topic was made for it
	// Type is the queue's: "" is Ordered.
	Type QueueType `json:"type,omitempty"`
}

// kind is the type of a queue.
func (r *queueRecord) kind() QueueType {
	if r.Type == "" {
		return Ordered
	}
	return r.Type
}

type exchangeRecord struct {
	Own bool `json:"own,omitempty"`
}

// state is a record taken apart. It does not change.
type state struct {
	record    *record
	topology  *driver.Topology
	exchanges map[string]*exchangeState
	queues    map[string]*queueState
}

type exchangeState struct {
	spec     *driver.Exchange
	topic    string
	bindings []*bound // of all queues
}

type queueState struct {
	spec  *driver.Queue
	kind  QueueType
	born  uint64
	since []int64
	topic string
	feeds map[string][]*bound // by exchange
}

// bound is a binding with the offsets from which on it matches.
type bound struct {
	spec  *driver.Binding
	since []int64
}

// at is the offset for a partition; one that was added later has all.
func at(since []int64, partition int32) int64 {
	if int(partition) < len(since) {
		return since[partition]
	}
	return 0
}

func newState(r *record) (*state, error) {
	t := r.Topology.Driver()
	if len(r.Queues) != len(t.Queues) || len(r.Exchanges) != len(t.Exchanges) || len(r.Since) != len(t.Bindings) {
		return nil, errors.New("its parts do not belong together")
	}
	st := &state{record: r, topology: t, exchanges: map[string]*exchangeState{}, queues: map[string]*queueState{}}
	for i := range t.Exchanges {
		e := &t.Exchanges[i]
		st.exchanges[e.Name] = &exchangeState{spec: e, topic: exchangeTopic(e.Name)}
	}
	for i := range t.Queues {
		q := &t.Queues[i]
		st.queues[q.Name] = &queueState{
			spec: q, kind: r.Queues[i].kind(), born: r.Queues[i].Born, since: r.Queues[i].Since, topic: queueTopic(q.Name), feeds: map[string][]*bound{},
		}
	}
	for i := range t.Bindings {
		b := &bound{spec: &t.Bindings[i], since: r.Since[i]}
		e, q := st.exchanges[b.spec.Exchange], st.queues[b.spec.Queue]
		if e == nil || q == nil {
			return nil, fmt.Errorf("binding %s has no end", bindingName(b.spec))
		}
		e.bindings = append(e.bindings, b)
		q.feeds[e.spec.Name] = append(q.feeds[e.spec.Name], b)
	}
	return st, nil
}

// follower reads the record as it grows.
type follower struct {
	mu      sync.Mutex
	now     *state
	next    int64 // offset of what was not read yet
	counted int64 // offset of the record that counts
	won     map[string]bool
	broken  error         // the record cannot be read
	moved   chan struct{} // closed when next grows
}

func (f *follower) init() {
	f.now, _ = newState(&record{Topology: &wire.Topology{}})
	f.won, f.moved, f.counted = map[string]bool{}, make(chan struct{}), -1
}

func (f *follower) state() *state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// fold reads one message and returns the new state if it counts.
func (f *follower) fold(offset int64, body []byte) *state {
	f.mu.Lock()
	defer f.mu.Unlock()
	var r record
	err := json.Unmarshal(body, &r)
	if err == nil && r.Topology == nil {
		err = errors.New("it has no topology")
	}
	// What follows a gap is the first that was not deleted.
	if err == nil && f.counted >= 0 && offset == f.next && r.Base != f.now.record.Version {
		return nil // another was faster
	}
	var st *state
	if err == nil {
		st, err = newState(&r)
	}
	if err != nil {
		f.broken = fmt.Errorf("%w: message %d cannot be read: %w", lease.ErrUnavailable, offset, err)
		return nil
	}
	f.broken, f.now, f.counted = nil, st, offset
	if _, ours := f.won[r.ID]; ours {
		f.won[r.ID] = true
	}
	return st
}

// advance notes that all before an offset was read.
func (f *follower) advance(offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = offset
	close(f.moved)
	f.moved = make(chan struct{})
}

// reach waits until all before an offset was read.
func (f *follower) reach(ctx context.Context, offset int64) error {
	for {
		f.mu.Lock()
		next, moved, broken := f.next, f.moved, f.broken
		f.mu.Unlock()
		if broken != nil {
			return broken
		}
		if next >= offset {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// recordSettings keep the record for ever.
func recordSettings() map[string]*string {
	return map[string]*string{
		"cleanup.policy": kadm.StringPtr("delete"), "retention.ms": kadm.StringPtr("-1"), "retention.bytes": kadm.StringPtr("-1"),
		"max.message.bytes": kadm.StringPtr(strconv.Itoa(maxRecord)),
	}
}

// maxRecord bounds the record in bytes.
const maxRecord = 16 << 20

// maxBatch is what brokers take at once by default, and more for the record.
func (o *Options) maxBatch(topic string) int32 {
	if topic == o.recordTopic() {
		return maxRecord
	}
	return 1_000_012
}

func (c *conn) makeRecord(ctx context.Context) error {
	known, err := c.adm.ListTopics(ctx, c.o.recordTopic())
	if err == nil && !known.Has(c.o.recordTopic()) {
		_, err = c.createTopic(ctx, c.o.recordTopic(), 1, recordSettings())
	}
	return err
}

// follow reads the record until the conn is closed.
func (c *conn) follow() {
	for !c.isClosed() {
		fetches := c.cl.PollFetches(c.ctx)
		fetches.EachError(func(topic string, _ int32, err error) {
			if !c.isClosed() {
				c.o.Logger.Warn("the record of the topology is out of reach", "topic", topic, "error", err)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			if st := c.record.fold(r.Offset, r.Value); st != nil {
				c.changed(st)
			}
			c.record.advance(r.Offset + 1)
		})
	}
}

// syncRecord waits until all is read that is in the record now.
func (c *conn) syncRecord(ctx context.Context) error {
	if c.isClosed() {
		return lease.ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	ends, err := c.ends(ctx, c.o.recordTopic())
	if err == nil && len(ends[c.o.recordTopic()]) == 1 {
		err = c.record.reach(ctx, ends[c.o.recordTopic()][0])
	}
	if c.isClosed() {
		return lease.ErrClosed
	}
	return named("topic", c.o.recordTopic(), classify(err, lease.ErrUnavailable))
}

// recordKept is how many versions are made between deletions of old ones.
const recordKept = 64

// change replaces the record by what f makes of it: again if somebody else was
// faster. f returns nil if nothing changes.
func (c *conn) change(ctx context.Context, f func(ctx context.Context, st *state) (*draft, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 3*c.o.Timeout)
	defer cancel()
	select {
	case <-c.declaring:
		defer func() { c.declaring <- struct{}{} }()
	case <-ctx.Done():
		return ended(ctx)
	case <-c.ctx.Done():
		return lease.ErrClosed
	}
	for {
		if err := c.syncRecord(ctx); err != nil {
			return err
		}
		st := c.record.state()
		d, err := f(ctx, st)
		if err != nil || d == nil {
			return err
		}
		won, err := c.append(ctx, d.record(st.record.Version))
		if c.isClosed() && err != nil {
			return lease.ErrClosed
		}
		if won || err != nil {
			return err
		}
	}
}

// append appends a record and reports whether it counts.
func (c *conn) append(ctx context.Context, r *record) (won bool, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	c.record.mu.Lock()
	c.record.won[r.ID] = false
	c.record.mu.Unlock()
	defer func() {
		c.record.mu.Lock()
		won = c.record.won[r.ID]
		delete(c.record.won, r.ID)
		c.record.mu.Unlock()
	}()
	out, err := c.cl.ProduceSync(ctx, &kgo.Record{Topic: c.o.recordTopic(), Value: body}).First()
	if err != nil {
		return false, named("topic", c.o.recordTopic(), classify(err, lease.ErrUnknown))
	}
	if err := c.record.reach(ctx, out.Offset+1); err != nil {
		return false, fmt.Errorf("%w: %w", lease.ErrUnknown, err)
	}
	if r.Version%recordKept == 0 {
		c.trim(ctx)
	}
	return false, nil // the deferred function says it
}

// trim deletes what is before the record that counts.
func (c *conn) trim(ctx context.Context) {
	c.record.mu.Lock()
	counted := c.record.counted
	c.record.mu.Unlock()
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: c.o.recordTopic(), Partition: 0, At: counted})
	if _, err := c.adm.DeleteRecords(ctx, before); err != nil {
		c.o.Logger.Warn("old versions of the topology stay", "topic", c.o.recordTopic(), "error", err)
	}
}

// draft is a record to be.
type draft struct {
	exchanges []draftExchange
	queues    []draftQueue
	bindings  []draftBinding
}

type draftExchange struct {
	spec driver.Exchange
	exchangeRecord
}

type draftQueue struct {
	spec driver.Queue
	queueRecord
}

type draftBinding struct {
	spec  driver.Binding
	since []int64
}

// draft copies a state.
func (st *state) draft() *draft {
	d := &draft{}
	t := st.topology
	for i := range t.Exchanges {
		d.exchanges = append(d.exchanges, draftExchange{t.Exchanges[i], st.record.Exchanges[i]})
	}
	for i := range t.Queues {
		d.queues = append(d.queues, draftQueue{t.Queues[i], st.record.Queues[i]})
	}
	for i := range t.Bindings {
		d.bindings = append(d.bindings, draftBinding{t.Bindings[i], st.record.Since[i]})
	}
	return d
}

// record makes the record, sorted by name.
func (d *draft) record(base uint64) *record {
	slices.SortFunc(d.exchanges, func(a, b draftExchange) int { return strings.Compare(a.spec.Name, b.spec.Name) })
	slices.SortFunc(d.queues, func(a, b draftQueue) int { return strings.Compare(a.spec.Name, b.spec.Name) })
	slices.SortStableFunc(d.bindings, func(a, b draftBinding) int {
		return cmp.Or(strings.Compare(a.spec.Exchange, b.spec.Exchange), strings.Compare(a.spec.Queue, b.spec.Queue), strings.Compare(a.spec.Key, b.spec.Key))
	})
	r := &record{ID: rand.Text(), Base: base, Version: base + 1}
	var t driver.Topology
	for i := range d.exchanges {
		t.Exchanges, r.Exchanges = append(t.Exchanges, d.exchanges[i].spec), append(r.Exchanges, d.exchanges[i].exchangeRecord)
	}
	for i := range d.queues {
		t.Queues, r.Queues = append(t.Queues, d.queues[i].spec), append(r.Queues, d.queues[i].queueRecord)
	}
	for i := range d.bindings {
		t.Bindings, r.Since = append(t.Bindings, d.bindings[i].spec), append(r.Since, d.bindings[i].since)
	}
	r.Topology = wire.NewTopology(&t)
	return r
}

// Topology implements driver.Conn.
func (c *conn) Topology(ctx context.Context) (*driver.Topology, error) {
	if err := c.syncRecord(ctx); err != nil {
		return nil, err
	}
	t := c.record.state().topology
	return &driver.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings)}, nil
}

// pass waits, unless the conn is closed.
func (c *conn) pass(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
	return false
}
