package rabbitmq

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

func TestURL(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]*target{
		"amqp://h":                             {addrs: []string{"h:5672"}, vhost: "/", user: "guest", password: "guest"},
		"amqp://h/":                            {addrs: []string{"h:5672"}, vhost: "/", user: "guest", password: "guest"},
		"amqps://h":                            {addrs: []string{"h:5671"}, vhost: "/", user: "guest", password: "guest"},
		"amqp://u:p%2Fw@a,b:1,[::1]/shop":      {addrs: []string{"a:5672", "b:1", "[::1]:5672"}, vhost: "shop", user: "u", password: "p/w"},
		"amqp://u:p@a/%2Fshop":                 {addrs: []string{"a:5672"}, vhost: "/shop", user: "u", password: "p"},
		"amqp://u@a?password_file=" + secret:   {addrs: []string{"a:5672"}, vhost: "/", user: "u", password: "from file"},
		"amqp://a?heartbeat=10s&timeout=1s":    {addrs: []string{"a:5672"}, vhost: "/", user: "guest", password: "guest", heartbeat: 10 * time.Second, options: Options{Timeout: time.Second}},
		"amqp://a?queue_type=classic&prefix=x": {addrs: []string{"a:5672"}, vhost: "/", user: "guest", password: "guest", options: Options{QueueType: Classic, Prefix: "x"}},
		"amqp://a?publish_for=1m":              {addrs: []string{"a:5672"}, vhost: "/", user: "guest", password: "guest", options: Options{PublishFor: time.Minute}},
	} {
		got, err := parseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if want.heartbeat == 0 {
			want.heartbeat = defaultHeartbeat
		}
		if secure := strings.HasPrefix(raw, "amqps"); secure != (got.tls != nil) {
			t.Errorf("%s: TLS %v", raw, got.tls)
		}
		got.tls = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", raw, got)
		}
	}
}

func TestBadURL(t *testing.T) {
	for raw, field := range map[string]string{
		"amqp:h":                                   "url",
		"redis://h":                                "url",
		"amqp://":                                  "url",
		"amqp://h:0":                               "url",
		"amqp://h:70000":                           "url",
		"amqp://h/a/b":                             "url",
		"amqp://h#f":                               "url",
		"amqp://h?x=1":                             "x",
		"amqp://h?ca_file=x":                       "ca_file",
		"amqps://h?ca_file=/nowhere":               "ca_file",
		"amqp://h?timeout=1ms":                     "timeout",
		"amqp://h?timeout=1s&timeout=2s":           "timeout",
		"amqp://h?heartbeat=0s":                    "heartbeat",
		"amqp://h?publish_for=2h":                  "publish_for",
		"amqp://h?queue_type=stream":               "queue_type",
		"amqp://h?prefix=":                         "prefix",
		"amqp://h?password_file=/no":               "password_file",
		"amqp://" + strings.Repeat("h,", 32) + "h": "url",
	} {
		_, err := parseURL(raw)
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v, want an error about %s", raw, err, field)
		}
	}
}

// TestNoLocks: RabbitMQ has queues only.
func TestNoLocks(t *testing.T) {
	if _, err := lock.Open(t.Context(), "amqp://h"); !errors.Is(err, lease.ErrInvalid) || !strings.Contains(err.Error(), `"amqp"`) {
		t.Errorf("locks at an amqp URL: %v", err)
	}
}

// TestLevel: a delay is never cut, and lengthened by a quarter at most.
func TestLevel(t *testing.T) {
	seen := map[int64]bool{}
	for d := time.Duration(1); d <= MaxDelay; d += d/97 + 1 {
		ms := level(d)
		got := time.Duration(ms) * time.Millisecond
		if got < d || d > 4*time.Millisecond && got > d+d/4+time.Millisecond {
			t.Fatalf("a delay of %v becomes %v", d, got)
		}
		seen[ms] = true
	}
	if len(seen) > 4*32 {
		t.Errorf("there are %d levels", len(seen))
	}
}

// TestServerVersion: what a server can do is decided by what it says it is.
func TestServerVersion(t *testing.T) {
	for text, free := range map[string]bool{"3.10.8": false, "4.2.9": false, "4.3.0": true, "4.10.1": true, "5.0.0-rc.1": true} {
		caps, err := capabilities(map[string]any{"product": "RabbitMQ", "version": text}, Quorum)
		if err != nil || caps.FreeRelease != free {
			t.Errorf("%s: %v, free release %v", text, err, caps.FreeRelease)
		}
	}
	for product, text := range map[string]string{"RabbitMQ": "3.9.29", "Qpid": "9.0.0", "": "", "rabbitmq": "x"} {
		if _, err := capabilities(map[string]any{"product": product, "version": text}, Quorum); !errors.Is(err, lease.ErrUnsupported) {
			t.Errorf("%s %s: %v", product, text, err)
		}
	}
}
