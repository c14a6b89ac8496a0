package zookeeper

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		"zk://h":                                         {addrs: []string{"h:2181"}},
		"zk://a:1,b,[::1]/x/y":                           {addrs: []string{"a:1", "b:2181", "[::1]:2181"}, options: Options{Root: "/x/y"}},
		"zk://u:p%40@h/":                                 {addrs: []string{"h:2181"}, options: Options{User: "u", Password: "p@"}},
		"zk://u@h?password_file=" + secret:               {addrs: []string{"h:2181"}, options: Options{User: "u", Password: "from file"}},
		"zk://h?session=3s&tick=1s&timeout=9s":           {addrs: []string{"h:2181"}, options: Options{Session: 3 * time.Second, Tick: time.Second, Timeout: 9 * time.Second}},
		"zk://h?acl=read&token_base=9223372036854775808": {addrs: []string{"h:2181"}, options: Options{ACL: ACLRead, TokenBase: MaxTokenBase}},
	} {
		got, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if !slices.Equal(got.addrs, want.addrs) || got.options != want.options {
			t.Errorf("%s: %+v; want %+v", url, *got, want)
		}
	}
}

// TestBadURLs: the error names the field.
func TestBadURLs(t *testing.T) {
	for url, field := range map[string]string{
		"zk:":          "url",
		"redis://h":    "url",
		"zk://":        "url",
		"zk://h:0":     "url",
		"zk://h:65536": "url",
		"zk://a,,b":    "url",
		"zk://h#f":     "url",
		"zk://h?a=%zz": "url",
		"zk://:p@h":    "url",
		"zk://" + strings.Repeat("h,", maxHosts) + "h": "url",
		"zk://h?session=1s&session=2s":                 "session",
		"zk://h?session=999ms":                         "session",
		"zk://h?session=11m":                           "session",
		"zk://h?tick=9ms":                              "tick",
		"zk://h?timeout=9ms":                           "timeout",
		"zk://h?token_base=-1":                         "token_base",
		"zk://h?token_base=9223372036854775809":        "token_base",
		"zk://h?acl=":                                  "acl",
		"zk://h?acl=nobody":                            "acl",
		"zk://h?password_file=/does/not/exist":         "password_file",
		"zk://h?other=1":                               "other",
		"zk://h//x":                                    "root",
		"zk://h/x/":                                    "root",
		"zk://h/..":                                    "root",
		"zk://h/zookeeper":                             "root",
		"zk://h/" + strings.Repeat("r", MaxRoot):       "root",
	} {
		got, err := parseURL(url)
		if err == nil {
			_, err = got.options.withDefaults()
		}
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v; want an error about %s", url, err, field)
		}
	}
}
