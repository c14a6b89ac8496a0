package queue

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// operated is a fake on which the operators' requests are recorded and
// answered.
type operated struct {
	*fakeConn
	err       error
	declared  []*driver.Topology
	dryRuns   []bool
	changes   []driver.Change
	deleted   []driver.DeleteRequest
	cancelled []string
	names     []string // of queues, sorted, for Stats
	asked     []driver.StatsRequest
	peeked    []driver.PeekRequest
	redriven  []driver.RedriveRequest
	left      int64 // dead letters
	failAt    int   // the Redrive that fails, from 1
}

func (o *operated) Declare(ctx context.Context, t *driver.Topology, dryRun bool) ([]driver.Change, error) {
	o.declared, o.dryRuns = append(o.declared, t), append(o.dryRuns, dryRun)
	return o.changes, o.err
}

func (o *operated) Delete(_ context.Context, r *driver.DeleteRequest) error {
	o.deleted = append(o.deleted, *r)
	return o.err
}

func (o *operated) Topology(context.Context) (*driver.Topology, error) {
	return &driver.Topology{Queues: []driver.Queue{{Name: "q"}}}, o.err
}

func (o *operated) Stats(_ context.Context, r *driver.StatsRequest) ([]driver.QueueStats, error) {
	o.asked = append(o.asked, *r)
	if r.Queue != "" {
		return []driver.QueueStats{{Name: r.Queue, Ready: o.left}}, o.err
	}
	var all []driver.QueueStats
	for _, n := range o.names {
		if strings.HasPrefix(n, r.Prefix) && n > r.After && len(all) < r.Max {
			all = append(all, driver.QueueStats{Name: n})
		}
	}
	return all, o.err
}

func (o *operated) Peek(_ context.Context, r *driver.PeekRequest) ([]driver.Peeked, error) {
	o.peeked = append(o.peeked, *r)
	return []driver.Peeked{{Seq: r.After + 1}}, o.err
}

func (o *operated) CancelScheduled(_ context.Context, _, id string) error {
	o.cancelled = append(o.cancelled, id)
	return o.err
}

func (o *operated) Purge(context.Context, string) (int64, error) { return 7, o.err }

func (o *operated) Redrive(_ context.Context, r *driver.RedriveRequest) (int64, error) {
	o.redriven = append(o.redriven, *r)
	if len(o.redriven) == o.failAt {
		return 1, ErrUnavailable
	}
	n := min(o.left, int64(r.Max))
	o.left -= n
	return n, o.err
}

func operate(t *testing.T) (*Broker, *operated) {
	t.Helper()
	o := &operated{fakeConn: newFake()}
	b := New(o, nil)
	t.Cleanup(func() { b.Close() })
	return b, o
}

func TestDeclareLeavesTheCallersTopology(t *testing.T) {
	b, o := operate(t)
	o.changes = []driver.Change{{Action: "create", What: "queue", Name: "q"}}
	fresh := func() *Topology {
		return &Topology{
			Exchanges: []Exchange{{Name: "e", Kind: HeadersKind}},
			Queues:    []QueueSpec{{Name: "dead"}, {Name: "q", DeadLetter: &Route{Key: "dead"}}},
			Bindings:  []Binding{{Exchange: "e", Queue: "q", Args: Headers{"n": 1}}},
		}
	}
	given := fresh()
	if err := b.Declare(t.Context(), given); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(context.Context, *Topology) ([]Change, error){"Diff": b.Diff, "Apply": b.Apply} {
		if changes, err := call(t.Context(), given); err != nil || !slices.Equal(changes, o.changes) {
			t.Errorf("%s: %v, %v", name, changes, err)
		}
		if dry := o.dryRuns[len(o.dryRuns)-1]; dry != (name == "Diff") {
			t.Errorf("%s: dry run is %v", name, dry)
		}
	}
	if !reflect.DeepEqual(given, fresh()) {
		t.Errorf("the caller's topology was changed to %+v", given)
	}
	sent := o.declared[0]
	if q := sent.Queues[1]; q.Lease == 0 || q.DeliveryLimit != driver.DefaultDeliveryLimit || sent.Bindings[0].Args["n"] != int64(1) {
		t.Errorf("the driver got %+v, want the defaults filled in", sent)
	}
	n := len(o.declared)
	for _, bad := range []*Topology{nil, {Queues: []QueueSpec{{}}}, {Exchanges: []Exchange{{Name: "e"}}}} {
		wantIs(t, b.Declare(t.Context(), bad), ErrInvalid)
	}
	if len(o.declared) != n {
		t.Error("an invalid topology was sent")
	}
	o.err = ErrConflict
	wantIs(t, b.Declare(t.Context(), given), ErrConflict)
}

