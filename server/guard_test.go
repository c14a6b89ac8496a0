package server

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serveDirect hands a request to the handler without a connection.
func (d *daemon) serveDirect(method, target, body string) *answer {
	req := &http.Request{Method: method, Header: http.Header{}, Host: "localhost", Body: http.NoBody, ContentLength: int64(len(body))}
	u, err := httptest.NewRequest("GET", "http://localhost/", http.NoBody).URL.Parse(target)
	if err != nil {
		return &answer{status: 400, header: http.Header{"Content-Type": {"application/problem+json"}}, body: []byte(`{"code":"x","status":400,"type":"urn:lockkeeper:problem:x","title":"x","instance":"x"}`)}
	}
	req.URL = u
	req.Body = readCloser{bytes.NewReader([]byte(body))}
	w := httptest.NewRecorder()
	d.server.serveHTTP(w, req)
	return &answer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

const secret = "0123456789abcdef"

func TestTokens(t *testing.T) {
	d := start(t, func(c *Config) { c.Tokens = []string{"another-token-of-them", secret} })
	for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer 0123456789abcdeX", "Bearer " + secret + "x", "Basic " + secret, secret} {
		for _, path := range []string{"/v1/locks", "/metrics", "/openapi.json", "/v1/capabilities", "/nowhere"} {
			a := d.do("GET", path, "", "Authorization", auth)
			if p := a.problem(t); p.Code != "denied" || a.status != 401 || a.header.Get("WWW-Authenticate") == "" || strings.Contains(string(a.body), secret) {
				t.Errorf("%q %s: %d %s", auth, path, a.status, a.body)
			}
		}
	}
	for _, auth := range []string{"Bearer " + secret, "bearer another-token-of-them"} {
		d.ok("GET", "/v1/locks", "", nil, "Authorization", auth)
	}
	d.ok("GET", "/healthz", "", nil)
	d.ok("GET", "/readyz", "", nil)
}

func TestReadTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	for content, want := range map[string]int{
		"": -1, "# nothing\n": -1, "short\n": -1, "has a space in it, has it not\n": -1,
		secret: 1, "# two\n" + secret + "\r\n\n  " + secret + "2  \n": 2,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadTokens(path)
		if want < 0 && err == nil || want >= 0 && (err != nil || len(got) != want) {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if _, err := ReadTokens(path + ".not"); err == nil {
		t.Error("a file that is not there was read")
	}
}

// TestCrossSite plays a browser that another site has sent here.
func TestCrossSite(t *testing.T) {
	d := start(t, func(c *Config) { c.Hosts = []string{"keeper.example"} })
	d.declare("q")
	_, port, _ := net.SplitHostPort(d.addr)
	for _, c := range []struct {
		name    string
		headers []string
		admit   bool
	}{
		{"curl", nil, true},
		{"localhost", []string{"Host", "localhost:" + port}, true},
		{"final dot", []string{"Host", "localhost."}, true},
		{"sub.localhost", []string{"Host", "app.localhost:" + port}, true},
		{"IPv6", []string{"Host", "[::1]:" + port}, true},
		{"configured", []string{"Host", "Keeper.Example:443"}, true},
		{"same origin", []string{"Origin", d.url, "Sec-Fetch-Site", "same-origin"}, true},
		{"typed in", []string{"Sec-Fetch-Site", "none"}, true},

		{"rebound name", []string{"Host", "evil.example:" + port}, false},
		{"rebound name, same origin", []string{"Host", "evil.example", "Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"}, false},
		{"like localhost", []string{"Host", "localhost.evil.example"}, false},
		{"foreign address", []string{"Host", "192.0.2.1"}, false},
		{"foreign origin", []string{"Origin", "https://evil.example"}, false},
		{"other port", []string{"Origin", "http://127.0.0.1:1"}, false},
		{"other scheme", []string{"Origin", "https://" + d.addr}, false},
		{"sandbox", []string{"Origin", "null"}, false},
		{"form", []string{"Origin", "https://evil.example", "Content-Type", "text/plain"}, false},
		{"cross-site", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"same-site", []string{"Sec-Fetch-Site", "same-site"}, false},
	} {
		for _, r := range [][3]string{{"POST", "/v1/receive", `{"queue":"q"}`}, {"GET", "/v1/locks", ""}, {"GET", "/metrics", ""}, {"OPTIONS", "/v1/receive", ""}} {
			if c.admit && r[0] == "OPTIONS" {
				continue
			}
			a := d.do(r[0], r[1], r[2], c.headers...)
			if c.admit != (a.status < 300) {
				t.Errorf("%s: %s %s: %d %s", c.name, r[0], r[1], a.status, a.body)
			}
			if !c.admit && a.problem(t).Code != "cross_site" {
				t.Errorf("%s: %s", c.name, a.body)
			}
			for h := range a.header {
				if strings.HasPrefix(h, "Access-Control-") {
					t.Errorf("%s: %s is sent", c.name, h)
				}
			}
		}
	}
	d.ok("GET", "/healthz", "", nil, "Host", "probe.example")
}

func TestAllowListen(t *testing.T) {
	addr := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	d := start(t, nil)
	cfg := d.server.cfg
	for _, c := range []struct {
		addr     string
		tokens   []string
		insecure bool
		want     bool
	}{
		{"127.0.0.1:1", nil, false, true}, {"127.9.9.9:1", nil, false, true}, {"[::1]:1", nil, false, true},
		{"0.0.0.0:1", nil, false, false}, {"[::]:1", nil, false, false}, {"192.0.2.1:1", nil, false, false},
		{"0.0.0.0:1", []string{secret}, false, true}, {"0.0.0.0:1", nil, true, true},
	} {
		cfg.Tokens, cfg.Insecure = c.tokens, c.insecure
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AllowListen(addr(c.addr)); (err == nil) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
	cfg.Tokens, cfg.Insecure = nil, false
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), ln); err == nil || !strings.Contains(err.Error(), "--token-file") {
		t.Errorf("serving everybody: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a server of nothing was made")
	}
	if _, err := New(Config{Locks: cfg.Locks, Tokens: []string{"short"}}); err == nil {
		t.Error("a short token was taken")
	}
}
