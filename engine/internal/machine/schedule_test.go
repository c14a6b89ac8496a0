package machine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// every ticks at the multiples of a duration.
type every time.Duration

func (e every) Next(after int64) int64 { return (after/int64(e) + 1) * int64(e) }

// scheduleBench is a machine with a queue "q" and schedules that publish to
// it.
type scheduleBench struct {
	t     *testing.T
	now   Time
	store *fakeStore
	m     *Queues
	ticks Ticks
}

const benchWall = 1_700_000_000_000_000_000

func newScheduleBench(t *testing.T, ticks Ticks, types ...queuedriver.Queue) *scheduleBench {
	t.Helper()
	b := &scheduleBench{t: t, now: Time{Mono: 1, Wall: benchWall}, store: newFakeStore(), ticks: ticks}
	b.m = b.store.reopen(b.now, defaultLimits)
	if len(types) == 0 {
		types = []queuedriver.Queue{{Name: "q", Type: queuedriver.Stream}}
	}
	c := &Declare{Topology: &queuedriver.Topology{Queues: types, Exchanges: []queuedriver.Exchange{{Name: "x", Kind: queuedriver.Fanout}}}}
	b.m.Declare(b.store, c)
	if c.Err != nil {
		t.Fatal(c.Err)
	}
	b.end()
	return b
}

func (b *scheduleBench) end() {
	b.m.Dispatch(b.now, b.store, b.store)
	b.store.commit()
}

func (b *scheduleBench) put(change func(*queuedriver.Schedule)) {
	b.t.Helper()
	s := &queuedriver.Schedule{Name: "s", Cron: "-", Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{Body: []byte("x")}}
	if change != nil {
		change(s)
	}
	if err := s.Validate(); err != nil {
		b.t.Fatal(err)
	}
	c := &PutSchedule{Schedule: s, Ticks: b.ticks}
	b.m.PutSchedule(b.now, b.store, c)
	if c.Err != nil {
		b.t.Fatal(c.Err)
	}
	b.end()
}

// round is one of the shell's, after some time.
func (b *scheduleBench) round(d time.Duration) {
	b.now.Mono = b.now.Mono.Add(d)
	b.now.Wall += int64(d)
	b.m.Tick(b.now, b.store, b.store)
	b.end()
}

// settle runs rounds until there is nothing to do now.
func (b *scheduleBench) settle() {
	b.t.Helper()
	for n := 0; ; n++ {
		at, ok := b.m.NextWake(b.now)
		if !ok || at > b.now.Mono {
			return
		}
		if n > 10_000 {
			b.t.Fatal("there is always something to do")
		}
		b.round(0)
	}
}

func (b *scheduleBench) crash() {
	b.m = b.store.reopen(b.now, defaultLimits)
	for name, spec := range b.store.schedules {
		state := b.store.states[name]
		b.m.RestoreSchedule(&spec, &state, b.ticks, nil)
	}
}

// published are the ticks of the messages in the stream, in order.
func (b *scheduleBench) published() []int64 {
	b.t.Helper()
	var all []int64
	blocks, _ := b.store.LoadIndex(1, 0, 1<<30)
	for _, x := range blocks {
		for i := range x.Entries {
			rec, err := b.store.Message(1, x.FirstSeq, x.FirstSeq+uint64(i))
			if err != nil {
				b.t.Fatal(err)
			}
			tick, err := time.Parse(queuedriver.TickLayout, rec.Headers[queuedriver.HeaderTick].(string))
			if err != nil {
				b.t.Fatal(err)
			}
			all = append(all, tick.UnixNano())
		}
	}
	return all
}

func (b *scheduleBench) info() queuedriver.ScheduleInfo {
	b.t.Helper()
	c := &ReadSchedules{Request: &queuedriver.SchedulesRequest{Name: "s"}}
	b.m.ReadSchedules(c)
	if c.Err != nil {
		b.t.Fatal(c.Err)
	}
	return c.Infos[0]
}

// Whatever the wall clock does and whenever the engine dies: each tick comes
// once, in order, and with policy all none is missed but those that are
// counted as skipped.
func TestScheduleModel(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			tick := every(time.Duration(1+r.IntN(90)) * time.Second)
			policy := []queuedriver.Missed{queuedriver.MissedAll, queuedriver.MissedLatest, queuedriver.MissedSkip}[seed%3]
			b := newScheduleBench(t, tick)
			b.put(func(s *queuedriver.Schedule) { s.Missed = policy })
			for range 400 {
				if r.IntN(3) == 0 { // what was decided and not written is lost
					b.m.Tick(b.now, b.store, b.store)
					b.m.Dispatch(b.now, b.store, b.store)
					b.crash()
				}
				switch r.IntN(12) {
				case 0:
					b.now.Wall += int64(r.IntN(7200)-3600) * int64(time.Second)
				case 1:
					b.m.SetRoom(lease.ErrNoSpace)
				case 2, 3:
					b.m.SetRoom(nil)
				}
				b.round(time.Duration(r.IntN(100_000)) * time.Millisecond)
			}
			b.m.SetRoom(nil)
			b.round(time.Hour)
			b.settle()
			ticks := b.published()
			if !slices.IsSorted(ticks) || len(slices.Compact(slices.Clone(ticks))) != len(ticks) {
				t.Fatalf("ticks came twice or out of order")
			}
			i := b.info()
			if int64(len(ticks)) != i.Published || i.Waiting != 0 {
				t.Fatalf("%d ticks were published, the schedule says %+v", len(ticks), i)
			}
			state := b.store.states["s"]
			due := state.Last/int64(tick) - benchWall/int64(tick)
			if policy == queuedriver.MissedAll && i.Published+i.Skipped != due {
				t.Fatalf("%d ticks were due, %d published and %d skipped", due, i.Published, i.Skipped)
			}
		})
	}
}

