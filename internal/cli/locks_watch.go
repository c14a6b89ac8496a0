package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// gatherTime is for how long changes are gathered before a person is shown
// them: about as often as a screen is drawn.
const gatherTime = 50 * time.Millisecond

// renewed is what Remaining is of a grant that may have been renewed since it
// was told: a watch does not tell that.
const renewed = time.Duration(math.MinInt64)

// lockMirror is what a watch has told. It watches by the driver, and not by
// the portable Watch, which does not say that the server is away.
type lockMirror struct {
	conn    driver.Conn
	request driver.WatchRequest
	watcher driver.Watcher // nil: to be begun
	synced  bool
	locks   map[string]*toldLock
}

// toldLock is what was told of a lock.
type toldLock struct {
	lock.Info
	at time.Time
}

// lockNews is what a lockMirror has to tell.
type lockNews struct {
	all    []*toldLock // by name; nil if only what has changed was asked for
	anew   bool        // all was told anew
	events []driver.Event
}

// fetch returns a function that begins the watch and returns all there is, or
// waits for changes: for all of a short while if it is for a person, who is
// shown the whole each time.
func (m *lockMirror) fetch(gather bool) func(context.Context) (*lockNews, error) {
	return func(ctx context.Context) (*lockNews, error) {
		news := &lockNews{}
		if err := m.next(ctx, news); err != nil {
			return nil, err
		}
		if gather {
			short, cancel := context.WithTimeout(ctx, gatherTime)
			defer cancel()
			for short.Err() == nil || !m.synced {
				within := short
				if !m.synced { // half of it is not shown
					within = ctx
				}
				if err := m.next(within, news); err != nil && within.Err() == nil || ctx.Err() != nil {
					return nil, cmp.Or(err, ctx.Err())
				}
			}
			news.events = nil
		}
		if gather || news.anew {
			news.all = slices.SortedFunc(maps.Values(m.locks), func(a, b *toldLock) int { return cmp.Compare(a.Name, b.Name) })
		}
		return news, nil
	}
}

// next waits until something is to be told: all of it after a reset. A watch
// that fails is begun anew by the next call.
func (m *lockMirror) next(ctx context.Context, news *lockNews) error {
	for {
		if m.watcher == nil {
			w, err := m.conn.Watch(ctx, &m.request)
			if err != nil {
				return err
			}
			m.watcher, m.synced = w, false
		}
		events, err := m.watcher.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				m.end()
			}
			return err
		}
		for i := range events {
			m.note(&events[i], news)
		}
		if m.synced {
			return nil
		}
	}
}

func (m *lockMirror) note(e *driver.Event, news *lockNews) {
	switch e.Kind {
	case driver.EventReset:
		m.synced, m.locks = false, map[string]*toldLock{}
		news.events = nil
	case driver.EventState:
		m.locks[e.Info.Name] = &toldLock{e.Info, time.Now()}
	case driver.EventGone:
		delete(m.locks, e.Info.Name)
	case driver.EventSynced:
		m.synced, news.anew = true, true
		return
	}
	if m.synced {
		news.events = append(news.events, *e)
	}
}

func (m *lockMirror) end() {
	if m.watcher != nil {
		_ = m.watcher.Close() // there is nothing more to be had from it
		m.watcher = nil
	}
}

// aged returns the locks as they are at a later moment, if nothing has changed.
func (n *lockNews) aged(now time.Time) []*lock.Info {
	infos := make([]*lock.Info, len(n.all))
	for i, told := range n.all {
		info, since := told.Info, now.Sub(told.at)
		info.ClosedFor = max(0, info.ClosedFor-since)
		info.Grants = slices.Clone(info.Grants)
		for j := range info.Grants {
			g := &info.Grants[j]
			g.Held += since
			if g.Revoked { // and so not renewed
				g.Remaining = max(0, g.Remaining-since)
			} else {
				g.Remaining = renewed
			}
		}
		infos[i] = &info
	}
	return infos
}

// lockLog says what has changed of locks, for a program.
type lockLog struct {
	*app
	said map[string]lock.Info // without ages
}

// news says what a watch has told.
func (l *lockLog) news(n *lockNews) (string, error) {
	if n.anew {
		infos := make([]*lock.Info, len(n.all))
		for i, told := range n.all {
			infos[i] = &told.Info
		}
		return l.all(infos)
	}
	var out strings.Builder
	for i := range n.events {
		info := &n.events[i].Info
		line, err := l.state(info)
		if n.events[i].Kind == driver.EventGone {
			line, err = l.gone(info.Name), nil
		}
		if err != nil {
			return "", err
		}
		out.WriteString(line)
	}
	return out.String(), nil
}

// all says what has changed, given all locks that there are.
func (l *lockLog) all(infos []*lock.Info) (string, error) {
	var out strings.Builder
	gone := maps.Clone(l.said)
	for _, info := range infos {
		delete(gone, info.Name)
		line, err := l.state(info)
		if err != nil {
			return "", err
		}
		out.WriteString(line)
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		out.WriteString(l.gone(name))
	}
	return out.String(), nil
}

// state returns a line if the lock is not as it was said to be.
func (l *lockLog) state(info *lock.Info) (string, error) {
	now := ageless(info)
	if before, ok := l.said[info.Name]; ok && reflect.DeepEqual(before, now) {
		return "", nil
	}
	l.said[info.Name] = now
	if l.json {
		return locksJSON([]*lock.Info{info})
	}
	return time.Now().Format(time.TimeOnly) + " " + info.Name + " " + lockLine(info) + "\n", nil
}

// lockGoneJSON is a line of `locks --watch --json` about a lock that nobody
// holds or awaits any more.
type lockGoneJSON struct {
	Name string `json:"name"`
	Free bool   `json:"free"`
}

func (l *lockLog) gone(name string) string {
	if _, ok := l.said[name]; !ok {
		return "" // it came and went between two looks
	}
	delete(l.said, name)
	if l.json {
		line, _ := json.Marshal(lockGoneJSON{name, true}) // a string and a bool
		return string(line) + "\n"
	}
	return time.Now().Format(time.TimeOnly) + " " + name + " free\n"
}

// ageless is info without what changes by itself.
func ageless(info *lock.Info) lock.Info {
	out := *info
	out.ClosedFor = min(out.ClosedFor, 1)
	out.Grants = slices.Clone(info.Grants)
	for i := range out.Grants {
		out.Grants[i].Held, out.Grants[i].Remaining = 0, 0
	}
	out.Waiters = slices.Clone(info.Waiters)
	for i := range out.Waiters {
		out.Waiters[i].Waiting = 0
	}
	return out
}

// lockLine says in a line how a lock is.
func lockLine(info *lock.Info) string {
	var b strings.Builder
	switch {
	case len(info.Grants) > 0:
		fmt.Fprintf(&b, "held mode=%v", info.Mode)
	case info.ClosedFor > 0:
		b.WriteString("closed")
	default:
		b.WriteString("granting")
	}
	if info.Permits > 1 {
		fmt.Fprintf(&b, " permits=%d", info.Permits)
	}
	fmt.Fprintf(&b, " waiting=%d", info.Waiting)
	for _, g := range info.Grants {
		fmt.Fprintf(&b, " holder=%s token=%v", g.Holder, g.Token)
		if g.Revoked {
			b.WriteString(" revoked")
		}
		if len(g.Value) > 0 {
			fmt.Fprintf(&b, " value=%q", g.Value)
		}
		if len(g.Meta) > 0 {
			fmt.Fprintf(&b, " meta: %s", metaText(g.Meta))
		}
	}
	return b.String()
}
