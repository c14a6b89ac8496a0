package queuetest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// fault is one way in which a driver breaks its promises. Only what is set is
// wrong.
type fault struct {
	check   string // that must find it: a pattern for -run
	publish func(ps []driver.Publishing) []driver.Publishing
	receive func(r *driver.ReceiveRequest)
	deliver func(ds []driver.Delivery) []driver.Delivery
	settle  func(s *driver.Settlement)
	outcome func(o *driver.Outcome)
	declare func(t *driver.Topology)
	context func(context.Context) context.Context // of Receive
}

// messages changes copies of the messages of a batch.
func messages(change func(*driver.Publishing, *driver.Message)) func([]driver.Publishing) []driver.Publishing {
	return func(ps []driver.Publishing) []driver.Publishing {
		ps = slices.Clone(ps)
		for i := range ps {
			if ps[i].Message != nil {
				m := *ps[i].Message
				ps[i].Message = &m
				change(&ps[i], &m)
			}
		}
		return ps
	}
}

func deliveries(change func(*driver.Delivery)) func([]driver.Delivery) []driver.Delivery {
	return func(ds []driver.Delivery) []driver.Delivery {
		for i := range ds {
			m := *ds[i].Message
			ds[i].Message = &m
			change(&ds[i])
		}
		return ds
	}
}

var faults = map[string]fault{
	"last in, first out": {check: "Receive/first", deliver: func(ds []driver.Delivery) []driver.Delivery {
		slices.Reverse(ds)
		return ds
	}},
	"acks are forgotten": {check: "Settle/ack", settle: func(s *driver.Settlement) {
		if s.Verb == driver.Ack {
			s.Verb = driver.Release
		}
	}},
	"late acks are believed": {check: "Lease/an_overtaken", outcome: func(o *driver.Outcome) {
		if errors.Is(o.Err, lease.ErrNotHeld) {
			o.Err = nil
		}
	}},
	"release counts": {check: "Settle/release", settle: func(s *driver.Settlement) {
		if s.Verb == driver.Release {
			s.Verb = driver.Nack
		}
	}},
	"nack does not count": {check: "Settle/nack_delivers", settle: func(s *driver.Settlement) {
		if s.Verb == driver.Nack {
			s.Verb = driver.Release
		}
	}},
	"nack does not wait": {check: "Settle/nack_with_a", settle: func(s *driver.Settlement) { s.Delay = 0 }},
	"extend does nothing": {check: "Lease/extend_keeps", settle: func(s *driver.Settlement) {
		if s.Verb == driver.Extend && s.TTL == 0 {
			s.TTL = 10 * time.Millisecond
		}
	}},
	"leases never end": {check: "Lease/an_expired", receive: func(r *driver.ReceiveRequest) {
		if r.Lease > 0 {
			r.Lease = time.Hour
		}
	}},
	"dedup forgets": {check: "Dedup/an_ID", publish: messages(func(_ *driver.Publishing, m *driver.Message) { m.ID = "" })},
	"delays are ignored": {check: "Delay/delayed", publish: messages(func(_ *driver.Publishing, m *driver.Message) {
		m.Delay = min(m.Delay, 0)
	})},
	"keys are ignored":     {check: "Order/one_key", publish: messages(func(_ *driver.Publishing, m *driver.Message) { m.OrderKey = "" })},
	"mandatory is ignored": {check: "Routing/unroutable", publish: messages(func(p *driver.Publishing, _ *driver.Message) { p.Mandatory = false })},
	"MaxBytes is ignored":  {check: "Receive/MaxBytes", receive: func(r *driver.ReceiveRequest) { r.MaxBytes = max(r.MaxBytes, 0) &^ 0xff }},
	"tokens stand still":   {check: "Settle/nack_delivers", deliver: deliveries(func(d *driver.Delivery) { d.Token = 1 })},
	"reasons are lost":     {check: "DeadLetter/reject", settle: func(s *driver.Settlement) { s.Reason = s.Reason[:0] }},
	"a header is lost": {check: "Publish/every_header", deliver: deliveries(func(d *driver.Delivery) {
		h := driver.Headers{}
		for k, v := range d.Message.Headers {
			if _, is := v.(time.Time); !is {
				h[k] = v
			}
		}
		d.Message.Headers = h
	})},
	"an ended Receive leaks": {check: "Receive/an_ended", context: context.WithoutCancel},
	"the delivery limit is one too high": {check: "DeadLetter/the_delivery", declare: func(t *driver.Topology) {
		for i := range t.Queues {
			if t.Queues[i].DeliveryLimit > 0 {
				t.Queues[i].DeliveryLimit++
			}
		}
	}},
	"exchanges are not bound": {check: "Exchanges/circles", declare: func(t *driver.Topology) {
		t.Bindings = slices.DeleteFunc(slices.Clone(t.Bindings), func(b driver.Binding) bool { return b.ToExchange != "" })
	}},
	"alternates are lost": {check: "Exchanges/an_alternate_gets", declare: func(t *driver.Topology) {
		for i := range t.Exchanges {
			t.Exchanges[i].Alternate = ""
		}
	}},
	"priorities are ignored": {check: "Priority/higher", declare: func(t *driver.Topology) {
		for i := range t.Queues {
			t.Queues[i].MaxPriority = 0
		}
	}},
	"priorities share a place": {check: "Priority/one_above", publish: messages(func(_ *driver.Publishing, m *driver.Message) {
		m.Priority = min(m.Priority, 2)
	})},
	"a bound is one too high": {check: "Length/a_full_queue", declare: func(t *driver.Topology) {
		for i := range t.Queues {
			if t.Queues[i].MaxLength > 0 {
				t.Queues[i].MaxLength++
			}
		}
	}},
	"bytes are not bounded": {check: "Length/bytes", declare: func(t *driver.Topology) {
		for i := range t.Queues {
			if q := &t.Queues[i]; q.MaxBytes > 0 {
				q.MaxBytes, q.MaxLength = 0, 1000
			}
		}
	}},
	"the new ones are dropped": {check: "Length/drop_head_drops_the_oldest", declare: func(t *driver.Topology) {
		for i := range t.Queues {
			if t.Queues[i].Overflow == driver.DropHead {
				t.Queues[i].Overflow = driver.RejectPublish
			}
		}
	}},
	"a second binding is lost": {check: "Routing/topic", declare: func(t *driver.Topology) {
		if len(t.Bindings) > 1 {
			t.Bindings = t.Bindings[:len(t.Bindings)-1]
		}
	}},
}

