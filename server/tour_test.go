package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/wire"
)

// TestTour uses every operation as a person with curl would. Each request and
// answer is held against the OpenAPI document on the way.
func TestTour(t *testing.T) {
	d := start(t, nil)
	tourOfLocks(t, d)
	tourOfQueues(t, d)
	tourOfCommits(t, d)
	tourOfStreams(t, d)
	tourOfSchedules(t, d)
	for _, path := range []string{"/v1/capabilities", "/openapi.json", "/metrics", "/healthz", "/readyz"} {
		d.ok("GET", path, "", jsonOf(path))
	}
	for _, r := range routes() {
		if !d.ops[r.op] && !r.upgrade && r.media != "text/event-stream" { // sessions and watches have tests of their own
			t.Errorf("the tour never succeeded with %s", r.op)
		}
	}
	for op := range d.ops {
		if !isRoute(op) {
			t.Errorf("%s is in the document and no route", op)
		}
	}
}

func isRoute(op string) bool {
	for _, r := range routes() {
		if r.op == op {
			return true
		}
	}
	return false
}

// jsonOf returns where to read an answer that is JSON.
func jsonOf(path string) any {
	if strings.HasSuffix(path, ".json") || strings.HasPrefix(path, "/v1") {
		return &map[string]any{}
	}
	return nil
}

func tourOfLocks(t *testing.T, d *daemon) {
	t.Helper()
	const form = "application/x-www-form-urlencoded" // what curl -d sends
	var g wire.AcquireReply
	d.ok("POST", "/v1/locks/acquire", `{"name":"rows/7%2F ü","holder":"me","ttl_ms":10000,"meta":{"who":"curl"}}`, &g)
	if g.Token == 0 || g.TTL != 10000 || g.Name != "rows/7%2F ü" || g.Waited > 1000 {
		t.Errorf("granted %+v", g)
	}
	// The same without a JSON type; the document knows only that one.
	req, _ := http.NewRequest("POST", d.url+"/v1/locks/acquire", strings.NewReader(`{"name":"b","holder":"me","ttl_ms":10000}`))
	req.Header.Set("Content-Type", form)
	resp, err := d.client.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("as curl -d: %v, %v", resp, err)
	}
	resp.Body.Close()

	d.refuses("POST", "/v1/locks/acquire", `{"name":"b","holder":"other","ttl_ms":10000}`, "held", "")
	d.refuses("POST", "/v1/locks/acquire", `{"name":"b","holder":"me","request_id":"2","ttl_ms":10000}`, "already_held", "")
	p := d.refused("POST", "/v1/locks/acquire", `{"name":"b","holder":"other","ttl_ms":10000,"wait_ms":20}`, "held", "")
	if p.Ticket == "" || p.Position != 1 {
		t.Errorf("a waiter gets %+v", p)
	}
	d.ok("POST", "/v1/locks/cancel", `{"name":"b","holder":"other"}`, nil)

	var locks wire.LocksReply
	d.ok("GET", "/v1/locks?prefix=rows%2F", "", &locks)
	if len(locks.Locks) != 1 || locks.Locks[0].Grants[0].Token != g.Token || locks.Locks[0].Grants[0].Meta["who"] != "curl" {
		t.Errorf("listed %+v", locks)
	}
	d.ok("GET", "/v1/locks?limit=1", "", &locks)
	if len(locks.Locks) != 1 || locks.Next != "b" {
		t.Errorf("the first page is %+v", locks)
	}
	locks = wire.LocksReply{}
	d.ok("GET", "/v1/locks?limit=1&after=b", "", &locks)
	if len(locks.Locks) != 1 || locks.Locks[0].Name != g.Name {
		t.Errorf("the second page is %+v", locks)
	}
	locks = wire.LocksReply{}
	d.ok("GET", "/v1/locks?name=nobody", "", &locks)
	if len(locks.Locks) != 0 {
		t.Errorf("nobody's lock is %+v", locks)
	}

	var all wire.AcquireReply
	d.ok("POST", "/v1/locks/acquire", `{"names":["z","y"],"holder":"both","ttl_ms":10000}`, &all)
	if len(all.Locks) != 2 || all.Locks[0].Name != "y" || all.Locks[1].Token == 0 || all.Token != 0 {
		t.Errorf("granted %+v", all)
	}
	d.refuses("POST", "/v1/locks/acquire", `{"names":["z","y"],"name":"x","holder":"both","ttl_ms":10000}`, "invalid", "names")
	d.ok("POST", "/v1/locks/cancel", `{"names":["y","z"],"holder":"both"}`, nil)
	d.ok("POST", "/v1/locks/value", fmt.Sprintf(`{"name":"rows/7%%2F ü","holder":"me","token":%q,"value":"aGk="}`, g.Token.String()), nil)
	d.ok("GET", "/v1/locks?prefix=rows", "", &locks)
	if len(locks.Locks) != 1 || string(locks.Locks[0].Grants[0].Value) != "hi" {
		t.Errorf("listed %+v", locks)
	}
	d.ok("POST", "/v1/locks/acquire", `{"name":"c","holder":"C","ttl_ms":10000}`, &all)
	d.refuses("POST", "/v1/locks/acquire", `{"name":"b","holder":"C","within":["me","C"],"wait_ms":10000,"ttl_ms":10000}`, "already_held", "")
	waited := make(chan string, 1)
	go func() {
		p := d.refused("POST", "/v1/locks/acquire", `{"name":"c","holder":"me","ttl_ms":10000,"wait_ms":10000}`, "closed", "")
		waited <- p.Code
	}()
	for locks.Locks[0].Waiting == 0 {
		d.ok("GET", "/v1/locks?name=c", "", &locks)
	}
	dead := d.refused("POST", "/v1/locks/acquire", `{"name":"b","holder":"C","ttl_ms":10000,"wait_ms":10000}`, "deadlock", "")
	if len(dead.Cycle) != 2 || dead.Cycle[0].Owner != "C" || dead.Cycle[0].Name != "b" || dead.Cycle[1].Owner != "me" {
		t.Errorf("the deadlock is %+v", dead.Cycle)
	}
	d.ok("POST", "/v1/locks/cancel", `{"name":"c","holder":"me"}`, nil)
	<-waited
	d.ok("POST", "/v1/locks/cancel", `{"name":"c","holder":"C"}`, nil)

	lease := fmt.Sprintf(`{"name":"rows/7%%2F ü","holder":"me","token":%q`, g.Token.String())
	var out wire.LeasesReply
	d.ok("POST", "/v1/locks/renew", lease+`,"ttl_ms":20000}`, &out)
	if len(out.Outcomes) != 1 || out.Outcomes[0].TTL != 20000 {
		t.Errorf("renewed %+v", out)
	}
	d.ok("POST", "/v1/locks/release", `{"leases":[`+lease+`},{"name":"b","holder":"me","token":"1"}]}`, &out)
	if out.Outcomes[0].Error != nil || out.Outcomes[1].Error == nil || out.Outcomes[1].Error.Code != "not_held" {
		t.Errorf("released %+v", out)
	}
	d.refuses("POST", "/v1/locks/release", lease+`}`, "not_held", "")
	d.refuses("POST", "/v1/locks/renew", lease+`,"ttl_ms":20000}`, "not_held", "")

	d.ok("POST", "/v1/locks/revoke", `{"name":"b","break":true}`, nil)
	d.refuses("POST", "/v1/locks/revoke", `{"name":"b"}`, "not_held", "")
	d.ok("POST", "/v1/locks/acquire", `{"name":"b","holder":"other","ttl_ms":10000}`, &g)
}

