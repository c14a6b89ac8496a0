package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestServeEndsGracefully(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q")
	waiting := begin(t, command(d.url, "consume", "q"))
	eventually(t, "the consumer waits", func() bool {
		return strings.Contains(must(t, d.url, "", "queues", "--json"), `"consumers":1`)
	})
	d.p.signal(syscall.SIGTERM)
	if r := d.p.wait(); r.status != 0 {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	// Who waits comes back by itself.
	d.start()
	must(t, d.url, "", "publish", "", "q", "after a restart")
	eventually(t, "the consumer gets it", func() bool { return waiting.out.String() == "after a restart\n" })
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	port := strings.TrimPrefix(d.url, "http://")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"port taken", []string{"--data", "mem", "--listen", port}, 1, "is taken"},
		{"directory taken", []string{"--data", d.data, "--listen", "127.0.0.1:0"}, 1, "cannot open the store"},
		{"open to the world", []string{"--data", "mem", "--listen", "0.0.0.0:0"}, 2, "--token-file"},
		{"no token", []string{"--data", "mem", "--listen", "127.0.0.1:0", "--token-file", empty}, 1, "no token"},
		{"half of TLS", []string{"--data", "mem", "--tls-cert", "c.pem"}, 2, "--tls-key"},
		{"another database", []string{"--data", "redis://localhost"}, 2, "--data must be"},
		{"argument", []string{"now"}, 2, "does not know"},
	} {
		r := run(t, "", "", append([]string{"serve"}, tt.args...)...)
		if r.status != tt.status || !strings.Contains(r.err, tt.want) {
			t.Errorf("%s: status %d, %q; want %d and %q", tt.name, r.status, r.err, tt.status, tt.want)
		}
	}
}

func TestServeWithTokens(t *testing.T) {
	t.Parallel()
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("# ours\nabcdefghijklmnop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "--token-file", tokens)
	if r := run(t, d.url, "", "locks"); r.status != 1 || !strings.Contains(r.err, "token_file") {
		t.Errorf("without a token: status %d, %q", r.status, r.err)
	}
	must(t, d.url+"?token_file="+tokens, "", "locks")
	must(t, d.url+"?token_file="+tokens, "", "doctor")
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	out := must(t, "", "", "doctor", d.url)
	for _, want := range []string{"daemon", "round trip", "fencing tokens", "on a lost node", "confirms are synced", "clock"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if out := must(t, "", "", "doctor", "mem://"); !strings.Contains(out, "--data DIR") {
		t.Errorf("no advice about memory:\n%s", out)
	}
	if r := run(t, "", "", "doctor", "http://127.0.0.1:1"); r.status != 1 || !strings.Contains(r.err, "lockkeeper serve") {
		t.Errorf("nobody there: status %d, %q", r.status, r.err)
	}
}

func TestHelpVersionAndCompletion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"lock", "--help"}, {"version"}, {"completion", "bash"}, {"completion", "zsh"}} {
		if out := must(t, "", "", args...); !strings.Contains(out, "lockkeeper") {
			t.Errorf("%v: %q", args, out)
		}
	}
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "payments")
	if out := must(t, d.url, "", "__complete", "consume", "pay"); !strings.HasPrefix(out, "payments\n") {
		t.Errorf("completion of a queue: %q", out)
	}
	for _, args := range [][]string{{"lokc"}, {"declare"}, {"declare", "kueue"}, {"queues", "a", "b"}} {
		if r := run(t, d.url, "", args...); r.status != 2 || !strings.Contains(r.err, "--help") {
			t.Errorf("%v: status %d, %q", args, r.status, r.err)
		}
	}
	if r := run(t, d.url, "", "lokc"); !strings.Contains(r.err, "did you mean lock") {
		t.Errorf("no suggestion: %q", r.err)
	}
}

// The words of the greeting are for people; what it names must be there.
func TestServeGreeting(t *testing.T) {
	t.Parallel()
	cmd := command("", "serve", "--data", filepath.Join(t.TempDir(), "deep", "er"), "--listen", "127.0.0.1:0")
	p := begin(t, cmd)
	eventually(t, "it greets", func() bool { return strings.Contains(p.out.String(), "Ctrl-C ends it") })
	_, rest, _ := strings.Cut(p.out.String(), "Interface: ")
	u, _, _ := strings.Cut(rest, " ")
	resp, err := http.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", u, resp.Status)
	}
	p.signal(syscall.SIGINT)
	if r := p.wait(); r.status != 0 {
		t.Errorf("status %d: %s", r.status, r.err)
	}
}
