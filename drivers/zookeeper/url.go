package zookeeper

import (
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

const (
	scheme      = "zk"
	defaultPort = "2181"
	maxHosts    = 32 // of a URL
)

// target is a URL taken apart.
type target struct {
	addrs   []string // host and port
	options Options
}

// parseURL takes a URL apart. The list of hosts is cut out first: package url
// knows only one.
func parseURL(raw string) (*target, error) {
	rest, ok := strings.CutPrefix(raw, scheme+"://")
	if !ok {
		return nil, lease.Invalidf("url", "must begin with %s://", scheme)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	user, hosts := "", rest[:end]
	if i := strings.LastIndex(hosts, "@"); i >= 0 {
		user, hosts = hosts[:i+1], hosts[i+1:]
	}
	u, err := url.Parse("x://" + user + "host" + rest[end:])
	if err != nil {
		return nil, lease.Invalidf("url", "cannot be read") // what url says may hold the password
	}
	if u.Fragment != "" {
		return nil, lease.Invalidf("url", "must not have a fragment")
	}
	t := &target{}
	if u.User != nil {
		t.options.User = u.User.Username()
		t.options.Password, _ = u.User.Password()
	}
	if u.Path != "" && u.Path != "/" {
		t.options.Root = u.Path
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, lease.Invalidf("url", "has a malformed query")
	}
	if err := t.setHosts(hosts); err != nil {
		return nil, err
	}
	for name, vs := range query {
		if len(vs) > 1 {
			return nil, lease.Invalidf(name, "must not be given twice")
		}
		if err := t.setParameter(name, vs[0]); err != nil {
			return nil, err
		}
	}
	if t.options.User == "" && t.options.Password != "" {
		return nil, lease.Invalidf("url", "must name the user whose password it has")
	}
	return t, nil
}

func (t *target) setHosts(hosts string) error {
	all := strings.Split(hosts, ",")
	if len(all) > maxHosts {
		return lease.Invalidf("url", "must name at most %d hosts, has %d", maxHosts, len(all))
	}
	for _, h := range all {
		addr := h
		if _, _, err := net.SplitHostPort(h); err != nil {
			addr = net.JoinHostPort(strings.Trim(h, "[]"), defaultPort)
		}
		host, p, err := net.SplitHostPort(addr)
		n, perr := strconv.ParseUint(p, 10, 16)
		if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t") {
			return lease.Invalidf("url", "must name hosts as HOST or HOST:PORT, has %q", h)
		}
		t.addrs = append(t.addrs, addr)
	}
	return nil
}

// setParameter reads one parameter. An unknown one is an error.
func (t *target) setParameter(name, v string) (err error) {
	switch name {
	case "session":
		t.options.Session, err = parseDuration(name, v, minSession, maxSession)
	case "tick":
		t.options.Tick, err = parseDuration(name, v, minTick, maxTick)
	case "timeout":
		t.options.Timeout, err = parseDuration(name, v, minTimeout, maxTimeout)
	case "token_base":
		n, perr := strconv.ParseUint(v, 10, 64)
		if perr != nil || lease.Token(n) > MaxTokenBase {
			return lease.Invalidf(name, "must be a number from 0 to %d, is %q", MaxTokenBase, v)
		}
		t.options.TokenBase = lease.Token(n)
	case "acl":
		if t.options.ACL = v; v == "" {
			err = lease.Invalidf(name, "must not be empty")
		}
	case "password_file":
		t.options.Password, err = readPassword(name, v)
	default:
		err = lease.Invalidf(name, "is not a parameter of %s URLs; the driver's documentation lists them", scheme)
	}
	return err
}

func parseDuration(name, s string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return 0, lease.Invalidf(name, "must be a duration from %v to %v, is %q", least, most, s)
	}
	return d, nil
}

// readPassword reads the first line of a file.
func readPassword(name, path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", lease.Invalidf(name, "cannot be read: %v", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", lease.Invalidf(name, "%s has no password", path)
	}
	return line, nil
}
