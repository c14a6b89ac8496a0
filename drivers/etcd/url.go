package etcd

import (
	"crypto/tls"
	"net/url"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/lockkeeper/lockkeeper/internal/urlpart"
	"github.com/lockkeeper/lockkeeper/lease"
)

var schemes = []string{"etcd", "etcds"}

const defaultPort = "2379"

// How a client made from a URL holds its connections.
const (
	pingEvery    = 10 * time.Second // gRPC takes no less
	pingTimeout  = 3 * time.Second
	redialFirst  = 50 * time.Millisecond
	redialMost   = time.Second
	redialGrowth = 1.6
	redialJitter = 0.2
	maxHosts     = 32
	maxRetries   = 3 // by the client, of reads, and of what was not sent
)

// target is a URL taken apart.
type target struct {
	addrs    []string // host and port
	user     string
	password string
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
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
	}
	if t.addrs, err = urlpart.Hosts(hosts, defaultPort, maxHosts); err != nil {
		return nil, err
	}
	if strings.Contains(hosts, "%") {
		return nil, lease.Invalidf("url", "must not name hosts with a %%")
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		t.options.Prefix = path + "/"
		if err := lease.ValidateText("url", t.options.Prefix, 1, MaxPrefix); err != nil {
			return nil, err
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, lease.Invalidf("url", "has a malformed query")
	}
	if err := t.setParameters(query, scheme == "etcds"); err != nil {
		return nil, err
	}
	if (t.user == "") != (t.password == "") {
		return nil, lease.Invalidf("url", "must have both a user and a password, or neither")
	}
	return t, nil
}

// setParameters reads the query. An unknown parameter is an error.
func (t *target) setParameters(query url.Values, secure bool) error {
	files := map[string]string{}
	for name, vs := range query {
		if len(vs) > 1 {
			return lease.Invalidf(name, "must not be given twice")
		}
		var err error
		switch v := vs[0]; {
		case name == "timeout":
			t.options.Timeout, err = urlpart.Duration(name, v, minTimeout, maxTimeout)
		case name == "session":
			t.options.Session, err = urlpart.Duration(name, v, MinSession, MaxSession)
			if err == nil && t.options.Session%time.Second != 0 {
				err = lease.Invalidf(name, "must be whole seconds, is %q", v)
			}
		case name == "token_base":
			t.options.TokenBase, err = urlpart.Token(name, v, MaxTokenBase)
		case name == "password_file":
			t.password, err = urlpart.Password(name, v)
		case (name == "ca_file" || name == "cert_file" || name == "key_file") && secure:
			files[name] = v
		default:
			err = lease.Invalidf(name, "is not a parameter of these URLs; the driver's documentation lists them")
		}
		if err != nil {
			return err
		}
	}
	if secure {
		return t.setTLS(files)
	}
	return nil
}

func (t *target) setTLS(files map[string]string) error {
	t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := files["ca_file"]; ca != "" {
		var err error
		if t.tls.RootCAs, err = urlpart.Authorities("ca_file", ca); err != nil {
			return err
		}
	}
	cert, key := files["cert_file"], files["key_file"]
	switch {
	case cert == "" && key == "":
		return nil
	case cert == "":
		return lease.Invalidf("cert_file", "must be given with key_file")
	case key == "":
		return lease.Invalidf("key_file", "must be given with cert_file")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return lease.Invalidf("cert_file", "cannot be used with key_file: %v", err)
	}
	t.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// config is the client's configuration for a target. The client repeats reads,
// and what could not be sent; the portable layer repeats the rest, and knows
// what that means.
func (t *target) config() clientv3.Config {
	timeout := t.options.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	scheme := "http://"
	if t.tls != nil {
		scheme = "https://"
	}
	endpoints := make([]string, len(t.addrs))
	for i, addr := range t.addrs {
		endpoints[i] = scheme + addr
	}
	return clientv3.Config{
		Endpoints: endpoints, Username: t.user, Password: t.password, TLS: t.tls,
		DialTimeout: timeout, DialKeepAliveTime: pingEvery, DialKeepAliveTimeout: pingTimeout,
		MaxUnaryRetries: maxRetries, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialFirst, Multiplier: redialGrowth, Jitter: redialJitter, MaxDelay: redialMost},
			MinConnectTimeout: timeout,
		})},
	}
}