func TestScheduleMissed(t *testing.T) {
	const down = 10*time.Minute + 30*time.Second
	for _, c := range []struct {
		missed           queuedriver.Missed
		tick             time.Duration
		published, skips int64
	}{
		{queuedriver.MissedAll, time.Minute, 10, 0},
		{queuedriver.MissedLatest, time.Hour / 2, 0, 0},
		{queuedriver.MissedLatest, 4 * time.Minute, 1, 1},
		{queuedriver.MissedSkip, 4 * time.Minute, 0, 2},
		{queuedriver.MissedSkip, time.Minute, 1, 9},   // one is not late enough to be missed
		{queuedriver.MissedLatest, time.Minute, 1, 9}, // it is the latest
	} {
		b := newScheduleBench(t, every(c.tick))
		b.now.Wall = benchWall / int64(time.Hour) * int64(time.Hour)
		b.put(func(s *queuedriver.Schedule) { s.Missed = c.missed })
		b.now.Wall += int64(down)
		b.crash()
		b.settle()
		if i := b.info(); i.Published != c.published || i.Skipped != c.skips {
			t.Errorf("%s of each %v: %d published and %d skipped, want %d and %d", c.missed, c.tick, i.Published, i.Skipped, c.published, c.skips)
		}
	}
}

// At most MaxMissedTicks are published late, the newest; and no round looks
// at more than it should.
func TestScheduleMissedLimit(t *testing.T) {
	for _, more := range []int64{0, 1, 50_000} {
		b := newScheduleBench(t, every(time.Second))
		b.put(nil)
		n := queuedriver.MaxMissedTicks + more
		b.now.Wall = (b.now.Wall/int64(time.Second) + n) * int64(time.Second)
		b.crash()
		b.m.Tick(b.now, b.store, b.store)
		if b.m.steps >= roundSteps+tickSteps {
			t.Errorf("a round took %d steps", b.m.steps)
		}
		b.end()
		b.settle()
		ticks := b.published()
		if i := b.info(); i.Published != queuedriver.MaxMissedTicks || i.Skipped != more || ticks[len(ticks)-1] != b.now.Wall {
			t.Errorf("of %d: %d published and %d skipped", n, i.Published, i.Skipped)
		}
	}
}

// A tick that finds no room waits, and comes once when there is some.
func TestScheduleWaitsForRoom(t *testing.T) {
	b := newScheduleBench(t, every(time.Minute))
	b.put(func(s *queuedriver.Schedule) { s.Missed = queuedriver.MissedSkip })
	b.m.SetRoom(lease.ErrNoSpace)
	b.round(time.Minute)
	if i := b.info(); i.Waiting != 1 || i.Error == "" {
		t.Fatalf("without room the schedule says %+v", i)
	}
	if at, ok := b.m.NextWake(b.now); !ok || at <= b.now.Mono {
		t.Fatalf("it looks for room again at %v, now is %v", at, b.now.Mono)
	}
	b.m.SetRoom(nil)
	b.round(roomAgain)
	b.settle()
	if i := b.info(); i.Published != 1 || i.Waiting != 0 || i.Error != "" || i.Skipped != 0 {
		t.Fatalf("with room again it says %+v", i)
	}
}

// Ticks that have come do not come again when the clock is set back, and the
// next one comes when the clock is there again.
func TestScheduleClockSetBack(t *testing.T) {
	b := newScheduleBench(t, every(time.Minute))
	b.put(nil)
	b.round(2 * time.Minute)
	b.settle()
	b.now.Wall -= int64(90 * time.Second)
	b.crash()
	b.settle()
	for range 10 {
		b.round(15 * time.Second)
		b.settle()
	}
	if ticks := b.published(); len(ticks) != 3 {
		t.Errorf("%d ticks came, want 3", len(ticks))
	}
}

func TestScheduleLimit(t *testing.T) {
	b := newScheduleBench(t, every(time.Hour))
	for n := range queuedriver.MaxSchedules {
		b.put(func(s *queuedriver.Schedule) { s.Name = fmt.Sprint(n) })
	}
	s := &queuedriver.Schedule{Name: "one more", Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{}}
	c := &PutSchedule{Schedule: s, Ticks: b.ticks}
	b.m.PutSchedule(b.now, b.store, c)
	if c.Err == nil {
		t.Error("one more is let in")
	}
	b.m.DeleteSchedule(b.store, &DeleteSchedule{Name: "7"})
	c.Err = nil
	if b.m.PutSchedule(b.now, b.store, c); c.Err != nil {
		t.Error(c.Err)
	}
}

// One that cannot be read any more stays, says so, and has no ticks.
func TestScheduleBroken(t *testing.T) {
	b := newScheduleBench(t, every(time.Minute))
	spec := queuedriver.Schedule{Name: "s", Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{}}
	b.m.RestoreSchedule(&spec, &record.ScheduleState{Published: 7}, nil, fmt.Errorf("no such zone"))
	b.round(time.Hour)
	if i := b.info(); i.Error == "" || i.Published != 7 || !i.Next.IsZero() {
		t.Errorf("it says %+v", i)
	}
}
