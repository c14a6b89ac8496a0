package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

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
	if err := t.setHosts(hosts); err != nil {
		return nil, err
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
		if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t%") {
			return lease.Invalidf("url", "must name hosts as HOST or HOST:PORT, has %q", h)
		}
		t.addrs = append(t.addrs, addr)
	}
	return nil
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
			t.options.Timeout, err = parseDuration(name, v, minTimeout, maxTimeout)
		case name == "session":
			t.options.Session, err = parseDuration(name, v, MinSession, MaxSession)
			if err == nil && t.options.Session%time.Second != 0 {
				err = lease.Invalidf(name, "must be whole seconds, is %q", v)
			}
		case name == "token_base":
			t.options.TokenBase, err = parseBase(v)
		case name == "password_file":
			t.password, err = readPassword(name, v)
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
		pem, err := os.ReadFile(ca)
		if err != nil {
			return lease.Invalidf("ca_file", "cannot be read: %v", err)
		}
		t.tls.RootCAs = x509.NewCertPool()
		if !t.tls.RootCAs.AppendCertsFromPEM(pem) {
			return lease.Invalidf("ca_file", "%s has no PEM certificate", ca)
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

func parseDuration(name, s string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return 0, lease.Invalidf(name, "must be a duration from %v to %v, is %q", least, most, s)
	}
	return d, nil
}

func parseBase(s string) (lease.Token, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || lease.Token(n) > MaxTokenBase {
		return 0, lease.Invalidf("token_base", "must be a number from 0 to %d, is %q", MaxTokenBase, s)
	}
	return lease.Token(n), nil
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
