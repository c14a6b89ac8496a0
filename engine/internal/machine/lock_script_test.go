package machine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestLockScripts runs testdata/locks*.txt. Each line of a script is a round
// of one command:
//
//	t=1.5s acquire NAME,... HOLDER [id=I] [ttl=10s] [queue] [shared] [permits=N] [delay=D] [within=HOLDER,...] [resume] [ticket=HOLDER|forged] -> result
//
// with the commands await, leave, cancel, renew NAME HOLDER TOKEN, release
// NAME HOLDER TOKEN, revoke NAME [TOKEN] [break], list NAME, disk (what a
// restart would find), restart, and tick. The time stays if it is left out.
// Behind the result come the awaits that finished in the round. TTLs are 10s
// unless said.
func TestLockScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/locks*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) { runLockScript(t, path) })
	}
}

func runLockScript(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s *lockScript
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if title, ok := strings.CutPrefix(line, "== "); ok {
			t.Log(title)
			s = newLockScript()
			continue
		}
		command, want, _ := strings.Cut(line, "->")
		got, err := s.run(strings.Fields(command))
		if err != nil {
			t.Fatalf("%s:%d: %v", path, n, err)
		}
		if want = strings.TrimSpace(want); got != want {
			t.Errorf("%s:%d: %s\n got %s\nwant %s", path, n, strings.TrimSpace(command), got, want)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// lockScript is the machine under a script, with the disk that it writes to.
type lockScript struct {
	now     Time
	locks   *Locks
	disk    *lockDisk
	awaits  map[string]*Await
	tickets map[string]*lockdriver.Ticket
}

func newLockScript() *lockScript {
	s := &lockScript{disk: newLockDisk(), awaits: make(map[string]*Await), tickets: make(map[string]*lockdriver.Ticket)}
	s.locks = s.disk.open(s.now)
	return s
}

func (s *lockScript) run(words []string) (string, error) {
	if at, ok := strings.CutPrefix(words[0], "t="); ok {
		d, err := time.ParseDuration(at)
		if err != nil {
			return "", fmt.Errorf("bad time %q: %w", at, err)
		}
		if lease.Instant(d) < s.now.Mono {
			return "", fmt.Errorf("time %q goes back", at)
		}
		s.now.Mono, words = lease.Instant(d), words[1:]
	}
	if words[0] == "restart" {
		s.locks = s.disk.open(s.now)
		clear(s.awaits)
		return "", nil
	}
	s.locks.Tick(s.now, s.disk)
	result, err := s.command(words[0], words[1:])
	if err != nil {
		return "", err
	}
	s.locks.Write(s.now, s.disk)
	for _, cmd := range s.locks.Finished {
		a := cmd.(*Await)
		result += fmt.Sprintf("; %s %s", a.Request.Holder, awaitResult(a))
	}
	s.locks.Finished = nil
	return strings.TrimPrefix(result, "; "), nil
}

func (s *lockScript) command(verb string, args []string) (string, error) {
	switch verb {
	case "tick":
		return "", nil
	case "disk":
		s.locks.Write(s.now, s.disk)
		return s.disk.String(), nil
	case "acquire", "await", "cancel":
		r, err := s.request(args)
		if err != nil {
			return "", err
		}
		return s.ask(verb, r), nil
	case "leave":
		s.locks.Leave(s.now, s.disk, &Leave{Await: s.awaits[args[0]]})
		return "", nil
	case "renew", "release":
		return s.refer(verb, args)
	case "revoke":
		c := &RevokeLock{Request: &lockdriver.RevokeRequest{Name: args[0]}}
		for _, arg := range args[1:] {
			if arg == "break" {
				c.Request.Break = true
				continue
			}
			n, err := strconv.Atoi(arg)
			if err != nil {
				return "", err
			}
			c.Request.Token = lease.Token(n)
		}
		s.locks.Revoke(s.now, s.disk, c)
		return outcome(c.Err), nil
	case "list":
		return s.list(args[0]), nil
	}
	return "", fmt.Errorf("unknown command %q", verb)
}

func (s *lockScript) request(args []string) (*lockdriver.Request, error) {
	names := strings.Split(args[0], ",")
	r := &lockdriver.Request{Name: names[0], More: names[1:], Holder: args[1], TTL: 10 * time.Second}
	for _, arg := range args[2:] {
		var err error
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "id":
			r.ID = value
		case "ttl":
			r.TTL, err = time.ParseDuration(value)
		case "delay":
			r.LockDelay, err = time.ParseDuration(value)
		case "permits":
			r.Permits, err = strconv.Atoi(value)
		case "within":
			r.Within = strings.Split(value, ",")
		case "shared":
			r.Mode = lockdriver.Shared
		case "queue":
			r.Queue = true
		case "resume":
			r.Resume = true
		case "ticket":
			r.Ticket = s.tickets[value]
			if value == "forged" {
				forger := newTickets([16]byte{1})
				r.Ticket = &lockdriver.Ticket{Opaque: issueTo(&forger, 1, r.Holder, r.Name)}
			}
		default:
			err = fmt.Errorf("unknown argument %q", arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (s *lockScript) ask(verb string, r *lockdriver.Request) string {
	switch verb {
	case "acquire":
		c := &Acquire{Request: r, Received: s.now.Mono}
		s.locks.Acquire(s.now, s.disk, c)
		switch {
		case c.Ticket != nil:
			s.tickets[r.Holder] = c.Ticket
			seq, _ := s.locks.tickets.read(r, c.Ticket.Opaque)
			return fmt.Sprintf("ticket %d place %d", seq, c.Ticket.Position)
		case c.Grant != nil:
			return granted(c.Grant)
		}
		return outcome(c.Err)
	case "await":
		c := &Await{Request: r, Received: s.now.Mono}
		s.awaits[r.Holder] = c
		s.locks.Await(s.now, s.disk, c)
		if c.waiter != nil {
			return "waits"
		}
		return ""
	default:
		c := &CancelLock{Request: r}
		s.locks.Cancel(s.now, s.disk, c)
		return outcome(c.Err)
	}
}

func (s *lockScript) refer(verb string, args []string) (string, error) {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return "", err
	}
	ref := lockdriver.Ref{Name: args[0], Holder: args[1], Token: lease.Token(n), TTL: 10 * time.Second}
	if len(args) > 3 {
		if ref.TTL, err = time.ParseDuration(strings.TrimPrefix(args[3], "ttl=")); err != nil {
			return "", err
		}
	}
	if verb == "renew" {
		c := &RenewLocks{Refs: []lockdriver.Ref{ref}}
		s.locks.Renew(s.now, s.disk, c)
		return outcome(c.Outcomes[0].Err), nil
	}
	c := &ReleaseLocks{Refs: []lockdriver.Ref{ref}}
	s.locks.Release(s.now, s.disk, c)
	return outcome(c.Outcomes[0].Err), nil
}

func (s *lockScript) list(name string) string {
	c := &ListLocks{Request: &lockdriver.ListRequest{Name: name}}
	s.locks.List(s.now, c)
	if len(c.Infos) == 0 {
		return "nothing"
	}
	info := c.Infos[0]
	parts := []string{info.Mode.String()}
	for _, g := range info.Grants {
		revoked := ""
		if g.Revoked {
			revoked = " revoked"
		}
		parts = append(parts, fmt.Sprintf("%s#%d left=%v%s", g.Holder, g.Token, g.Remaining, revoked))
	}
	for _, w := range info.Waiters {
		parts = append(parts, fmt.Sprintf("%d:%s", w.Position, w.Holder))
	}
	if info.ClosedFor > 0 {
		parts = append(parts, fmt.Sprintf("closed=%v", info.ClosedFor))
	}
	return strings.Join(parts, ", ")
}

func granted(g *lockdriver.Grant) string {
	s := fmt.Sprintf("grant %d", g.Token)
	for _, t := range g.More {
		s += fmt.Sprintf(",%d", t)
	}
	if g.Resumed {
		s += " resumed"
	}
	if g.Waited != 0 {
		s += fmt.Sprintf(" waited=%v", g.Waited)
	}
	return s
}

func awaitResult(a *Await) string {
	switch {
	case a.Again:
		return "again"
	case a.Grant != nil:
		return granted(a.Grant)
	}
	return outcome(a.Err)
}

// outcome names an error as the scripts do.
func outcome(err error) string {
	for name, target := range map[string]error{
		"held": lockdriver.ErrHeld, "already held": lockdriver.ErrAlreadyHeld,
		"conflict": lease.ErrConflict, "not held": lease.ErrNotHeld, "revoked": lease.ErrRevoked,
		"broken": lease.ErrBroken, "limit": lease.ErrLimit, "invalid": lease.ErrInvalid,
	} {
		if errors.Is(err, target) {
			return name
		}
	}
	if err == nil {
		return "ok"
	}
	return err.Error()
}
