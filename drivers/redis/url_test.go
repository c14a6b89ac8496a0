package redis

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

func TestURLs(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]target{
		"redis://h":                              {addrs: []string{"h:6379"}},
		"redis://h:1/7":                          {addrs: []string{"h:1"}, db: 7},
		"redis://[::1]":                          {addrs: []string{"[::1]:6379"}},
		"redis://[::1]:7/":                       {addrs: []string{"[::1]:7"}},
		"redis://u:p%40@h":                       {addrs: []string{"h:6379"}, user: "u", password: "p@"},
		"redis://:p@h":                           {addrs: []string{"h:6379"}, password: "p"},
		"unix:///run/r.sock":                     {addrs: []string{"/run/r.sock"}},
		"unix:///r.sock?db=3":                    {addrs: []string{"/r.sock"}, db: 3},
		"redis+cluster://a:1,b":                  {addrs: []string{"a:1", "b:6379"}},
		"redis+sentinel://a,b/m":                 {addrs: []string{"a:26379", "b:26379"}, master: "m"},
		"redis+sentinel://a:1,b:2/m/4?tls=false": {addrs: []string{"a:1", "b:2"}, master: "m", db: 4},
		"redis://u@h?password_file=" + secret:    {addrs: []string{"h:6379"}, user: "u", password: "from file"},
		"redis://h?timeout=1s&fence_keep=1m":     {addrs: []string{"h:6379"}, options: Options{Timeout: time.Second, FenceKeep: time.Minute}},
		"redis://h?prefix=x:&token_base=5":       {addrs: []string{"h:6379"}, options: Options{Prefix: "x:", TokenBase: 5}},
		"redis://h?wait_replicas=16&token_base=9223372036854775808": {addrs: []string{"h:6379"}, options: Options{WaitReplicas: 16, TokenBase: MaxTokenBase}},
	} {
		got, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if !slices.Equal(got.addrs, want.addrs) || got.master != want.master || got.db != want.db || got.user != want.user ||
			got.password != want.password || got.options != want.options || got.tls != nil {
			t.Errorf("%s: %+v; want %+v", url, *got, want)
		}
	}
	for _, url := range []string{"rediss://h", "redis+cluster://h?tls=true"} {
		if got, err := parseURL(url); err != nil || got.tls == nil {
			t.Errorf("%s: %+v, %v; want TLS", url, got, err)
		}
	}
}

// TestBadURLs: the error names the field.
func TestBadURLs(t *testing.T) {
	for url, field := range map[string]string{
		"redis:":                                   "url",
		"other://h":                                "url",
		"redis://":                                 "url",
		"redis://a,b":                              "url",
		"redis://h:0":                              "url",
		"redis://h:65536":                          "url",
		"redis://h:x":                              "url",
		"redis://h/x":                              "url",
		"redis://h/-1":                             "url",
		"redis://h/1/2":                            "url",
		"redis://h#f":                              "url",
		"redis://%zz@h":                            "url",
		"redis://h?%zz":                            "url",
		"unix://h/p":                               "url",
		"unix://":                                  "url",
		"redis+cluster://h/1":                      "url",
		"redis+cluster://a,,b":                     "url",
		"redis+sentinel://h":                       "url",
		"redis+sentinel://h/m/x":                   "url",
		"redis+sentinel://h/m/1/2":                 "url",
		"redis://h?nonsense=1":                     "nonsense",
		"redis://h?tls=true":                       "tls",
		"redis://h?db=1":                           "db",
		"redis+cluster://h?tls=yes":                "tls",
		"redis+cluster://h?ca_file=/x":             "ca_file",
		"rediss://h?ca_file=/does/not/exist":       "ca_file",
		"redis://h?password_file=/not/there":       "password_file",
		"redis://h?sentinel_password_file=/x":      "sentinel_password_file",
		"redis://h?timeout=1s&timeout=2s":          "timeout",
		"redis://h?timeout=9ms":                    "timeout",
		"redis://h?timeout=61s":                    "timeout",
		"redis://h?timeout=1":                      "timeout",
		"redis://h?fence_keep=999ms":               "fence_keep",
		"redis://h?fence_keep=721h":                "fence_keep",
		"redis://h?prefix=":                        "prefix",
		"redis://h?wait_replicas=-1":               "wait_replicas",
		"redis://h?wait_replicas=17":               "wait_replicas",
		"redis://h?token_base=9223372036854775809": "token_base",
		"redis://h?token_base=-1":                  "token_base",
	} {
		_, err := parseURL(url)
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v; want an error about %s", url, err, field)
		}
	}
	for field, o := range map[string]*Options{
		"prefix":        {Prefix: "a{b"},
		"fence_keep":    {FenceKeep: time.Millisecond},
		"timeout":       {Timeout: time.Hour},
		"wait_replicas": {WaitReplicas: MaxWaitReplicas + 1},
		"token_base":    {TokenBase: MaxTokenBase + 1},
	} {
		_, err := o.withDefaults()
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%+v: %v; want an error about %s", o, err, field)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"redis://h", "unix:///p?db=1", "redis+sentinel://u:p@a,b:1/m/2?tls=true", "redis+cluster://[::1]:1,b", "redis://@@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseURL(s)
		switch {
		case err != nil && !errors.Is(err, lease.ErrInvalid):
			t.Errorf("%q: %v is not about the URL", s, err)
		case err == nil && len(got.addrs) == 0:
			t.Errorf("%q names no host", s)
		}
	})
}