func TestTopologyAndDelete(t *testing.T) {
	b, o := operate(t)
	if got, err := b.Topology(t.Context()); err != nil || len(got.Queues) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	given := &DeleteRequest{Binding: &Binding{Exchange: "e", Queue: "q", Args: Headers{"n": 1}}}
	if err := b.Delete(t.Context(), given); err != nil {
		t.Error(err)
	}
	if given.Binding.Args["n"] != 1 || o.deleted[0].Binding.Args["n"] != int64(1) {
		t.Errorf("gave %v, sent %v", given.Binding.Args, o.deleted[0].Binding.Args)
	}
	for _, bad := range []*DeleteRequest{nil, {}, {Queue: "q", Exchange: "e"}, {Binding: &Binding{}}} {
		wantIs(t, b.Delete(t.Context(), bad), ErrInvalid)
	}
	o.err = ErrInUse
	err := b.Delete(t.Context(), &DeleteRequest{Queue: "orders", IfEmpty: true})
	wantIs(t, err, ErrInUse)
	if !strings.Contains(err.Error(), `"orders"`) {
		t.Errorf("%v does not name the queue", err)
	}
}

// What changes something and is given up has an unknown outcome.
func TestOperatorsBlackHole(t *testing.T) {
	b, o := operate(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.err = context.Canceled
	wantIs(t, b.Declare(ctx, &Topology{}), ErrUnknown)
	wantIs(t, b.Delete(ctx, &DeleteRequest{Queue: "q"}), ErrUnknown)
	_, err := b.Purge(ctx, "q")
	wantIs(t, err, ErrUnknown)
	_, err = b.Redrive(ctx, &RedriveRequest{Queue: "q", Max: 1})
	wantIs(t, err, ErrUnknown)
	wantIs(t, err, context.Canceled)
}

func TestStats(t *testing.T) {
	b, o := operate(t)
	if st, err := b.Stats(t.Context(), "q"); err != nil || st.Name != "q" {
		t.Errorf("%+v, %v", st, err)
	}
	_, err := b.Stats(t.Context(), "")
	wantIs(t, err, ErrInvalid)
	o.err = ErrNotFound
	_, err = b.Stats(t.Context(), "q")
	wantIs(t, err, ErrNotFound)
}

func TestAllStatsPages(t *testing.T) {
	b, o := operate(t)
	for i := range 2 * driver.MaxList {
		o.names = append(o.names, fmt.Sprintf("q%06d", i))
	}
	o.names = append(o.names, "r")
	var got []string
	for st, err := range b.AllStats(t.Context(), "q") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, st.Name)
	}
	if !slices.Equal(got, o.names[:2*driver.MaxList]) {
		t.Errorf("got %d names", len(got))
	}
	if len(o.asked) != 3 || o.asked[1].After != got[driver.MaxList-1] || o.asked[2].After != got[2*driver.MaxList-1] {
		t.Errorf("asked %+v", o.asked)
	}
	o.asked = nil
	for _, err := range b.AllStats(t.Context(), "") {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if len(o.asked) != 1 {
		t.Errorf("after the break it asked %d times", len(o.asked))
	}
	o.err = ErrUnavailable
	n := 0
	for st, err := range b.AllStats(t.Context(), "") {
		n++
		wantIs(t, err, ErrUnavailable)
		if st != nil {
			t.Error("an error with statistics")
		}
	}
	if n != 1 {
		t.Errorf("%d turns after an error, want 1", n)
	}
	for _, err := range b.AllStats(t.Context(), "a\x00") {
		wantIs(t, err, ErrInvalid)
	}
}

