package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/live"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

func (a *app) locksCommand() *cobra.Command {
	var watch watching
	cmd := &cobra.Command{
		Use:     "locks [PREFIX]",
		GroupID: groupLocks,
		Short:   "Show who holds which lock, and who waits",
		Long: `Show who holds which lock, and who waits.

With --watch a terminal shows them live; q or Ctrl-C ends it, the arrows
scroll. Elsewhere it prints a line for each lock, and then one whenever a lock
has changed; that a lease was renewed is no change. A lock that nobody holds or
awaits any more is free, or {"name":…,"free":true} with --json.

Where the server tells of changes, they are shown as they come, and a lease that
goes on being renewed ends in its TTL at most; while the server is away it is
tried again each --interval. A server that does not is asked each --interval.`,
		Example: `  lockkeeper locks                  # all that are held, awaited or closed
  lockkeeper locks stock/           # names that begin with stock/
  lockkeeper locks --watch
  lockkeeper locks --watch stock/ >> locks.log
  lockkeeper locks --json | jq -r 'select(.waiting > 10) | .name'`,
		Args:              arguments(0, 1),
		ValidArgsFunction: a.completeLock,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			return a.showLocks(cmd.Context(), prefix, &watch)
		},
	}
	watch.flags(cmd, "how often to look, or to try again, with --watch")
	return cmd
}

func (a *app) showLocks(ctx context.Context, prefix string, watch *watching) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	if err := a.checkURL(); err != nil {
		return err
	}
	conn, err := lock.OpenConn(ctx, a.url)
	if err != nil {
		return err
	}
	locks := lock.New(conn, &lock.Config{Logger: a.logger(slog.LevelWarn)})
	defer closing(&err, locks.Close)
	said := lockLog{app: a, said: map[string]lock.Info{}}
	if watch.on && locks.Caps().Watch {
		m := &lockMirror{conn: conn, request: driver.WatchRequest{Prefix: prefix}}
		defer m.end()
		return show(ctx, a, watch, &shown[*lockNews]{
			title:   "locks " + prefix,
			fetch:   m.fetch(live.Terminal(a.Out) != nil && !a.json),
			lines:   func(news *lockNews, _ int) []live.Line { return live.Lines(locksTable(news.aged(time.Now()))) },
			changes: said.news,
			waits:   true,
		})
	}
	return show(ctx, a, watch, &shown[[]*lock.Info]{
		title: "locks " + prefix,
		fetch: func(ctx context.Context) ([]*lock.Info, error) {
			var infos []*lock.Info
			for info, err := range locks.List(ctx, prefix) {
				if err != nil {
					return nil, err
				}
				infos = append(infos, info)
			}
			return infos, nil
		},
		text: func(infos []*lock.Info) (string, error) {
			if a.json {
				return locksJSON(infos)
			}
			return locksTable(infos), nil
		},
		lines:   func(infos []*lock.Info, _ int) []live.Line { return live.Lines(locksTable(infos)) },
		changes: said.all,
	})
}

func locksTable(infos []*lock.Info) string {
	if len(infos) == 0 {
		return "no locks are held\n"
	}
	t := newTable("NAME", "MODE", "HOLDER", "TOKEN", "HELD", "ENDS IN", "WAITING", "META")
	for _, info := range infos {
		mode := info.Mode.String()
		if info.Permits > 1 {
			mode = strconv.Itoa(len(info.Grants)) + " of " + strconv.Itoa(info.Permits)
		}
		waiting := strconv.Itoa(info.Waiting)
		if len(info.Grants) == 0 {
			state := "(being granted)"
			if info.ClosedFor > 0 {
				state = "(closed after a loss)"
			}
			t.row(info.Name, mode, state, "", "", brief(info.ClosedFor), waiting, "")
		}
		for i, g := range info.Grants {
			name := info.Name
			if i > 0 {
				name, mode, waiting = "", "", ""
			}
			ends := "<= " + brief(g.TTL)
			if g.Remaining != renewed {
				ends = brief(g.Remaining)
			}
			if g.Revoked {
				ends += " (revoked)"
			}
			t.row(name, mode, g.Holder, g.Token.String(), brief(g.Held), ends, waiting, metaText(g.Meta))
		}
	}
	return t.String()
}

func metaText(meta map[string]string) string {
	parts := make([]string, 0, len(meta))
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		parts = append(parts, k+"="+meta[k])
	}
	return strings.Join(parts, " ")
}

// lockJSON is a line of `locks --json`.
type lockJSON struct {
	Name     string       `json:"name"`
	Mode     string       `json:"mode"`
	Permits  int          `json:"permits"`
	Grants   []grantJSON  `json:"grants"`
	Waiters  []waiterJSON `json:"waiters"`
	Waiting  int          `json:"waiting"`
	ClosedMS int64        `json:"closed_ms"`
}

type grantJSON struct {
	Holder      string            `json:"holder"`
	Token       lease.Token       `json:"token"`
	Mode        string            `json:"mode"`
	HeldMS      int64             `json:"held_ms"`
	RemainingMS int64             `json:"remaining_ms"`
	TTLMS       int64             `json:"ttl_ms"`
	Revoked     bool              `json:"revoked"`
	Meta        map[string]string `json:"meta"`
	Value       string            `json:"value,omitempty"`
}

type waiterJSON struct {
	Holder    string `json:"holder"`
	Mode      string `json:"mode"`
	Position  int    `json:"position"`
	WaitingMS int64  `json:"waiting_ms"`
}

func locksJSON(infos []*lock.Info) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, info := range infos {
		line := lockJSON{
			Name: info.Name, Mode: info.Mode.String(), Permits: info.Permits, Waiting: info.Waiting,
			ClosedMS: info.ClosedFor.Milliseconds(), Grants: []grantJSON{}, Waiters: []waiterJSON{},
		}
		for _, g := range info.Grants {
			line.Grants = append(line.Grants, grantJSON{
				Holder: g.Holder, Token: g.Token, Mode: g.Mode.String(), HeldMS: g.Held.Milliseconds(),
				RemainingMS: g.Remaining.Milliseconds(), TTLMS: g.TTL.Milliseconds(), Revoked: g.Revoked, Meta: g.Meta,
				Value: string(g.Value),
			})
		}
		for _, w := range info.Waiters {
			line.Waiters = append(line.Waiters, waiterJSON{w.Holder, w.Mode.String(), w.Position, w.Waiting.Milliseconds()})
		}
		if err := enc.Encode(line); err != nil {
			return "", fmt.Errorf("lock %q: %w", info.Name, err)
		}
	}
	return out.String(), nil
}

// completeLock offers the names of locks.
func (a *app) completeLock(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	locks, err := a.openLocks(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer locks.Close() //nolint:errcheck // a completion has nobody to tell
	var names []string
	for info, err := range locks.List(ctx, prefix) {
		if err != nil {
			break
		}
		names = append(names, info.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
