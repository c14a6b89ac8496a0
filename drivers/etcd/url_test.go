package etcd

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
		"etcd://h":                                {addrs: []string{"h:2379"}},
		"etcd://a:1,b,[::1]:2,[::2]":              {addrs: []string{"a:1", "b:2379", "[::1]:2", "[::2]:2379"}},
		"etcd://h/":                               {addrs: []string{"h:2379"}},
		"etcd://h/shop":                           {addrs: []string{"h:2379"}, options: Options{Prefix: "shop/"}},
		"etcd://h/shop/locks/":                    {addrs: []string{"h:2379"}, options: Options{Prefix: "shop/locks/"}},
		"etcd://u:p%40@h":                         {addrs: []string{"h:2379"}, user: "u", password: "p@"},
		"etcd://u@h?password_file=" + secret:      {addrs: []string{"h:2379"}, user: "u", password: "from file"},
		"etcd://h?timeout=1s&session=9s":          {addrs: []string{"h:2379"}, options: Options{Timeout: time.Second, Session: 9 * time.Second}},
		"etcd://h?token_base=9223372036854775808": {addrs: []string{"h:2379"}, options: Options{TokenBase: MaxTokenBase}},
	} {
		got, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if !slices.Equal(got.addrs, want.addrs) || got.user != want.user || got.password != want.password || got.options != want.options || got.tls != nil {
			t.Errorf("%s: %+v; want %+v", url, *got, want)
		}
	}
	if got, err := parseURL("etcds://h"); err != nil || got.tls == nil || got.config().Endpoints[0] != "https://h:2379" {
		t.Errorf("etcds://h: %+v, %v; want TLS", got, err)
	}
}

// TestBadURLs: the error names the field.
func TestBadURLs(t *testing.T) {
	for url, field := range map[string]string{
		"etcd:":                                   "url",
		"other://h":                               "url",
		"etcd://":                                 "url",
		"etcd://a,,b":                             "url",
		"etcd://h:0":                              "url",
		"etcd://h:65536":                          "url",
		"etcd://h:x":                              "url",
		"etcd://h#f":                              "url",
		"etcd://%zz@h":                            "url",
		"etcd://h?%zz":                            "url",
		"etcd://u@h":                              "url",
		"etcd://:p@h":                             "url",
		"etcd://h/%00":                            "url",
		"etcd://h?nonsense=1":                     "nonsense",
		"etcd://h?ca_file=/x":                     "ca_file",
		"etcds://h?ca_file=/does/not/exist":       "ca_file",
		"etcds://h?cert_file=/x":                  "key_file",
		"etcds://h?key_file=/x":                   "cert_file",
		"etcds://h?cert_file=/x&key_file=/x":      "cert_file",
		"etcd://h?password_file=/not/there":       "password_file",
		"etcd://h?timeout=1s&timeout=2s":          "timeout",
		"etcd://h?timeout=9ms":                    "timeout",
		"etcd://h?timeout=61s":                    "timeout",
		"etcd://h?session=1s":                     "session",
		"etcd://h?session=61s":                    "session",
		"etcd://h?session=2500ms":                 "session",
		"etcd://h?token_base=9223372036854775809": "token_base",
		"etcd://h?token_base=-1":                  "token_base",
	} {
		_, err := parseURL(url)
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v; want an error about %s", url, err, field)
		}
	}
	for field, o := range map[string]*Options{
		"prefix":     {Prefix: "a\n"},
		"timeout":    {Timeout: time.Hour},
		"session":    {Session: time.Millisecond},
		"token_base": {TokenBase: MaxTokenBase + 1},
	} {
		_, err := o.withDefaults()
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%+v: %v; want an error about %s", o, err, field)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"etcd://h", "etcds://u:p@a,b:1/m?session=3s", "etcd://[::1]:1,b", "etcd://@@"} {
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

// FuzzDecode: records and keys that anybody may have written do not bring the
// driver down.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("h\x00{\"id\":\"i\",\"ttl\":2000000000,\"seconds\":2}"), []byte("lockkeeper/n\x00hx"))
	f.Add([]byte("h\x00~{\"delay\":1}"), []byte("lockkeeper/n\x00q0000000000000001h"))
	f.Add([]byte(""), []byte("lockkeeper/n\x00q"))
	c := &conn{prefix: DefaultPrefix}
	f.Fuzz(func(t *testing.T, value, key []byte) {
		if g, err := decodeGrant(value); err == nil && g.permits() < 1 {
			t.Errorf("%q: %+v", value, g)
		}
		if w, err := decodeWaiter(value); err == nil && w.permits() < 1 {
			t.Errorf("%q: %+v", value, w)
		}
		if k, ok := c.parseKey(key); ok && k.name == "" {
			t.Errorf("%q has no name", key)
		}
	})
}