func TestCancelScheduled(t *testing.T) {
	b, o := operate(t)
	if err := b.CancelScheduled(t.Context(), "q", "id"); err != nil || !slices.Equal(o.cancelled, []string{"id"}) {
		t.Errorf("cancelled %q: %v", o.cancelled, err)
	}
	wantIs(t, b.CancelScheduled(t.Context(), "q", ""), ErrInvalid)
	wantIs(t, b.CancelScheduled(t.Context(), "", "id"), ErrInvalid)
	o.err = ErrNotFound
	wantIs(t, b.CancelScheduled(t.Context(), "q", "id"), ErrNotFound)
}

func TestPeekAndPurge(t *testing.T) {
	b, o := operate(t)
	ps, err := b.Peek(t.Context(), "q", 41, 5)
	if err != nil || len(ps) != 1 || ps[0].Seq != 42 || o.peeked[0] != (driver.PeekRequest{Queue: "q", After: 41, Max: 5}) {
		t.Errorf("%+v, %v, asked %+v", ps, err, o.peeked)
	}
	_, err = b.Peek(t.Context(), "q", 0, driver.MaxPeek+1)
	wantIs(t, err, ErrInvalid)
	if n, err := b.Purge(t.Context(), "q"); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_, err = b.Purge(t.Context(), "")
	wantIs(t, err, ErrInvalid)
	o.err = ErrNotFound
	_, err = b.Purge(t.Context(), "q")
	wantIs(t, err, ErrNotFound)
}

func TestRedriveLoops(t *testing.T) {
	const many = 2*driver.MaxRedrive + 5
	for name, c := range map[string]struct {
		max, failAt int
		left        int64
		want        int64
		pages       []int
		err         error
	}{
		"all":             {0, 0, many, many, []int{driver.MaxRedrive, driver.MaxRedrive, 5}, nil},
		"none":            {0, 0, 0, 0, nil, nil},
		"some":            {3, 0, many, 3, []int{3}, nil},
		"more than a few": {driver.MaxRedrive + 1, 0, many, driver.MaxRedrive + 1, []int{driver.MaxRedrive, 1}, nil},
		"more than there": {50, 0, 20, 20, []int{50, 30}, nil},
		"fails":           {0, 2, many, driver.MaxRedrive + 1, []int{driver.MaxRedrive, driver.MaxRedrive}, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b, o := operate(t)
			o.left, o.failAt = c.left, c.failAt
			r := &RedriveRequest{Queue: "dead", To: &Route{Key: "q"}, Max: c.max}
			n, err := b.Redrive(t.Context(), r)
			if n != c.want || !errors.Is(err, c.err) {
				t.Errorf("moved %d, %v; want %d, %v", n, err, c.want, c.err)
			}
			var pages []int
			for _, asked := range o.redriven {
				pages = append(pages, asked.Max)
				if asked.Queue != "dead" || asked.To.Key != "q" {
					t.Errorf("asked %+v", asked)
				}
			}
			if !slices.Equal(pages, c.pages) || r.Max != c.max {
				t.Errorf("asked for %v, want %v", pages, c.pages)
			}
		})
	}
	b, _ := operate(t)
	for _, r := range []*RedriveRequest{nil, {}, {Queue: "q", Max: -1}} {
		_, err := b.Redrive(t.Context(), r)
		wantIs(t, err, ErrInvalid)
	}
}

func TestConsumersOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		for _, o := range []ConsumerOptions{{Prefetch: -1}, {Prefetch: MaxPrefetch + 1}, {Lease: time.Millisecond}, {Consumer: "\xff"}} {
			_, err := b.Consumer(t.Context(), "q", &o)
			wantIs(t, err, ErrInvalid)
		}
		cons, err := b.Consumer(t.Context(), "q", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cons.Receive(t.Context(), 0)
		wantIs(t, err, ErrInvalid)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = cons.Receive(ctx, 1)
		wantIs(t, err, context.DeadlineExceeded)
		c.put(msg("x"))
		if ds, err := cons.Receive(t.Context(), 1); err != nil || len(ds) != 1 {
			t.Errorf("after an ended Receive: %v, %v", ds, err)
		}
	})
}
