package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestLargeCommandTakesRounds has commands that are too much for one round
// decided over several, as if they were one to their caller.
func TestLargeCommandTakesRounds(t *testing.T) {
	const n, size = 24, 1 << 20
	c, conn := startOn(t, storetest.NewDisk())
	top := &queuedriver.Topology{Queues: []queuedriver.Queue{
		{Name: "work", DeadLetter: &queuedriver.Route{Key: "dead"}}, {Name: "dead"},
	}}
	if _, err := conn.Declare(t.Context(), top, false); err != nil {
		t.Fatal(err)
	}
	var ps []queuedriver.Publishing
	for i := range n {
		ps = append(ps, queuedriver.Publishing{
			Route: queuedriver.Route{Key: "work"}, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: make([]byte, size)},
		})
	}
	before := c.store.Stats().Rounds
	rs, err := conn.Publish(t.Context(), ps)
	if err != nil || len(rs) != n {
		t.Fatalf("%d receipts: %v", len(rs), err)
	}
	for i, r := range rs {
		if r.Err != nil || r.Queues != 1 {
			t.Errorf("receipt %d: %+v", i, r)
		}
	}
	if rounds := c.store.Stats().Rounds - before; rounds < 5 {
		t.Errorf("published in %d rounds", rounds)
	}
	var ss []queuedriver.Settlement
	for len(ss) < n {
		ds, err := conn.Receive(t.Context(), &queuedriver.ReceiveRequest{Queue: "work", Consumer: "c", Max: n, Wait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if d.Message.ID != fmt.Sprint(len(ss)) {
				t.Errorf("%s is number %d", d.Message.ID, len(ss))
			}
			ss = append(ss, queuedriver.Settlement{Ref: d.Ref, Verb: queuedriver.Reject})
		}
	}
	before = c.store.Stats().Rounds
	os, err := conn.Settle(t.Context(), ss)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range os {
		if o.Err != nil || !o.DeadLettered {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
	if rounds := c.store.Stats().Rounds - before; rounds < 5 {
		t.Errorf("settled in %d rounds", rounds)
	}

	// A close comes before one or waits for all of it.
	published := make(chan error, 1)
	go func() {
		_, err := conn.Publish(t.Context(), ps)
		published <- err
	}()
	if err := c.close(); err != nil {
		t.Error(err)
	}
	if err := <-published; err != nil && !errors.Is(err, lease.ErrClosed) {
		t.Error(err)
	}
}

// TestRoundGoesOnWhileMuchIsDue has many scheduled messages become due at once,
// small ones and one that is larger than what a round takes: commands that come
// then are decided in the first round, and not when all have been moved.
func TestRoundGoesOnWhileMuchIsDue(t *testing.T) {
	s, err := store.Open(store.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	wall := time.Now()
	c, err := newCore(s, params{minTTL: time.Millisecond}, true, &Options{wall: func() time.Time { return wall }})
	if err != nil {
		t.Fatal(err)
	}
	round := func(cmds ...machine.Command) int {
		for _, cmd := range cmds {
			c.backlog = append(c.backlog, newCall(cmd, queued))
		}
		r := c.decideRound()
		if r.err == nil && r.pending != nil {
			r.err = r.pending.Wait()
		}
		if r.err != nil {
			t.Fatal(r.err)
		}
		return len(r.calls)
	}
	const small = 20_000
	publish := func(n, size int) {
		p := &machine.Publish{}
		for range n {
			m := &queuedriver.Message{Body: make([]byte, size), NotBefore: wall.Add(time.Hour)}
			p.Publishings = append(p.Publishings, queuedriver.Publishing{Route: queuedriver.Route{Key: "q"}, Message: m})
		}
		round(p)
		for c.unfinished != nil {
			round()
		}
	}
	round(&machine.Declare{Topology: &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", Lease: time.Minute}}}})
	publish(1, queuedriver.MaxBody)
	publish(small, 256)
	wall = wall.Add(time.Hour)
	rounds := 0
	for {
		r := request(fmt.Sprint("lock", rounds), "h")
		r.TTL = time.Hour
		if n := round(&machine.Acquire{Request: r}); n != 1 {
			t.Fatalf("%d commands were decided in round %d", n, rounds)
		}
		rounds++
		st := &machine.ReadStats{Request: &queuedriver.StatsRequest{Queue: "q"}}
		round(st)
		if st.Err != nil {
			t.Fatal(st.Err)
		}
		if st.Stats[0].Delayed == 0 {
			if st.Stats[0].Ready != small+1 {
				t.Errorf("%d messages are ready, want %d", st.Stats[0].Ready, small+1)
			}
			break
		}
	}
	t.Logf("%d messages became due over %d rounds", small+1, 2*rounds)
}

// costlyClock moves on by a step at each reading, as if what is done between
// two of them took that long.
type costlyClock struct {
	lease.Clock
	now  lease.Instant
	step time.Duration
}

func (c *costlyClock) Now() lease.Instant {
	c.now = c.now.Add(c.step)
	return c.now
}

// TestRoundBoundsWork has commands wait that write little. Those that take long
// are spread over rounds, and those that do not are one.
func TestRoundBoundsWork(t *testing.T) {
	const commands = 60
	for _, test := range []struct {
		name string
		cost time.Duration // of each command
		want int           // of them in a round
	}{
		{"all within it", maxRoundWork / commands, commands},
		{"at it", maxRoundWork / 5, 6},
		{"past it", maxRoundWork/5 + 1, 5},
		{"each past it", maxRoundWork + 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := store.Open(store.Options{Memory: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			c, err := newCore(s, params{minTTL: time.Millisecond}, true, &Options{Clock: &costlyClock{Clock: lease.GoClock(), step: test.cost}})
			if err != nil {
				t.Fatal(err)
			}
			for i := range commands {
				r := request(fmt.Sprint("n", i), "h")
				r.TTL = time.Hour
				c.backlog = append(c.backlog, newCall(&machine.Acquire{Request: r}, queued))
			}
			for left := commands; left > 0; {
				r := c.decideRound()
				want := min(test.want, left)
				left -= len(r.calls)
				if len(r.calls) != want {
					t.Fatalf("%d commands in a round, want %d", len(r.calls), want)
				}
				if r.err == nil {
					r.err = r.pending.Wait()
				}
				for _, k := range r.calls {
					if a := k.cmd.(*machine.Acquire); a.Grant == nil || r.err != nil {
						t.Errorf("%s: %v, %v", a.Request.Name, a.Err, r.err)
					}
				}
			}
		})
	}
}

// stepClock is later at each look.
type stepClock struct {
	lease.Clock
	now  lease.Instant
	step time.Duration
	n    int // looks
}

func (c *stepClock) Now() lease.Instant {
	c.n++
	c.now = c.now.Add(c.step)
	return c.now
}

// A writer that waited long for others to run does not yield again before the
// time that it lost is small beside the time since.
func TestYieldRests(t *testing.T) {
	for _, x := range []struct {
		took   time.Duration
		yields int // of 100 tries that are as far apart
	}{{longYield, 100}, {longYield + 1, 100 / yieldRest}} {
		clock := &stepClock{step: x.took}
		c := &core{clock: clock}
		yields := 0
		for range 100 {
			before := clock.n
			if c.yield(); clock.n-before == 2 {
				yields++
			}
		}
		if yields > x.yields || yields < x.yields-1 {
			t.Errorf("yielded %d times where it takes %v, not %d times", yields, x.took, x.yields)
		}
	}
}
