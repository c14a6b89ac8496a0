package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// unwatched returns the URL of a proxy of a daemon that does not tell of
// changes.
func unwatched(t *testing.T, d *daemon) string {
	t.Helper()
	target, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		switch r.Request.URL.Path {
		case "/v1/locks/watch":
			t.Error("a server that has no watch was asked to watch")
		case "/v1/capabilities":
			text, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			if !bytes.Contains(text, []byte(`"watch":true`)) {
				t.Errorf("the capabilities are %s", text)
			}
			text = bytes.Replace(text, []byte(`"watch":true`), []byte(`"watch":false`), 1)
			r.Body = io.NopCloser(bytes.NewReader(text))
			r.ContentLength = int64(len(text))
			r.Header.Set("Content-Length", strconv.Itoa(len(text)))
		}
		return nil
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL + "?session=off"
}

// On a pipe `locks --watch` says a line of each lock, and then one of each
// change, also after the daemon was away; whether the daemon tells of changes
// or has to be asked.
func TestWatchLocksSaysWhatChanges(t *testing.T) {
	t.Parallel()
	for name, through := range map[string]func(*testing.T, *daemon) (url, interval string){
		"told":  func(_ *testing.T, d *daemon) (string, string) { return d.url, "1s" },
		"asked": func(t *testing.T, d *daemon) (string, string) { t.Helper(); return unwatched(t, d), "50ms" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t)
			hold := func(name, who string) *running {
				t.Helper()
				return begin(t, command(d.url, "lock", "--ttl", "20s", "--meta", "who="+who, name, "--", "sleep", "60"))
			}
			hold("w/other", "other")
			hold("elsewhere", "nobody")
			eventually(t, "they are held", func() bool { return strings.Count(must(t, d.url, "", "locks"), "exclusive") == 2 })
			u, interval := through(t, d)
			text := begin(t, command(u, "locks", "w/", "--watch", "--interval", interval))
			lines := begin(t, command(u, "locks", "w/", "--watch", "--interval", interval, "--json"))
			both := func(what, inText, inJSON string) {
				t.Helper()
				eventually(t, what, func() bool {
					return strings.Contains(text.out.String(), inText) && strings.Contains(lines.out.String(), inJSON)
				})
			}
			both("all locks", " w/other held mode=exclusive waiting=0 holder=", `{"name":"w/other",`)
			k := hold("w/k", "me")
			both("a holder", " who=me\n", `"who":"me"`)
			waiter := hold("w/k", "you")
			both("a waiter", " w/k held mode=exclusive waiting=1 holder=", `"waiting":1`)
			d.kill()
			eventually(t, "it says that the daemon is away", func() bool {
				return strings.Contains(text.err.String(), "cannot be shown now") && strings.Contains(lines.err.String(), "cannot be shown now")
			})
			d.start()
			k.signal(syscall.SIGTERM)
			both("the next holder", " who=you\n", `"who":"you"`)
			waiter.signal(syscall.SIGTERM)
			both("the end of a lock", " w/k free\n", `{"name":"w/k","free":true}`)
			for _, p := range []*running{text, lines} {
				p.signal(syscall.SIGINT)
				r := p.wait()
				if r.status != 0 {
					t.Errorf("status %d: %s", r.status, r.err)
				}
				if n := strings.Count(r.out, "w/other"); n != 1 || strings.Contains(r.out, "elsewhere") {
					t.Errorf("a lock that did not change is in %d lines, want 1, and no other is there:\n%s", n, r.out)
				}
			}
		})
	}
}
