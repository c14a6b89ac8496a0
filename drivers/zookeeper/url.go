package zookeeper

import (
	"net/url"
	"strings"

	"github.com/lockkeeper/lockkeeper/internal/urlpart"
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
	if t.addrs, err = urlpart.Hosts(hosts, defaultPort, maxHosts); err != nil {
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

// setParameter reads one parameter. An unknown one is an error.
func (t *target) setParameter(name, v string) (err error) {
	switch name {
	case "session":
		t.options.Session, err = urlpart.Duration(name, v, minSession, maxSession)
	case "tick":
		t.options.Tick, err = urlpart.Duration(name, v, minTick, maxTick)
	case "timeout":
		t.options.Timeout, err = urlpart.Duration(name, v, minTimeout, maxTimeout)
	case "token_base":
		t.options.TokenBase, err = urlpart.Token(name, v, MaxTokenBase)
	case "acl":
		if t.options.ACL = v; v == "" {
			err = lease.Invalidf(name, "must not be empty")
		}
	case "password_file":
		t.options.Password, err = urlpart.Password(name, v)
	default:
		err = lease.Invalidf(name, "is not a parameter of %s URLs; the driver's documentation lists them", scheme)
	}
	return err
}
