package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/internal/urlpart"
	"github.com/lockkeeper/lockkeeper/lease"
)

var schemes = []string{"amqp", "amqps"}

// Ports of URLs that name none.
const (
	defaultPort    = "5672"
	defaultTLSPort = "5671"
)

// maxHosts bounds the hosts of a URL.
const maxHosts = 32

// Bounds of the parameter heartbeat. A connection on which nothing comes for
// three of them is lost.
const (
	defaultHeartbeat = 5 * time.Second
	minHeartbeat     = time.Second
	maxHeartbeat     = 10 * time.Minute
)

// target is a URL taken apart.
type target struct {
	addrs     []string
	next      atomic.Uint64 // of addrs
	vhost     string
	user      string
	password  string
	tls       *tls.Config
	heartbeat time.Duration
	options   Options
}

// parseURL takes a URL apart. The list of hosts is cut out first: package url
// knows only one.
func parseURL(raw string) (*target, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || !slices.Contains(schemes, scheme) {
		return nil, lease.Invalidf("url", "must begin with %s", strings.Join(schemes, ":// or ")+"://")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	hosts, plain := rest[:end], "x://"
	if i := strings.LastIndex(hosts, "@"); i >= 0 {
		plain, hosts = plain+hosts[:i+1], hosts[i+1:]
	}
	u, err := url.Parse(plain + "host" + rest[end:])
	if err != nil {
		return nil, lease.Invalidf("url", "cannot be read") // what url says may hold the password
	}
	if u.Fragment != "" {
		return nil, lease.Invalidf("url", "must not have a fragment")
	}
	t := &target{vhost: "/", user: "guest", password: "guest", heartbeat: defaultHeartbeat}
	if u.User != nil {
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
	}
	if t.vhost, err = parseVhost(u); err != nil {
		return nil, err
	}
	port := defaultPort
	if scheme == "amqps" {
		port = defaultTLSPort
	}
	if t.addrs, err = urlpart.Hosts(hosts, port, maxHosts); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, lease.Invalidf("url", "has a malformed query")
	}
	if err := t.setParameters(query, scheme == "amqps"); err != nil {
		return nil, err
	}
	return t, nil
}

// parseVhost reads the virtual host: without a path, or with /, it is the one
// that every broker has, "/".
func parseVhost(u *url.URL) (string, error) {
	path := strings.TrimPrefix(u.EscapedPath(), "/")
	if path == "" {
		return "/", nil
	}
	vhost, err := url.PathUnescape(path)
	if err != nil || strings.Contains(path, "/") {
		return "", lease.Invalidf("url", "must name the virtual host as one part of the path, with %%2F for a slash")
	}
	return vhost, lease.ValidateText("url: virtual host", vhost, 1, 255)
}

// setParameters reads the query. An unknown parameter is an error.
func (t *target) setParameters(query url.Values, secure bool) error {
	caFile := ""
	for name, vs := range query {
		if len(vs) > 1 {
			return lease.Invalidf(name, "must not be given twice")
		}
		var err error
		switch v := vs[0]; {
		case name == "timeout":
			t.options.Timeout, err = urlpart.Duration(name, v, minTimeout, maxTimeout)
		case name == "publish_for":
			t.options.PublishFor, err = urlpart.Duration(name, v, minPublishFor, maxPublishFor)
		case name == "heartbeat":
			t.heartbeat, err = urlpart.Duration(name, v, minHeartbeat, maxHeartbeat)
		case name == "queue_type" && (v == string(Quorum) || v == string(Classic)):
			t.options.QueueType = QueueType(v)
		case name == "queue_type":
			err = lease.Invalidf(name, "must be quorum or classic, is %q", v)
		case name == "prefix":
			t.options.Prefix = v
			err = lease.ValidateText(name, v, 1, MaxPrefix)
		case name == "password_file":
			t.password, err = urlpart.Password(name, v)
		case name == "ca_file" && secure:
			caFile = v
		default:
			err = lease.Invalidf(name, "is not a parameter of this URL; the driver's documentation lists them")
		}
		if err != nil {
			return err
		}
	}
	if secure {
		return t.setTLS(caFile)
	}
	return nil
}

func (t *target) setTLS(caFile string) error {
	t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return nil
	}
	var err error
	t.tls.RootCAs, err = urlpart.Authorities("ca_file", caFile)
	return err
}

// dial is the Dial of a URL. Where it names several hosts it tries them in
// turn, and begins with another one each time.
func (t *target) dial(ctx context.Context, name string) (*amqp.Connection, error) {
	first := t.next.Add(1)
	var errs []error
	for i := range t.addrs {
		addr := t.addrs[(first+uint64(i))%uint64(len(t.addrs))]
		conn, err := t.dialOne(ctx, addr, name)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (t *target) dialOne(ctx context.Context, addr, name string) (*amqp.Connection, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// The client knows no ctx: its end is that of the handshake. The client
	// takes the deadline away when it is through.
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline) // a socket has deadlines
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn, err := t.open(ctx, raw, addr, name)
	if !stop() && err == nil {
		_ = conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close() // so that nothing is left of a half handshake
		return nil, err
	}
	return conn, nil
}

func (t *target) open(ctx context.Context, raw net.Conn, addr, name string) (*amqp.Connection, error) {
	if t.tls != nil {
		config := t.tls.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr) // Hosts made it
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		raw = secure
	}
	props := amqp.NewConnectionProperties()
	props.SetClientConnectionName("lockkeeper " + name)
	return amqp.Open(raw, amqp.Config{
		SASL:  []amqp.Authentication{&amqp.PlainAuth{Username: t.user, Password: t.password}},
		Vhost: t.vhost, Heartbeat: t.heartbeat, Locale: "en_US", Properties: props, FrameSize: frameSize,
	})
}

// frameSize is what brokers propose: it bounds the headers of a message.
const frameSize = 128 << 10