// faulty passes everything on, with one fault.
type faulty struct {
	driver.Conn
	fault fault
}

// broken returns c itself if there is no fault of that name.
func broken(c driver.Conn, name string) driver.Conn {
	if f, ok := faults[name]; ok {
		return &faulty{c, f}
	}
	return c
}

func (f *faulty) Declare(ctx context.Context, t *driver.Topology, dryRun bool) ([]driver.Change, error) {
	if f.fault.declare != nil {
		own := driver.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: t.Bindings}
		f.fault.declare(&own)
		t = &own
	}
	return f.Conn.Declare(ctx, t, dryRun)
}

func (f *faulty) Publish(ctx context.Context, ps []driver.Publishing) ([]driver.Receipt, error) {
	if f.fault.publish != nil {
		ps = f.fault.publish(ps)
	}
	return f.Conn.Publish(ctx, ps)
}

func (f *faulty) Receive(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	own := *r
	if f.fault.receive != nil {
		f.fault.receive(&own)
	}
	if f.fault.context != nil {
		early := ctx.Err()
		ctx = f.fault.context(ctx)
		if own.Wait > time.Second {
			own.Wait = time.Second
		}
		ds, err := f.Conn.Receive(ctx, &own)
		if early != nil {
			return nil, early
		}
		return ds, err
	}
	ds, err := f.Conn.Receive(ctx, &own)
	if f.fault.deliver != nil {
		ds = f.fault.deliver(ds)
	}
	return ds, err
}

func (f *faulty) Settle(ctx context.Context, ss []driver.Settlement) ([]driver.Outcome, error) {
	ss = slices.Clone(ss)
	for i := range ss {
		if f.fault.settle != nil {
			f.fault.settle(&ss[i])
		}
	}
	out, err := f.Conn.Settle(ctx, ss)
	for i := range out {
		if f.fault.outcome != nil {
			f.fault.outcome(&out[i])
		}
	}
	return out, err
}

// TestFaults runs the suite, in processes of their own, against drivers that
// break a promise, and expects the check of that promise to fail.
func TestFaults(t *testing.T) {
	t.Parallel() // each is another process, which waits for most of its time
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finds(t, "TestSuite", f.check, name)
		})
	}
}

