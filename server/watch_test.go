package server

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/wire"
)

// A watch is a stream of events that a person with curl can read. It ends when
// the daemon drains, and counts as one that waits.
func TestWatchStream(t *testing.T) {
	d := start(t, func(c *Config) { c.MaxWaiters = 1 })
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"me","ttl_ms":10000}`, &wire.AcquireReply{})
	resp, err := d.client.Get(d.url + "/v1/locks/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if media := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || media != "text/event-stream" {
		t.Fatalf("%s with %q", resp.Status, media)
	}
	lines := bufio.NewScanner(resp.Body)
	expect := func(kind, part string) {
		t.Helper()
		var event []string
		for lines.Scan() && lines.Text() != "" {
			event = append(event, lines.Text())
		}
		if len(event) != 2 || event[0] != "event: "+kind || !strings.HasPrefix(event[1], "data: ") || !strings.Contains(event[1], part) {
			t.Fatalf("got %q; want %s with %s", event, kind, part)
		}
	}
	expect("reset", "{}")
	expect("state", `"holder":"me"`)
	expect("synced", "{}")
	d.ok("POST", "/v1/locks/cancel", `{"name":"a","holder":"me"}`, nil)
	expect("gone", `{"name":"a"}`)
	d.refuses("GET", "/v1/locks/watch?name=a", "", "limit", "")
	d.refuses("GET", "/v1/locks/watch?name=a&prefix=b", "", "invalid", "name")
	d.server.startEnd()
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "event:") {
			t.Errorf("%s at the end", lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream is cut off: %v", err)
	}
}
