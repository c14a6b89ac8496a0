package redis

import (
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lockkeeper/lockkeeper/internal/urlpart"
	"github.com/lockkeeper/lockkeeper/lease"
)

var schemes = []string{"redis", "rediss", "unix", "redis+sentinel", "redis+cluster"}

// Ports of URLs that name none.
const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
)

// Connections of a client made from a URL: those of the pipelines, a few for
// lists, and one for the subscription.
const (
	poolSize    = maxLanes + 4
	idleTimeout = 5 * time.Minute
)

// target is a URL taken apart.
type target struct {
	scheme   string
	addrs    []string // host and port, or the path of a socket
	master   string   // the primary's name at the Sentinels
	db       int
	user     string
	password string
	sentinel string // the Sentinels' password
	tls      *tls.Config
	options  Options
}

// parseURL takes a URL apart. The list of hosts is cut out first: package url
// knows only one.
func parseURL(raw string) (*target, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || !slices.Contains(schemes, scheme) {
		return nil, lease.Invalidf("url", "must begin with one of %s", strings.Join(schemes, "://, ")+"://")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	user, hosts, found := cutLast(rest[:end], "@")
	if !found {
		user, hosts = "", rest[:end]
	}
	plain := "x://"
	if user != "" {
		plain += user + "@"
	}
	u, err := url.Parse(plain + "host" + rest[end:])
	if err != nil {
		return nil, lease.Invalidf("url", "cannot be read") // what url says may hold the password
	}
	if u.Fragment != "" {
		return nil, lease.Invalidf("url", "must not have a fragment")
	}
	t := &target{scheme: scheme}
	if u.User != nil {
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
	}
	if err := t.setPlace(hosts, u.Path); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, lease.Invalidf("url", "has a malformed query")
	}
	if err := t.setParameters(query); err != nil {
		return nil, err
	}
	return t, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// setPlace reads the hosts and the path.
func (t *target) setPlace(hosts, path string) error {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if path == "" || path == "/" {
		parts = nil
	}
	port, most := defaultPort, 1
	switch t.scheme {
	case "unix":
		if hosts != "" || len(parts) == 0 {
			return lease.Invalidf("url", "must be unix:///PATH/OF/THE/SOCKET")
		}
		t.addrs = []string{path}
		return nil
	case "redis+sentinel":
		port, most = defaultSentinelPort, maxHosts
		if len(parts) < 1 || parts[0] == "" {
			return lease.Invalidf("url", "must name the primary: redis+sentinel://HOST,HOST/NAME/DB")
		}
		t.master, parts = parts[0], parts[1:]
	case "redis+cluster":
		most = maxHosts
		if len(parts) > 0 {
			return lease.Invalidf("url", "must not have a path: a Redis Cluster has one database")
		}
	}
	switch len(parts) {
	case 0:
	case 1:
		if err := t.setDB("url", parts[0]); err != nil {
			return err
		}
	default:
		return lease.Invalidf("url", "has too long a path")
	}
	var err error
	t.addrs, err = urlpart.Hosts(hosts, port, most)
	return err
}

// maxHosts bounds the hosts of a URL.
const maxHosts = 32

// maxDB bounds the number of a database.
const maxDB = 1 << 20

func (t *target) setDB(field, s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxDB {
		return lease.Invalidf(field, "must have a number of a database from 0 to %d, has %q", maxDB, s)
	}
	t.db = n
	return nil
}

// setParameters reads the query. An unknown parameter is an error.
func (t *target) setParameters(query url.Values) error {
	secure := t.scheme == "rediss"
	caFile := ""
	for name, vs := range query {
		if len(vs) > 1 {
			return lease.Invalidf(name, "must not be given twice")
		}
		var err error
		switch v := vs[0]; {
		case name == "timeout":
			t.options.Timeout, err = urlpart.Duration(name, v, minTimeout, maxTimeout)
		case name == "fence_keep":
			t.options.FenceKeep, err = urlpart.Duration(name, v, MinFenceKeep, MaxFenceKeep)
		case name == "prefix":
			t.options.Prefix = v
			if v == "" {
				err = lease.Invalidf(name, "must not be empty")
			}
		case name == "token_base":
			t.options.TokenBase, err = urlpart.Token(name, v, MaxTokenBase)
		case name == "wait_replicas":
			t.options.WaitReplicas, err = parseNumber(name, v, MaxWaitReplicas)
		case name == "password_file":
			t.password, err = urlpart.Password(name, v)
		case name == "sentinel_password_file" && t.scheme == "redis+sentinel":
			t.sentinel, err = urlpart.Password(name, v)
		case name == "db" && t.scheme == "unix":
			err = t.setDB(name, v)
		case name == "ca_file" && t.scheme != "redis" && t.scheme != "unix":
			caFile = v
		case name == "tls" && t.master != "" || name == "tls" && t.scheme == "redis+cluster":
			secure, err = parseBool(name, v)
		default:
			err = lease.Invalidf(name, "is not a parameter of %s URLs; the driver's documentation lists them", t.scheme)
		}
		if err != nil {
			return err
		}
	}
	if caFile != "" && !secure {
		return lease.Invalidf("ca_file", "needs tls=true")
	}
	if secure {
		return t.setTLS(caFile)
	}
	return nil
}

func (t *target) setTLS(caFile string) error {
	t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if host, _, err := net.SplitHostPort(t.addrs[0]); err == nil && len(t.addrs) == 1 {
		t.tls.ServerName = host
	}
	if caFile == "" {
		return nil
	}
	var err error
	t.tls.RootCAs, err = urlpart.Authorities("ca_file", caFile)
	return err
}

func parseNumber(name, s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return 0, lease.Invalidf(name, "must be a number from 0 to %d, is %q", most, s)
	}
	return n, nil
}

func parseBool(name, s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, lease.Invalidf(name, "must be true or false, is %q", s)
}

// client makes the client for a target. It makes one attempt with each call:
// the portable layer repeats them, and knows what that means.
func (t *target) client() goredis.UniversalClient {
	timeout := t.options.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch t.scheme {
	case "redis+cluster":
		return goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: t.addrs, Username: t.user, Password: t.password, TLSConfig: t.tls,
			MaxRetries: -1, DialTimeout: timeout, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
			PoolSize: poolSize, PoolTimeout: timeout, ConnMaxIdleTime: idleTimeout,
			DisableIdentity: true, MaintNotificationsConfig: quiet,
		})
	case "redis+sentinel":
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: t.master, SentinelAddrs: t.addrs, SentinelPassword: t.sentinel,
			DB: t.db, Username: t.user, Password: t.password, TLSConfig: t.tls,
			MaxRetries: -1, DialTimeout: timeout, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
			PoolSize: poolSize, PoolTimeout: timeout, ConnMaxIdleTime: idleTimeout,
			DisableIdentity: true,
		})
	default:
		network := "tcp"
		if t.scheme == "unix" {
			network = "unix"
		}
		return goredis.NewClient(&goredis.Options{
			Network: network, Addr: t.addrs[0],
			DB: t.db, Username: t.user, Password: t.password, TLSConfig: t.tls,
			MaxRetries: -1, DialTimeout: timeout, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
			PoolSize: poolSize, PoolTimeout: timeout, ConnMaxIdleTime: idleTimeout,
			DisableIdentity: true, MaintNotificationsConfig: quiet,
		})
	}
}
