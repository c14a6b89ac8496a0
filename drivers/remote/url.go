package remote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Connections of a Client's own transport.
const (
	maxIdleConns = 512
	idleTimeout  = 90 * time.Second // shorter than the daemon's, which would close under a request
	dialTimeout  = 5 * time.Second
)

// newTransport returns a transport for HTTP/1.1 with keep-alive: each waiting
// call has a connection of its own, so that they do not wait for each other.
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         corkingDialer(&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}),
		TLSHandshakeTimeout: dialTimeout,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConns:        maxIdleConns,
		MaxIdleConnsPerHost: maxIdleConns,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true,
		WriteBufferSize:     32 << 10,
		ReadBufferSize:      32 << 10,
	}
}

// parseURL takes a URL apart into the daemon's address and the options.
func parseURL(raw string) (base string, o *Options, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", nil, lease.Invalidf("url", "cannot be read: %v", unwrapURL(err))
	}
	if u.User != nil {
		return "", nil, lease.Invalidf("url", "must not have a user or password: give token_file=PATH or set %s", TokenEnv)
	}
	if u.Fragment != "" {
		return "", nil, lease.Invalidf("url", "must not have a fragment")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", nil, lease.Invalidf("url", "has a malformed query: %v", err)
	}
	o = &Options{Token: os.Getenv(TokenEnv)}
	var roots *x509.CertPool
	for name, vs := range query {
		if len(vs) > 1 {
			return "", nil, lease.Invalidf(name, "must not be given twice")
		}
		switch name {
		case "token_file":
			o.Token, err = readToken(vs[0])
		case "ca_file":
			roots, err = readRoots(vs[0])
		case "timeout":
			o.Timeout, err = parseDuration(name, vs[0])
		case "poll":
			o.Poll, err = parseDuration(name, vs[0])
		case "session":
			o.Session = SessionMode(vs[0])
		default:
			err = lease.Invalidf(name, "is not a parameter of http URLs; they have token_file, ca_file, timeout, poll and session")
		}
		if err != nil {
			return "", nil, err
		}
	}
	o.HTTP = &http.Client{Transport: newTransport(roots), CheckRedirect: refuseRedirect}
	u.RawQuery = ""
	return u.String(), o, nil
}

func parseDuration(name, s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond || d > time.Hour {
		return 0, lease.Invalidf(name, "must be a duration from 1ms to 1h, as in 10s, is %q", s)
	}
	return d, nil
}

func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", lease.Invalidf("token_file", "cannot be read: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if t := strings.TrimSpace(line); t != "" && t[0] != '#' {
			return t, nil
		}
	}
	return "", lease.Invalidf("token_file", "%s has no token", path)
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, lease.Invalidf("ca_file", "cannot be read: %v", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s has no PEM certificate", lease.Invalidf("ca_file", "is not usable"), path)
	}
	return roots, nil
}