// finds runs one check against a faulty driver and expects it to fail.
func finds(t *testing.T, test, check, fault string, flags ...string) {
	var pattern []string
	for _, part := range strings.Split(test+"/"+check, "/") {
		pattern = append(pattern, "^"+part)
	}
	args := append([]string{"-test.run=" + strings.Join(pattern, "/"), "-test.v", "-test.timeout=2m"}, flags...)
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), faultVariable+"="+fault)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "--- FAIL: "+test+"/"+check) {
		t.Errorf("the suite does not find the fault (%v):\n%s", err, out)
	}
}

// flawed are references that break a promise, and the check that must find
// it.
var flawed = map[string]struct {
	check string
	flaws flaws
}{
	"no order":                      {"Receive/first_in", flaws{lastFirst: true}},
	"tokens repeat":                 {"Lease/an_expired", flaws{tokensRepeat: true}},
	"a late ack is accepted":        {"Lease/an_overtaken", flaws{lateAckAccepted: true}},
	"attempts are not counted":      {"Settle/nack_delivers", flaws{attemptsUncounted: true}},
	"no limit to the attempts":      {"DeadLetter/the_delivery_limit", flaws{attemptsUncounted: true}},
	"dedup forgets":                 {"Dedup/an_acked", flaws{dedupForgets: true}},
	"duplicates are not counted":    {"Dedup/a_fan-out", flaws{duplicatesUnseen: true}},
	"a key runs twice at once":      {"Order/one_key", flaws{keysConcurrent: true}},
	"many keys run twice at once":   {"Order/10,000", flaws{keysConcurrent: true}},
	"dead letters without a story":  {"DeadLetter/reject", flaws{headersMissing: true}},
	"dead letters cannot go back":   {"DeadLetter/redrive_to_the_origin", flaws{headersMissing: true}},
	"extend only says so":           {"Lease/extend_keeps", flaws{extendNothing: true}},
	"a longer extend only says so":  {"Lease/extend_with", flaws{extendNothing: true}},
	"the delay of a nack is missed": {"Settle/nack_with_a", flaws{nackAtOnce: true}},
	"the backoff is missed":         {"Settle/nack_with_the", flaws{nackAtOnce: true}},
	"MaxBytes is passed by one":     {"Receive/MaxBytes", flaws{bytesOverrun: true}},
	"nowhere drops":                 {"DeadLetter/one_that", flaws{nowhereDrops: true}},
	"nowhere drops the rejected":    {"DeadLetter/a_rejected", flaws{nowhereDrops: true}},
	"refused by one, in another":    {"Length/refused_by_one", flaws{halfRefused: true}},
	"what is in flight is dropped":  {"Length/drop_head_leaves", flaws{dropsFlying: true}},
	"nothing times out":             {"TTL/a_short_TTL", flaws{immortal: true}},
	"a circle grows":                {"TTL/a_circle", flaws{circlesGrow: true}},
	"a rejection changes nothing":   {"TTL/a_rejected", flaws{trailKept: true}},
	"a full queue refuses the old":  {"Length/a_full_queue_knows", flaws{fullFirst: true}},
	"a cancel only says so":         {"Delay/a_cancelled", flaws{cancelNothing: true}},
	"a stream grows for ever":       {"Stream/retention_by_number", flaws{streamForever: true}},
	"a stream grows in bytes":       {"Stream/retention_by_bytes", flaws{streamForever: true}},
	"a stream gets old":             {"Stream/retention_by_age", flaws{streamForever: true}},
	"a stream forgets all":          {"Stream/retention_by_number", flaws{streamForgets: true}},
	"a stream skips":                {"Stream/all_waiting", flaws{streamSkips: true}},
	"offsets are one off":           {"Stream/reading_begins_where", flaws{streamOffByOne: true}},
	"an offset past the end waits":  {"Stream/an_offset", flaws{streamPastEnd: true}},
	"ticks come twice":              {"Schedule/each_tick", flaws{ticksTwice: true}},
	"ticks vanish":                  {"Schedule/a_tick_that", flaws{ticksVanish: true}},
	"a put begins anew":             {"Schedule/a_schedule_is_replaced", flaws{putRestarts: true}},
	"a pause is ignored":            {"Schedule/a_schedule_that", flaws{pauseIgnored: true}},
	"a stream leases":               {"Stream/nothing", flaws{streamLeases: true}},
	"offsets do not go back":        {"Stream/a_consumer's", flaws{offsetsMonotone: true}},
	"offsets without a limit":       {"Stream/offsets_are", flaws{offsetsUnlimited: true}},
	"delivered past the limit":      {"DeadLetter/one_that", flaws{nowhereDelivers: true}},
	"a second exchange has no say":  {"Exchanges/an_exchange_bound", flaws{secondKeyIgnored: true}},
	"an alternate gets everything":  {"Exchanges/an_alternate_is_not", flaws{alternateAlways: true}},
	"an alternate can be deleted":   {"Exchanges/an_alternate_and", flaws{alternateForlorn: true}},
	"the first takes all":           {"Consumers/what_comes", flaws{firstTakesAll: true}},
	"the rest is not shared":        {"Consumers/who_asks", flaws{restUnshared: true}},
	"receives take turns":           {"Consumers/consumers_take", flaws{receivesTakeTurns: true}},
	"Detach leaves receives":        {"Consumers/Detach", flaws{detachLeavesWait: true}},
	"all are active":                {"Consumers/single_active:_the_first", flaws{activeIgnored: true}},
	"two are active":                {"Consumers/single_active:_the_next", flaws{activeOverlaps: true}},
	"what is back is overtaken":     {"Consumers/single_active:_what", flaws{activeOverlaps: true}},
	"the silent stay active":        {"Consumers/single_active:_a_silent", flaws{neverGone: true}},
	"the busy are not":              {"Consumers/single_active:_a_waiting", flaws{activeIgnored: true}},
	"deleted too early":             {"Consumers/auto-delete:_with", flaws{autoDeleteHasty: true}},
	"the silent keep their queue":   {"Consumers/auto-delete:_a_silent", flaws{neverGone: true}},
	"expires while it is used":      {"Consumers/expires:_not", flaws{expiresAnyway: true}},
	"exclusive is everyone's":       {"Consumers/exclusive:_others", flaws{exclusiveOpen: true}},
	"exclusive stays":               {"Consumers/exclusive:_deleted", flaws{exclusiveStays: true}},
	"bindings lead to nowhere":      {"Exchanges/deleting_either", flaws{endsKept: true}},

	"a commit settles nothing":             {"Commit/a_commit_does", flaws{commitAcksNothing: true}},
	"a commit forgets the order":           {"Commit/messages_of", flaws{lastFirst: true}},
	"a commit counts no attempts":          {"Commit/each_verb", flaws{attemptsUncounted: true}},
	"a commit believes in any token":       {"Commit/a_delivery_that", flaws{commitBelieves: true}},
	"two commits settle one delivery":      {"Commit/of_many", flaws{commitBelieves: true}},
	"a commit is done by half":             {"Commit/a_message_that", flaws{commitByHalf: true}},
	"a commit leaves out what has no room": {"Commit/a_full", flaws{commitOverfull: true}},
	"a commit knows no duplicates":         {"Commit/a_duplicate", flaws{dedupForgets: true}},
	"a repeat is done again":               {"Commit/a_repeat", flaws{resultsForgotten: true}},
	"an ID is enough for a repeat":         {"Commit/an_ID_with", flaws{digestIgnored: true}},
	"the ID of a failed commit is kept":    {"Commit/a_failed", flaws{failuresKept: true}},
	"results are not kept":                 {"Commit/results_can", flaws{resultsForgotten: true}},
	"results are kept for ever":            {"Commit/a_result_is", flaws{resultsForever: true}},
	"a commit has no limits":               {"Commit/a_commit_past", flaws{commitUnlimited: true}},
	"a commit keeps its locks":             {"Commit/a_commit_releases", flaws{locksKept: true}},
	"a commit releases what it requires":   {"Commit/a_commit_requires", flaws{requireReleases: true}},
	"a commit does not look at its locks":  {"Commit/a_lock_that", flaws{requireIgnored: true}},
}

// raced are the flaws that show only if the receiver that they are unfair to
// wakes first, about every second time, and how often the check is tried. Sound
// drivers pass it every time.
var raced = map[string]int{"the rest is not shared": 50, "receives take turns": 50}

// TestFlaws does what TestFaults does with a reference that is wrong inside.
func TestFlaws(t *testing.T) {
	t.Parallel()
	for name, f := range flawed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finds(t, "TestReference", f.check, name, "-test.failfast", "-test.count="+strconv.Itoa(max(1, raced[name])))
		})
	}
}
