package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/lockkeeper/lockkeeper/internal/wire"
)

// maxTokens bounds a token file: each request is compared with all of them.
const maxTokens = 1000

// ReadTokens reads bearer tokens from a file: one in each line, at least
// MinToken bytes; empty lines and lines that begin with # are passed over.
func ReadTokens(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var tokens []string
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		t := strings.TrimSpace(line)
		if t == "" || t[0] == '#' {
			continue
		}
		if err := checkToken(t); err != nil {
			return nil, fmt.Errorf("%s line %d: %w", path, n, err)
		}
		if tokens = append(tokens, t); len(tokens) > maxTokens {
			return nil, fmt.Errorf("%s has more than %d tokens", path, maxTokens)
		}
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%s has no token", path)
	}
	return tokens, nil
}

func checkToken(t string) error {
	if len(t) < MinToken {
		return fmt.Errorf("a token must have at least %d characters, has %d", MinToken, len(t))
	}
	for _, c := range []byte(t) {
		if c <= 0x20 || c >= 0x7f {
			return fmt.Errorf("a token must consist of printable ASCII characters without spaces")
		}
	}
	return nil
}

// guard decides who may ask at all.
type guard struct {
	tokens [][sha256.Size]byte
	hosts  map[string]bool
}

func newGuard(c *Config) *guard {
	g := &guard{hosts: map[string]bool{}}
	for _, t := range c.Tokens {
		g.tokens = append(g.tokens, sha256.Sum256([]byte(t)))
	}
	for _, h := range c.Hosts {
		g.hosts[strings.ToLower(h)] = true
	}
	return g
}

// check refuses a request that a browser sends for another site, and one
// without a right token.
func (g *guard) check(r *http.Request) error {
	if err := g.checkSite(r); err != nil {
		return err
	}
	if len(g.tokens) == 0 {
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return wire.NewProblem(wire.CodeDenied, "", "this daemon wants a bearer token: Authorization: Bearer TOKEN")
	}
	// Digests have one length, and all are compared: time tells nothing.
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	match := 0
	for i := range g.tokens {
		match |= subtle.ConstantTimeCompare(sum[:], g.tokens[i][:])
	}
	if match == 0 {
		return wire.NewProblem(wire.CodeDenied, "", "the bearer token is not one of this daemon's")
	}
	return nil
}

func (g *guard) checkSite(r *http.Request) error {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return wire.NewProblem(wire.CodeCrossSite, "", "Sec-Fetch-Site is "+site)
	}
	for _, origin := range r.Header.Values("Origin") {
		scheme := "http://"
		if r.TLS != nil {
			scheme = "https://"
		}
		if !strings.EqualFold(origin, scheme+r.Host) {
			return wire.NewProblem(wire.CodeCrossSite, "", "Origin is "+origin)
		}
	}
	return g.checkHost(r)
}

// checkHost is the defence against DNS rebinding, where the name of a foreign
// site leads to this machine: on loopback Host must be a loopback name or
// address; elsewhere, unless tokens protect, an address.
func (g *guard) checkHost(r *http.Request) error {
	host := hostOnly(r.Host)
	if g.hosts[host] {
		return nil
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	ip, err := netip.ParseAddr(host)
	switch {
	case local != nil && !isLoopback(local):
		if err == nil || len(g.tokens) > 0 || isLocalName(host) {
			return nil
		}
	case err == nil:
		if ip.Unmap().IsLoopback() {
			return nil
		}
	case isLocalName(host):
		return nil
	}
	return wire.NewProblem(wire.CodeCrossSite, "", fmt.Sprintf("Host %q is not a name of this daemon; start it with --host %s if it should be", host, host))
}

func isLocalName(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// hostOnly returns the name or address of a Host header in lower case,
// without port, brackets and a final dot.
func hostOnly(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func isLoopback(a net.Addr) bool {
	if a.Network() == "unix" {
		return true
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}
