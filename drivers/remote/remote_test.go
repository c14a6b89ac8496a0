package remote

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/server"
)

const secret = "0123456789abcdef"

func TestURLs(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, field := range map[string]string{
		"http://127.0.0.1:1?colour=red":            "colour",
		"http://127.0.0.1:1?timeout=10":            "timeout",
		"http://127.0.0.1:1?poll=-1s":              "poll",
		"http://127.0.0.1:1?poll=1s&poll=2s":       "poll",
		"http://user:pass@127.0.0.1:1":             "url",
		"http://127.0.0.1:1#x":                     "url",
		"http://127.0.0.1:1?%zz":                   "url",
		"http://":                                  "url",
		"http://127.0.0.1:1?token_file=" + empty:   "token_file",
		"http://127.0.0.1:1?token_file=/nowhere/t": "token_file",
		"https://127.0.0.1:1?ca_file=" + empty:     "ca_file",
	} {
		_, err := Open(t.Context(), url)
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v, want an error about %s", url, err, field)
		}
	}
}

func TestOpenFailsClearly(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + ln.Addr().String()
	ln.Close()
	if _, err := Open(t.Context(), nobody); !errors.Is(err, lease.ErrUnavailable) || !strings.Contains(err.Error(), nobody) {
		t.Errorf("nobody there: %v", err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"html": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"json": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
		"proxy": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
	} {
		other := httptest.NewServer(answer)
		if _, err := Open(t.Context(), other.URL); !errors.Is(err, lease.ErrUnavailable) || !strings.Contains(err.Error(), "not a lockkeeper") {
			t.Errorf("%s: %v", name, err)
		}
		other.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, nobody); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTokens(t *testing.T) {
	url := startDaemon(t, func(c *server.Config) { c.Tokens = []string{secret} })
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("# ours\n"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), url); !errors.Is(err, lease.ErrDenied) {
		t.Errorf("no token: %v", err)
	}
	if _, err := Open(t.Context(), url+"?token_file="+path); err != nil {
		t.Errorf("by file: %v", err)
	}
	t.Setenv(TokenEnv, secret)
	if _, err := Open(t.Context(), url); err != nil {
		t.Errorf("by environment: %v", err)
	}
	t.Setenv(TokenEnv, secret+"x")
	if _, err := Open(t.Context(), url); !errors.Is(err, lease.ErrDenied) {
		t.Errorf("wrong token: %v", err)
	}
}

func TestTLS(t *testing.T) {
	// httptest has a certificate for 127.0.0.1.
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	url := startDaemon(t, func(c *server.Config) { c.TLS = cert.TLS.Clone() })
	if _, err := Open(t.Context(), url); !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("an unknown authority: %v", err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := openLocks(t.Context(), url+"?ca_file="+path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Acquire(t.Context(), &lockdriver.Request{Name: "a", Holder: "h", TTL: time.Second}); err != nil {
		t.Error(err)
	}
}

// breaking stands between a client and a daemon; once broken it carries
// requests out and drops the answers.
type breaking struct {
	next   http.RoundTripper
	broken atomic.Bool
}

func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil && b.broken.Load() {
		resp.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return resp, err
}

func TestLostAnswers(t *testing.T) {
	url := startDaemon(t, nil)
	line := &breaking{next: newTransport(nil)}
	client, err := New(t.Context(), url, &Options{HTTP: &http.Client{Transport: line}, Session: SessionOff})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Locks()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := &lockdriver.Request{Name: "a", Holder: "h", ID: "1", TTL: time.Minute}
	line.broken.Store(true)
	if _, _, err := c.Acquire(t.Context(), r); !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("a lost grant: %v", err)
	}
	if _, err := c.List(t.Context(), &lockdriver.ListRequest{}); !errors.Is(err, lease.ErrUnavailable) || errors.Is(err, lease.ErrUnknown) {
		t.Errorf("a lost list: %v", err)
	}
	line.broken.Store(false)
	first, _, err := c.Acquire(t.Context(), r)
	if err != nil {
		t.Fatalf("the repeat: %v", err)
	}
	line.broken.Store(true)
	if _, err := c.Release(t.Context(), []lockdriver.Ref{{Name: "a", Holder: "h", Token: first.Token}}); !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("a lost release: %v", err)
	}
	line.broken.Store(false)
	out, err := c.Release(t.Context(), []lockdriver.Ref{{Name: "a", Holder: "h", Token: first.Token}})
	if err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
		t.Errorf("the release was not carried out: %v, %v", out, err)
	}
}

