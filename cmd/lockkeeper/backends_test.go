package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/drivers/etcd"
	"github.com/lockkeeper/lockkeeper/drivers/kafka"
	"github.com/lockkeeper/lockkeeper/drivers/rabbitmq"
	"github.com/lockkeeper/lockkeeper/drivers/redis"
	"github.com/lockkeeper/lockkeeper/drivers/zookeeper"
	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/queue"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

var update = flag.Bool("update", false, "write the tables of docs/backends.md anew")

// backendsPage has tables that are made from what the drivers state.
const backendsPage = "../../docs/backends.md"

// lockProfiles are those of all drivers for locks.
func lockProfiles() []driver.Profile {
	return slices.Concat(
		engine.LockProfiles(),
		redis.Profiles(),
		etcd.Profiles(),
		zookeeper.Profiles(),
	)
}

// queueProfiles are those of all drivers for queues.
func queueProfiles() []queuedriver.Profile {
	return slices.Concat(
		engine.QueueProfiles(),
		rabbitmq.Profiles(),
		kafka.Profiles(),
	)
}

// Schemes of drivers that have nothing of their own, and so no profile: what they
// lead to has.
var (
	passing      = []string{"http", "https", "migrate"} // locks
	passingQueue = []string{"http", "https"}
)

// TestBackendsPage fails when the page is not what the drivers say. With
// -update it writes the page anew.
func TestBackendsPage(t *testing.T) {
	t.Parallel()
	locks, queues := lockProfiles(), queueProfiles()
	var lockURLs, queueURLs []string
	for i := range locks {
		p := &locks[i]
		if err := p.Caps.Assumes.Validate(); err != nil {
			t.Errorf("%s: %v", p.Title, err)
		}
		lockURLs = append(lockURLs, p.URLs...)
	}
	for i := range queues {
		p := &queues[i]
		if err := p.Assumes.Validate(); err != nil {
			t.Errorf("%s: %v", p.Title, err)
		}
		queueURLs = append(queueURLs, p.URLs...)
	}
	states(t, lockURLs, passing, lock.Schemes())
	states(t, queueURLs, passingQueue, queue.Schemes())
	page, err := os.ReadFile(backendsPage)
	if err != nil {
		t.Fatal(err)
	}
	want := replaceTable(t, page, "locks", lockTables(locks))
	want = replaceTable(t, want, "queues", queueTables(queues))
	if bytes.Equal(page, want) {
		return
	}
	if !*update {
		t.Fatal("docs/backends.md is not what the drivers state; write it anew: go test ./cmd/lockkeeper -run TestBackendsPage -update")
	}
	if err := os.WriteFile(backendsPage, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// states fails unless there is a profile for each scheme that is registered, but
// for those that pass on.
func states(t *testing.T, urls, passing, known []string) {
	t.Helper()
	stated := slices.Clone(passing)
	for _, url := range urls {
		stated = append(stated, strings.TrimSuffix(url, "://"))
	}
	slices.Sort(stated)
	if stated = slices.Compact(stated); !slices.Equal(stated, known) {
		t.Errorf("profiles for the schemes %v; registered are %v", stated, known)
	}
}

// replaceTable puts text between the marks of a name.
func replaceTable(t *testing.T, page []byte, name, text string) []byte {
	t.Helper()
	begin, end := fmt.Appendf(nil, "<!-- %s: made by TestBackendsPage -->\n", name), fmt.Appendf(nil, "<!-- end of %s -->\n", name)
	before, rest, ok := bytes.Cut(page, begin)
	_, after, closed := bytes.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("docs/backends.md has no place for the table of %s", name)
	}
	return slices.Concat(before, begin, []byte(text), end, after)
}

// lockTables returns a table of what there is, and what is assumed for each.
func lockTables(profiles []driver.Profile) string {
	var b strings.Builder
	row := func(title string, cell func(p *driver.Profile) string) {
		b.WriteString("| " + title)
		for i := range profiles {
			b.WriteString(" | " + cell(&profiles[i]))
		}
		b.WriteString(" |\n")
	}
	row("", func(p *driver.Profile) string { return "**" + p.Title + "**" })
	row("---", func(*driver.Profile) string { return "---" })
	row("URL", func(p *driver.Profile) string { return "`" + strings.Join(p.URLs, "`, `") + "`" })
	for i, f := range profiles[0].Caps.Features() {
		row(f.Name, func(p *driver.Profile) string { return yes(p.Caps.Features()[i].Has) })
	}
	row("grants outlive a restart", func(p *driver.Profile) string { return yes(p.Caps.Durable) })
	row("a failover can lose a grant", func(p *driver.Profile) string { return yes(p.Caps.FailoverLosesGrant) })
	row("a holder learns of its loss", func(p *driver.Profile) string { return strings.ReplaceAll(string(p.Caps.Loss), "_", " ") })
	row("clock", func(p *driver.Profile) string { return strings.ReplaceAll(string(p.Caps.Clock), "_", " ") })
	row("TTL", func(p *driver.Profile) string {
		text := fmt.Sprintf("%v to %v", p.Caps.MinTTL, strings.TrimSuffix(p.Caps.MaxTTL.String(), "0m0s"))
		if p.Caps.TTLPerConn {
			text += ", one for a client"
		}
		return text
	})
	row("a dead waiter is in the way", func(p *driver.Profile) string { return "≤ " + p.Caps.DeadWaiter.String() })
	for i := range profiles {
		p := &profiles[i]
		fmt.Fprintf(&b, "\n### %s\n\n", p.Title)
		for _, l := range p.Caps.Assumes.Lines() {
			fmt.Fprintf(&b, "- **%s**: %s\n", l[0], l[1])
		}
		if p.Note != "" {
			fmt.Fprintf(&b, "- **note**: %s\n", p.Note)
		}
	}
	return b.String()
}

// queueTables is what lockTables is for locks.
func queueTables(profiles []queuedriver.Profile) string {
	var b strings.Builder
	row := func(title string, cell func(p *queuedriver.Profile) string) {
		b.WriteString("| " + title)
		for i := range profiles {
			b.WriteString(" | " + cell(&profiles[i]))
		}
		b.WriteString(" |\n")
	}
	row("", func(p *queuedriver.Profile) string { return "**" + p.Title + "**" })
	row("---", func(*queuedriver.Profile) string { return "---" })
	row("URL", func(p *queuedriver.Profile) string { return "`" + strings.Join(p.URLs, "`, `") + "`" })
	row("a confirm means", func(p *queuedriver.Profile) string { return string(p.Caps.Durability) })
	for i, f := range profiles[0].Caps.Features() {
		row(f.Name, func(p *queuedriver.Profile) string { return yes(p.Caps.Features()[i].Has) })
	}
	row("lease", func(p *queuedriver.Profile) string {
		return fmt.Sprintf("%v to %v", p.Caps.MinLease, strings.TrimSuffix(p.Caps.MaxLease.String(), "0m0s"))
	})
	row("delay", func(p *queuedriver.Profile) string {
		return "≤ " + strings.TrimSuffix(p.Caps.LongestDelay().String(), "0m0s")
	})
	row("body", func(p *queuedriver.Profile) string { return fmt.Sprintf("≤ %d bytes", p.Caps.MaxBody) })
	for i := range profiles {
		p := &profiles[i]
		fmt.Fprintf(&b, "\n### %s: queues\n\n", p.Title)
		for _, l := range p.Assumes.Lines() {
			fmt.Fprintf(&b, "- **%s**: %s\n", l[0], l[1])
		}
		if p.Note != "" {
			fmt.Fprintf(&b, "- **note**: %s\n", p.Note)
		}
	}
	return b.String()
}

func yes(has bool) string {
	if has {
		return "yes"
	}
	return "no"
}