func tourOfQueues(t *testing.T, d *daemon) {
	t.Helper()
	topology := `{
		"exchanges":[{"name":"orders","kind":"topic"}],
		"queues":[{"name":"pay","dead_letter":{"key":"dead"},"delivery_limit":3,"dedup_window_ms":60000},{"name":"dead"}],
		"bindings":[{"exchange":"orders","queue":"pay","key":"order.*"}]}`
	var changed wire.TopologyReply
	d.ok("PUT", "/v1/topology?dry_run=true", topology, &changed)
	if len(changed.Changes) != 4 || !changed.DryRun {
		t.Errorf("would change %+v", changed)
	}
	d.ok("PUT", "/v1/topology", topology, &changed)
	d.ok("PUT", "/v1/topology", topology, &changed)
	if len(changed.Changes) != 0 {
		t.Errorf("a second time changed %+v", changed)
	}
	var all wire.Topology
	d.ok("GET", "/v1/topology", "", &all)
	if len(all.Queues) != 2 || len(all.Bindings) != 1 {
		t.Errorf("topology is %+v", all)
	}
	d.refuses("PUT", "/v1/topology", `{"exchanges":[{"name":"orders","kind":"fanout"}]}`, "conflict", "")

	var receipt wire.Receipt
	d.ok("POST", "/v1/publish?exchange=orders&key=order.new&id=1&ttl_ms=3600000&headers="+url.QueryEscape(`{"n":2,"f":2.0}`), "hello", &receipt,
		"Content-Type", "text/plain", "Lockkeeper-Header-Colour", "red", "Traceparent", "00-1-2-00")
	if receipt.Queues != 1 || receipt.Durability == "" {
		t.Errorf("receipt %+v", receipt)
	}
	receipt = wire.Receipt{}
	d.ok("POST", "/v1/publish?exchange=orders&key=order.new&id=1", "hello", &receipt, "Content-Type", "text/plain")
	if !receipt.Duplicate {
		t.Errorf("a repeat's receipt is %+v", receipt)
	}
	d.refuses("POST", "/v1/publish?key=nowhere", "x", "unroutable", "", "Content-Type", "text/plain")
	d.ok("POST", "/v1/publish?key=nowhere&mandatory=false", `{"json":"as it is"}`, nil)
	d.refuses("POST", "/v1/publish?exchange=nowhere&key=a", "x", "not_found", "", "Content-Type", "text/plain")

	var receipts wire.PublishReply
	d.ok("POST", "/v1/publish", `{"messages":[{"key":"pay","body":"two"},{"key":"pay","body_base64":"AP8="},{"key":"nowhere"}]}`, &receipts)
	if len(receipts.Receipts) != 3 || receipts.Receipts[2].Error == nil || receipts.Receipts[2].Error.Code != "unroutable" {
		t.Errorf("receipts %+v", receipts)
	}
	d.ok("POST", "/v1/publish", "{\"key\":\"pay\",\"body\":\"four\"}\n\n{\"key\":\"pay\",\"body\":\"five\"}\n", &receipts, "Content-Type", "application/x-ndjson")
	if len(receipts.Receipts) != 2 {
		t.Errorf("receipts of lines %+v", receipts)
	}

	var peeked wire.MessagesReply
	d.ok("GET", "/v1/messages?queue=pay&limit=2", "", &peeked)
	if len(peeked.Messages) != 2 || *peeked.Messages[0].Body != "hello" {
		t.Errorf("peeked %+v", peeked)
	}

	var got wire.ReceiveReply
	d.ok("POST", "/v1/receive", `{"queue":"pay","max":10}`, &got)
	if len(got.Deliveries) != 5 {
		t.Fatalf("received %+v", got)
	}
	first := got.Deliveries[0]
	if *first.Body != "hello" || first.Headers["colour"] != "red" || first.Headers["n"] != int64(2) || first.Headers["f"] != 2.0 ||
		first.Headers["traceparent"] != "00-1-2-00" || first.ContentType != "text/plain" || first.Attempt != 1 || first.TTL != 3600000 || first.Lease != 30000 || first.Key != "order.new" || first.Token == 0 {
		t.Errorf("the first is %+v", first)
	}
	if third := got.Deliveries[2]; third.Body != nil || string(*third.BodyBase64) != "\x00\xff" {
		t.Errorf("the third is %+v", third)
	}
	settle, _ := json.Marshal(wire.SettleRequest{
		Ack:     []string{got.Deliveries[0].Delivery, got.Deliveries[0].Delivery},
		Nack:    []wire.Nack{{Delivery: got.Deliveries[1].Delivery, Delay: 60000, Reason: "busy"}},
		Release: []string{got.Deliveries[2].Delivery},
		Reject:  []wire.Reject{{Delivery: got.Deliveries[3].Delivery, Reason: "bad"}},
		Extend:  []wire.Extend{{Delivery: got.Deliveries[4].Delivery, Lease: 60000}},
	})
	var settled wire.SettleReply
	d.ok("POST", "/v1/settle", string(settle), &settled)
	if settled.Failed != 1 || settled.Outcomes[1].Error.Code != "not_held" || settled.Outcomes[1].Verb != "ack" ||
		!settled.Outcomes[4].DeadLettered || settled.Outcomes[5].Lease != 60000 {
		t.Errorf("settled %+v", settled)
	}

	var stats wire.QueuesReply
	d.ok("GET", "/v1/queues?name=pay", "", &stats)
	if s := stats.Queues[0]; s.Ready != 1 || s.Delayed != 1 || s.InFlight != 1 || s.Acked != 1 {
		t.Errorf("statistics %+v", s)
	}
	d.refuses("GET", "/v1/queues?name=nobody", "", "not_found", "")
	var moved wire.RedriveReply
	d.ok("POST", "/v1/redrive", `{"queue":"dead"}`, &moved)
	if moved.Redriven != 1 {
		t.Errorf("moved %+v", moved)
	}
	d.ok("POST", "/v1/detach", `{"queue":"pay","consumer":"anonymous"}`, nil)
	d.ok("POST", "/v1/receive/cancel", `{"receive_id":"none"}`, nil)
	d.ok("POST", "/v1/publish?key=pay&id=not-yet&delay_ms=3600000", `{"at":"later"}`, nil)
	d.ok("DELETE", "/v1/scheduled?queue=pay&id=not-yet", "", nil)
	d.refuses("DELETE", "/v1/scheduled?queue=pay&id=not-yet", "", "not_found", "")
	d.refuses("DELETE", "/v1/scheduled?queue=pay", "", "invalid", "id")
	var purged wire.PurgeReply
	d.ok("POST", "/v1/purge", `{"queue":"pay"}`, &purged)
	if purged.Purged < 2 {
		t.Errorf("purged %+v", purged)
	}
	d.refuses("DELETE", "/v1/exchanges?name=orders&if_unused=true", "", "in_use", "")
	d.ok("DELETE", "/v1/bindings?exchange=orders&queue=pay&key=order.*", "", nil)
	d.ok("DELETE", "/v1/exchanges?name=orders", "", nil)
	d.ok("DELETE", "/v1/queues?name=dead&if_empty=true", "", nil)
	d.refuses("DELETE", "/v1/queues?name=dead", "", "not_found", "")
}
