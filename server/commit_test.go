package server

import (
	"context"
	"fmt"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/internal/wire"
)

func tourOfCommits(t *testing.T, d *daemon) {
	t.Helper()
	d.declare("in", "out")
	d.ok("POST", "/v1/publish?key=in", "job", &wire.Receipt{}, "Content-Type", "text/plain")
	var got wire.ReceiveReply
	d.ok("POST", "/v1/receive", `{"queue":"in","wait_ms":1000}`, &got)
	var g wire.AcquireReply
	d.ok("POST", "/v1/locks/acquire", `{"name":"row","holder":"me","ttl_ms":10000}`, &g)

	commit := func(id, key, more string) string {
		return fmt.Sprintf(`{"id":%q,"settle":[{"delivery":%q}],"publish":[{"key":%q,"body":"done"}],
			"release":[{"name":"row","holder":"me","token":%q}]%s}`, id, got.Deliveries[0].Delivery, key, g.Token, more)
	}
	p := d.refused("POST", "/v1/commit", commit("1", "nowhere", ""), "unroutable", "")
	if p.Part != "publish" || p.Index != 0 {
		t.Errorf("what cannot be published is refused with %+v", p)
	}
	d.refuses("POST", "/v1/commit", commit("1", "out", `,"result_for_ms":1`), "invalid", "result_for_ms")
	d.refuses("POST", "/v1/commit", `{"settle":[{"delivery":"x"}]}`, "invalid", "settle[0].delivery")
	d.refuses("POST", "/v1/commit", `{"publish":[{"key":"out"},{"key":"out","priority":10}]}`, "invalid", "publish[1].priority")
	d.refuses("GET", "/v1/commit?id=1", "", "not_found", "")
	for _, repeated := range []bool{false, true} {
		var out wire.CommitReply
		d.ok("POST", "/v1/commit", commit("1", "out", `,"result":"paid","result_for_ms":60000`), &out)
		if out.Repeated != repeated || len(out.Settled) != 1 || len(out.Receipts) != 1 || out.Receipts[0].Queues != 1 || *out.Result != "paid" {
			t.Errorf("committed %+v", out)
		}
	}
	p = d.refused("POST", "/v1/commit", commit("1", "in", ""), "conflict", "")
	if p.Part != "id" {
		t.Errorf("an id with another content is refused with %+v", p)
	}
	p = d.refused("POST", "/v1/commit", commit("2", "out", ""), "not_held", "")
	if p.Part != "release" {
		t.Errorf("a lock that is not held is refused with %+v", p)
	}
	var out wire.CommitReply
	d.ok("GET", "/v1/commit?id=1", "", &out)
	if !out.Repeated || *out.Result != "paid" {
		t.Errorf("recorded %+v", out)
	}
}

// Locks and queues of two stores are no place for a commit over both.
func TestCommitOverTwoStores(t *testing.T) {
	other, err := engine.Open(context.Background(), "mem://", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	for name, change := range map[string]func(*Config){
		"two stores": func(c *Config) { c.Locks = other.Locks() },
		"no locks":   func(c *Config) { c.Locks = nil },
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, change)
			d.declare("q")
			d.refuses("POST", "/v1/commit", `{"publish":[{"key":"q"}],"require":[{"name":"a","holder":"me","token":"1"}]}`, "unsupported", "")
			d.ok("POST", "/v1/commit", `{"publish":[{"key":"q"}]}`, &wire.CommitReply{})
			var caps wire.Capabilities
			d.ok("GET", "/v1/capabilities", "", &caps)
			if !caps.Queues.Commit || caps.Queues.Store != "" || caps.Locks != nil && caps.Locks.Store != "" {
				t.Errorf("the capabilities promise commits over locks: %+v, %+v", caps.Queues, caps.Locks)
			}
		})
	}
}
