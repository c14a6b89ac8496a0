package urlpart_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/urlpart"
	"github.com/lockkeeper/lockkeeper/lease"
)

func invalid(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("%s: error %v, want one that matches %q", what, err, lease.ErrInvalid)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	got, err := urlpart.Hosts("a,b:2,[::1],[::1]:4,::1", "1", 5)
	if want := []string{"a:1", "b:2", "[::1]:1", "[::1]:4", "[::1]:1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "a,", ",a", "a:0", "a:65536", "a:x", "a b", ":1", "a,b,c,d,e,f"} {
		_, err := urlpart.Hosts(bad, "1", 5)
		invalid(t, bad, err)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"1s", "1m"} {
		if _, err := urlpart.Duration("d", s, time.Second, time.Minute); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "5", "999ms", "1m1ns", "-1s"} {
		_, err := urlpart.Duration("d", s, time.Second, time.Minute)
		invalid(t, s, err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	if n, err := urlpart.Token("t", "10", 10); err != nil || n != 10 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, s := range []string{"", "11", "-1", "x", "18446744073709551616"} {
		_, err := urlpart.Token("t", s, 10)
		invalid(t, s, err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if p, err := urlpart.Password("p", file("secret\r\nmore\n")); err != nil || p != "secret" {
		t.Errorf("got %q, %v", p, err)
	}
	_, err := urlpart.Password("p", file("\nsecret"))
	invalid(t, "an empty line", err)
	_, err = urlpart.Password("p", filepath.Join(dir, "none"))
	invalid(t, "no file", err)
	if !strings.Contains(err.Error(), "p") {
		t.Errorf("%v does not name the parameter", err)
	}
	_, err = urlpart.Authorities("ca_file", file("nothing"))
	invalid(t, "no certificate", err)
	_, err = urlpart.Authorities("ca_file", filepath.Join(dir, "none"))
	invalid(t, "no file of certificates", err)
}