func TestSilentDaemon(t *testing.T) {
	silent, release := make(chan struct{}, 8), make(chan struct{})
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/capabilities" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"service":"lockkeeper","locks":{"max_ttl_ms":60000},"queues":{}}`)
			return
		}
		silent <- struct{}{}
		<-release
	}))
	defer daemon.Close()
	defer close(release)
	client, err := New(t.Context(), daemon.URL, &Options{Timeout: 100 * time.Millisecond, Session: SessionOff})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Locks()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Cancel(t.Context(), &lockdriver.Request{Name: "a", Holder: "h"}); !errors.Is(err, lease.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past the timeout: %v", err)
	}
	<-silent
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-silent; cancel() }()
	if err := c.Cancel(ctx, &lockdriver.Request{Name: "a", Holder: "h"}); !errors.Is(err, lease.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled on the way: %v", err)
	}
	if err := c.Cancel(ctx, &lockdriver.Request{Name: "a", Holder: "h"}); !errors.Is(err, lease.ErrUnavailable) || errors.Is(err, lease.ErrUnknown) {
		t.Errorf("cancelled before: %v", err)
	}
	failed := make(chan error, 1)
	long, err := New(t.Context(), daemon.URL, &Options{Session: SessionOff})
	if err != nil {
		t.Fatal(err)
	}
	d, err := long.Locks()
	if err != nil {
		t.Fatal(err)
	}
	go func() { failed <- d.Cancel(context.Background(), &lockdriver.Request{Name: "a", Holder: "h"}) }()
	<-silent
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-failed; !errors.Is(err, lease.ErrClosed) {
		t.Errorf("under way at Close: %v", err)
	}
	if err := d.Cancel(t.Context(), &lockdriver.Request{Name: "a", Holder: "h"}); !errors.Is(err, lease.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	c.Close()
}

// TestAbandonedReceive ends receives at the moment when a message is
// published: it must never be stuck with a receiver that has left.
func TestAbandonedReceive(t *testing.T) {
	url := startDaemon(t, nil)
	c, err := openQueues(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Declare(t.Context(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", Lease: time.Hour}}}, false); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan []queuedriver.Delivery, 1)
		go func() {
			ds, _ := c.Receive(ctx, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1, Wait: time.Minute})
			got <- ds
		}()
		published := make(chan error, 1)
		go func() {
			_, err := c.Publish(context.Background(), []queuedriver.Publishing{{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{Body: []byte{byte(i)}}}})
			published <- err
		}()
		if i%2 == 0 {
			if err := <-published; err != nil {
				t.Fatal(err)
			}
			cancel()
		} else {
			cancel()
			if err := <-published; err != nil {
				t.Fatal(err)
			}
		}
		ds := <-got
		if len(ds) == 0 {
			ds, err = c.Receive(t.Context(), &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1, Wait: 20 * time.Second})
			if err != nil || len(ds) != 1 {
				t.Fatalf("round %d: the message is stuck: %v, %v", i, ds, err)
			}
		}
		if ds[0].Attempt != 1 {
			t.Errorf("round %d: the hand-back counted: attempt %d", i, ds[0].Attempt)
		}
		if out, err := c.Settle(t.Context(), []queuedriver.Settlement{{Ref: ds[0].Ref, Verb: queuedriver.Ack}}); err != nil || out[0].Err != nil {
			t.Fatalf("round %d: %v, %v", i, out, err)
		}
	}
}

func TestLargeBatches(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) { largeBatch(t, startDaemon(t, nil)+"?timeout=1m&"+way) })
	}
}

// largeBatch publishes the largest batch, and receives it in as many answers
// as it takes.
func largeBatch(t *testing.T, url string) {
	t.Helper()
	c, err := openQueues(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Declare(t.Context(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}}, false); err != nil {
		t.Fatal(err)
	}
	body := []byte(strings.Repeat("\x00", queuedriver.MaxBody))
	ps := make([]queuedriver.Publishing, 4)
	for i := range ps {
		ps[i] = queuedriver.Publishing{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{Body: body}}
	}
	parts, err := splitBatch(ps)
	if err != nil || len(parts) < 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	if _, err := splitBatch(slices.Concat(ps, ps[:1])); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("bodies past the limit: %v", err)
	}
	receipts, err := c.Publish(t.Context(), ps)
	if err != nil || len(receipts) != len(ps) {
		t.Fatal(len(receipts), err)
	}
	for i := range receipts {
		if receipts[i].Err != nil {
			t.Fatalf("message %d: %v", i, receipts[i].Err)
		}
	}
	for got := 0; got < len(ps); {
		ds, err := c.Receive(t.Context(), &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 10})
		if err != nil || len(ds) == 0 || len(ds[0].Message.Body) != len(body) {
			t.Fatalf("%d deliveries behind %d, %v", len(ds), got, err)
		}
		got += len(ds)
	}
}

func TestOneFaceOnly(t *testing.T) {
	url := startDaemon(t, func(c *server.Config) { c.Locks = nil })
	if _, err := openLocks(t.Context(), url); !errors.Is(err, lease.ErrUnsupported) {
		t.Errorf("locks of a daemon that has none: %v", err)
	}
}
