package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/internal/cli/live"
	"github.com/lockkeeper/lockkeeper/lock"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/queue"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// topSource takes samples. It uses the drivers: a sample is one page, and
// knows that it is.
type topSource struct {
	locks  lockdriver.Conn
	queues queuedriver.Conn
	names  int

	rates map[string]*ratedQueue // of the last sample; one is taken at a time
}

// minRateTime is between two looks at the counters of a queue: over less a rate
// jumps about.
const minRateTime = 200 * time.Millisecond

// ratedQueue is a queue whose rates are known, or will be.
type ratedQueue struct {
	stats   *queue.Stats // from which the next rates count
	at      time.Time
	in, out perSecond
}

func (t *top) open(ctx context.Context) (*topSource, error) {
	if err := t.checkURL(); err != nil {
		return nil, err
	}
	locks, err := lock.OpenConn(ctx, t.url)
	if err != nil {
		return nil, err
	}
	queues, err := queue.OpenConn(ctx, t.url)
	if err != nil {
		return nil, errors.Join(err, locks.Close())
	}
	return &topSource{locks: locks, queues: queues, names: t.names}, nil
}

func (s *topSource) Close() error { return errors.Join(s.locks.Close(), s.queues.Close()) }

// topSample is what was seen at one moment, in byte order of the names.
type topSample struct {
	at     time.Time
	locks  topPage[lockRow]
	queues topPage[queueRow]
}

// topPage is the first rows.
type topPage[R any] struct {
	rows []*R
	more bool // than these
}

type lockRow struct {
	name, mode        string
	holders, waiting  int
	oldest, remaining time.Duration // of the wait; until the first of the grants ends
	holder            string        // the first
	closed            bool          // after a loss; remaining is until it opens
}

type queueRow struct {
	*queue.Stats
	in, out perSecond
}

// perSecond is a rate, if it is known.
type perSecond struct {
	rate  float64 // 0 if it is not
	known bool
}

func (p perSecond) String() string {
	switch {
	case !p.known:
		return "-"
	case p.rate > 0 && p.rate < 9.95:
		return strconv.FormatFloat(p.rate, 'f', 1, 64)
	}
	return strconv.FormatFloat(p.rate, 'f', 0, 64)
}

// json is null where it is not known.
func (p perSecond) json() *float64 {
	if !p.known {
		return nil
	}
	return &p.rate
}

func (q *queueRow) depth() int64 { return q.Ready + q.InFlight + q.Delayed }

func (q *queueRow) age() time.Duration {
	if q.depth() == 0 {
		return -1
	}
	return q.OldestAge
}

// fetch returns what takes a sample of the names that begin with prefix.
func (s *topSource) fetch(prefix string) func(context.Context) (*topSample, error) {
	return func(ctx context.Context) (*topSample, error) {
		var infos []lock.Info
		var stats []queue.Stats
		both, ctx := errgroup.WithContext(ctx)
		both.Go(func() (err error) {
			infos, err = s.locks.List(ctx, &lockdriver.ListRequest{Prefix: prefix, Max: min(s.names+1, lockdriver.MaxList)})
			return err
		})
		both.Go(func() (err error) {
			stats, err = s.queues.Stats(ctx, &queuedriver.StatsRequest{Prefix: prefix, Max: min(s.names+1, queuedriver.MaxList)})
			return err
		})
		if err := both.Wait(); err != nil {
			return nil, fmt.Errorf("look at locks and queues: %w", err)
		}
		sample := &topSample{at: time.Now()}
		sample.locks.more = len(infos) > s.names || len(infos) == lockdriver.MaxList
		for i := range infos[:min(len(infos), s.names)] {
			sample.locks.rows = append(sample.locks.rows, newLockRow(&infos[i]))
		}
		sample.queues.more = len(stats) > s.names || len(stats) == queuedriver.MaxList
		sample.queues.rows = s.rate(stats[:min(len(stats), s.names)], sample.at)
		return sample, nil
	}
}

// rate finds out the rates and forgets the queues that were not seen.
func (s *topSource) rate(stats []queue.Stats, at time.Time) []*queueRow {
	rows := make([]*queueRow, len(stats))
	rates := make(map[string]*ratedQueue, len(stats))
	for i := range stats {
		q := &stats[i]
		r := s.rates[q.Name]
		switch {
		case r == nil, q.Published < r.stats.Published, q.Acked < r.stats.Acked: // new, or declared anew
			r = &ratedQueue{stats: q, at: at}
		case at.Sub(r.at) >= minRateTime:
			seconds := at.Sub(r.at).Seconds()
			r = &ratedQueue{
				stats: q, at: at,
				in:  perSecond{float64(q.Published-r.stats.Published) / seconds, true},
				out: perSecond{float64(q.Acked-r.stats.Acked) / seconds, true},
			}
		}
		rates[q.Name] = r
		rows[i] = &queueRow{Stats: q, in: r.in, out: r.out}
	}
	s.rates = rates
	return rows
}

