// Package urlpart reads what the URLs of backends have in common: hosts,
// durations, tokens, and files with a password or certificates. Errors name the
// parameter and the limit, and match lease.ErrInvalid.
package urlpart

import (
	"crypto/x509"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Hosts reads up to most hosts, HOST or HOST:PORT, with commas between them,
// and returns their addresses. port is that of hosts without one.
func Hosts(hosts, port string, most int) ([]string, error) {
	all := strings.Split(hosts, ",")
	if len(all) > most {
		return nil, lease.Invalidf("url", "must name at most %d hosts, has %d", most, len(all))
	}
	addrs := make([]string, 0, len(all))
	for _, h := range all {
		addr := h
		if _, _, err := net.SplitHostPort(h); err != nil {
			addr = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		host, p, err := net.SplitHostPort(addr)
		n, perr := strconv.ParseUint(p, 10, 16)
		if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t") {
			return nil, lease.Invalidf("url", "must name hosts as HOST or HOST:PORT, has %q", h)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// Duration reads a duration from least to most.
func Duration(name, s string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return 0, lease.Invalidf(name, "must be a duration from %v to %v, is %q", least, most, s)
	}
	return d, nil
}

// Token reads a token up to most.
func Token(name, s string, most lease.Token) (lease.Token, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || lease.Token(n) > most {
		return 0, lease.Invalidf(name, "must be a number from 0 to %d, is %q", most, s)
	}
	return lease.Token(n), nil
}

// Password reads the first line of a file, which must not be empty.
func Password(name, path string) (string, error) {
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

// Authorities reads the PEM certificates of a file.
func Authorities(name, path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, lease.Invalidf(name, "cannot be read: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, lease.Invalidf(name, "%s has no PEM certificate", path)
	}
	return pool, nil
}
