package machine

import (
	"fmt"
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// schedule publishes messages that are due in d, all at once.
func (h *harness) schedule(queue string, first, n int, d time.Duration) {
	at := time.Unix(0, h.now.Wall).Add(d)
	c := &Publish{}
	for i := range n {
		c.Publishings = append(c.Publishings, queuedriver.Publishing{
			Route: queuedriver.Route{Key: queue}, Message: &queuedriver.Message{ID: fmt.Sprint(first + i), Body: make([]byte, 1<<10), NotBefore: at},
		})
	}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
}

// Many messages that are due at one moment come once each, in their order,
// though the View shows them until the round is over; also if the wall clock
// is set back before others are scheduled, and after an open in between.
func TestManyDueAtOnce(t *testing.T) {
	const n = 3*maxDue + 7
	for _, reopen := range []bool{false, true} {
		h := newHarness(t, workAndDead())
		h.schedule("other", 0, n, time.Hour)
		h.pass(time.Hour)
		h.round(func() {})
		if reopen {
			h.m = h.store.reopen(h.now, defaultLimits)
		}
		for range n/maxDue + 1 {
			h.round(func() {})
		}
		if c := h.m.queues["other"].counters; c.Live != n || c.Delayed != 0 {
			t.Errorf("reopen=%v: of %d messages %d are due and %d wait", reopen, n, c.Live, c.Delayed)
		}
		h.now.Wall -= int64(10 * time.Minute)
		h.schedule("other", n, 1, time.Minute)
		h.pass(time.Minute)
		h.round(func() {})
		seen := 0
		for got := h.receive("other", queuedriver.MaxReceive); len(got) > 0; got = h.receive("other", queuedriver.MaxReceive) {
			for _, l := range got {
				m, err := h.store.Message(h.m.queues["other"].id, l.Block, l.Seq)
				if err != nil {
					t.Fatal(err)
				}
				if m.ID != fmt.Sprint(seen) {
					t.Fatalf("reopen=%v: message %d is %s", reopen, seen, m.ID)
				}
				seen++
			}
		}
		if seen != n+1 {
			t.Errorf("reopen=%v: got %d messages, want %d", reopen, seen, n+1)
		}
	}
}