func newLockRow(info *lock.Info) *lockRow {
	r := &lockRow{name: info.Name, mode: info.Mode.String(), holders: len(info.Grants), waiting: info.Waiting}
	if info.Permits > 1 {
		r.mode = "of " + strconv.Itoa(info.Permits)
	}
	for i := range info.Waiters {
		r.oldest = max(r.oldest, info.Waiters[i].Waiting)
	}
	for i := range info.Grants {
		if g := &info.Grants[i]; i == 0 || g.Remaining < r.remaining {
			r.holder, r.remaining = g.Holder, g.Remaining
		}
	}
	if len(info.Grants) == 0 && info.ClosedFor > 0 {
		r.closed, r.remaining = true, info.ClosedFor
	}
	return r
}

// summary is the sample in a line.
func (s *topSample) summary() string {
	waiting := 0
	for _, l := range s.locks.rows {
		waiting += l.waiting
	}
	var ready, flight int64
	var in, out perSecond
	for _, q := range s.queues.rows {
		ready += q.Ready + q.Delayed
		flight += q.InFlight
		in = perSecond{in.rate + q.in.rate, in.known || q.in.known}
		out = perSecond{out.rate + q.out.rate, out.known || q.out.known}
	}
	text := fmt.Sprintf("%s, %d waiting; %s, %s and %d in flight", counted(len(s.locks.rows), s.locks.more, "lock"), waiting,
		counted(len(s.queues.rows), s.queues.more, "queue"), plural(ready, "message"), flight)
	if in.known {
		text += fmt.Sprintf(", in %s/s, out %s/s", in, out)
	}
	return text
}

// counted is a number of things, which may be more.
func counted(n int, more bool, what string) string {
	if more {
		return fmt.Sprintf("first %s", plural(int64(n), what))
	}
	return plural(int64(n), what)
}

func lockRows(rows []*lockRow) *live.Table {
	t := &live.Table{Columns: []live.Column{
		{Title: "NAME", Flex: true}, {Title: "MODE", Drop: 3}, {Title: "HOLDERS", Right: true}, {Title: "WAITING", Right: true},
		{Title: "OLDEST WAIT", Right: true, Drop: 1}, {Title: "ENDS IN", Right: true, Drop: 2}, {Title: "ENDS FIRST", Flex: true, Drop: 4},
	}}
	for _, l := range rows {
		oldest, ends, holder := "-", "-", l.holder
		if l.waiting > 0 {
			oldest = brief(l.oldest)
		}
		if l.holders > 0 || l.closed {
			ends = brief(l.remaining)
		}
		if l.closed {
			holder = "(closed after a loss)"
		}
		t.Rows = append(t.Rows, []string{l.name, l.mode, strconv.Itoa(l.holders), strconv.Itoa(l.waiting), oldest, ends, holder})
	}
	return t
}

func queueRows(rows []*queueRow) *live.Table {
	t := &live.Table{Columns: []live.Column{
		{Title: "NAME", Flex: true}, {Title: "READY", Right: true}, {Title: "IN FLIGHT", Right: true}, {Title: "DELAYED", Right: true, Drop: 2},
		{Title: "IN/S", Right: true}, {Title: "OUT/S", Right: true}, {Title: "OLDEST", Right: true, Drop: 1}, {Title: "CONSUMERS", Right: true, Drop: 3},
	}}
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	for _, q := range rows {
		t.Rows = append(t.Rows, []string{q.Name, n(q.Ready), n(q.InFlight), n(q.Delayed), q.in.String(), q.out.String(),
			oldest(q.Stats), strconv.Itoa(q.Consumers)})
	}
	return t
}

// topJSON is a line of `top --json`.
type topJSON struct {
	At         time.Time      `json:"at"`
	Locks      []topLockJSON  `json:"locks"`
	MoreLocks  bool           `json:"more_locks"`
	Queues     []topQueueJSON `json:"queues"`
	MoreQueues bool           `json:"more_queues"`
}

type topLockJSON struct {
	Name        string `json:"name"`
	Mode        string `json:"mode"`
	Holders     int    `json:"holders"`
	Waiting     int    `json:"waiting"`
	OldestMS    int64  `json:"oldest_wait_ms"`
	RemainingMS int64  `json:"remaining_ms"`
}

type topQueueJSON struct {
	Name      string   `json:"name"`
	Ready     int64    `json:"ready"`
	InFlight  int64    `json:"in_flight"`
	Delayed   int64    `json:"delayed"`
	In        *float64 `json:"in_per_second"`
	Out       *float64 `json:"out_per_second"`
	OldestMS  int64    `json:"oldest_age_ms"`
	Consumers int      `json:"consumers"`
}

func (s *topSample) json() topJSON {
	out := topJSON{
		At: s.at, Locks: []topLockJSON{}, MoreLocks: s.locks.more, Queues: []topQueueJSON{}, MoreQueues: s.queues.more,
	}
	for _, l := range s.locks.rows {
		out.Locks = append(out.Locks, topLockJSON{l.name, l.mode, l.holders, l.waiting, l.oldest.Milliseconds(), l.remaining.Milliseconds()})
	}
	for _, q := range s.queues.rows {
		out.Queues = append(out.Queues, topQueueJSON{
			q.Name, q.Ready, q.InFlight, q.Delayed, q.in.json(), q.out.json(), max(0, q.age()).Milliseconds(), q.Consumers,
		})
	}
	return out
}
