package kafka

import (
	"crypto/tls"
	"net/url"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/lockkeeper/lockkeeper/internal/urlpart"
	"github.com/lockkeeper/lockkeeper/lease"
)

const (
	scheme      = "kafka"
	defaultPort = "9092"
	maxHosts    = 32 // of a URL
)

// Ways to log in.
const (
	saslPlain    = "plain"
	saslScram256 = "scram-sha-256"
	saslScram512 = "scram-sha-512"
)

// target is a URL taken apart.
type target struct {
	addrs    []string
	user     string
	password string
	sasl     string // "": nobody logs in
	secure   bool
	caFile   string
	tls      *tls.Config
	options  Options
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
	hosts, plainURL := rest[:end], "x://"
	if i := strings.LastIndex(hosts, "@"); i >= 0 {
		plainURL, hosts = plainURL+hosts[:i+1], hosts[i+1:]
	}
	u, err := url.Parse(plainURL + "host" + rest[end:])
	if err != nil {
		return nil, lease.Invalidf("url", "cannot be read") // what url says may hold the password
	}
	if u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, lease.Invalidf("url", "must not have a path or a fragment")
	}
	t := &target{}
	if u.User != nil {
		t.user, t.sasl = u.User.Username(), saslPlain
		t.password, _ = u.User.Password()
	}
	if t.addrs, err = urlpart.Hosts(hosts, defaultPort, maxHosts); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, lease.Invalidf("url", "has a malformed query")
	}
	for name, vs := range query {
		if len(vs) > 1 {
			return nil, lease.Invalidf(name, "must not be given twice")
		}
		if err := t.setParameter(name, vs[0]); err != nil {
			return nil, err
		}
	}
	if err := t.complete(); err != nil {
		return nil, err
	}
	return t, nil
}

// setParameter reads one of the query. An unknown one is an error.
func (t *target) setParameter(name, v string) (err error) {
	o := &t.options
	switch name {
	case "timeout":
		o.Timeout, err = urlpart.Duration(name, v, minTimeout, maxTimeout)
	case "publish_for":
		o.PublishFor, err = urlpart.Duration(name, v, minPublishFor, maxPublishFor)
	case "session":
		o.Session, err = urlpart.Duration(name, v, minSession, maxSession)
	case "drain":
		o.Drain, err = urlpart.Duration(name, v, 1, maxDrain)
	case "partitions":
		o.Partitions, err = whole(name, v, MaxPartitions)
	case "replication":
		o.Replication, err = whole(name, v, MaxReplication)
	case "prefix":
		o.Prefix = v
	case "queue_type":
		if o.QueueType = QueueType(v); o.QueueType != Ordered && o.QueueType != Share {
			return lease.Invalidf(name, "must be %s or %s, is %q", Ordered, Share, v)
		}
	case "password_file":
		t.password, err = urlpart.Password(name, v)
	case "tls":
		if v != "true" && v != "false" {
			return lease.Invalidf(name, "must be true or false, is %q", v)
		}
		t.secure = v == "true"
	case "ca_file":
		t.caFile = v
	case "sasl":
		if v != saslPlain && v != saslScram256 && v != saslScram512 {
			return lease.Invalidf(name, "must be %s, %s or %s, is %q", saslPlain, saslScram256, saslScram512, v)
		}
		t.sasl = v
	default:
		return lease.Invalidf(name, "is not a parameter of this URL; the driver's documentation lists them")
	}
	return err
}

// whole reads a number from 1 to most.
func whole(name, v string, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, lease.Invalidf(name, "must be a number from 1 to %d, is %q", most, v)
	}
	return n, nil
}

// complete checks what depends on several parts.
func (t *target) complete() error {
	if t.sasl != "" && t.user == "" {
		return lease.Invalidf("sasl", "needs a user in the URL")
	}
	if t.caFile != "" && !t.secure {
		return lease.Invalidf("ca_file", "needs tls=true")
	}
	if t.secure {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if t.caFile != "" {
			var err error
			if t.tls.RootCAs, err = urlpart.Authorities("ca_file", t.caFile); err != nil {
				return err
			}
		}
	}
	_, err := t.options.withDefaults()
	return err
}

// client is what kgo is told.
func (t *target) client() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(t.addrs...)}
	if t.tls != nil {
		opts = append(opts, kgo.DialTLSConfig(t.tls))
	}
	var login sasl.Mechanism
	switch t.sasl {
	case saslPlain:
		login = plain.Auth{User: t.user, Pass: t.password}.AsMechanism()
	case saslScram256:
		login = scram.Auth{User: t.user, Pass: t.password}.AsSha256Mechanism()
	case saslScram512:
		login = scram.Auth{User: t.user, Pass: t.password}.AsSha512Mechanism()
	default:
		return opts
	}
	return append(opts, kgo.SASL(login))
}
