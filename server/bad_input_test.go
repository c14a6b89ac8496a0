package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestBadInput sends what must be refused to each endpoint. Nothing of it may
// have an effect, which the end of the test looks at.
func TestBadInput(t *testing.T) {
	d := start(t, nil)
	d.declare("q")
	long := strings.Repeat("x", 600)
	handle := wire.EncodeHandle(queuedriver.Ref{Queue: "q", Seq: 1, Token: 1})
	many := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	for _, c := range []struct{ method, path, body, code, field string }{
		{"POST", "/v1/locks/acquire", ``, "malformed", "body"},
		{"POST", "/v1/locks/acquire", `{"name":`, "malformed", "body"},
		{"POST", "/v1/locks/acquire", `name=a&holder=b`, "malformed", "body"},
		{"POST", "/v1/locks/acquire", "{\"name\":\"\xff\",\"holder\":\"h\",\"ttl_ms\":1000}", "malformed", "body"},
		{"POST", "/v1/locks/acquire", `{}`, "invalid", "name"},
		{"POST", "/v1/locks/acquire", `{"name":"","holder":"h","ttl_ms":1000}`, "invalid", "name"},
		{"POST", "/v1/locks/acquire", `{"name":"` + long + `","holder":"h","ttl_ms":1000}`, "invalid", "name"},
		{"POST", "/v1/locks/acquire", `{"name":"a\u0000b","holder":"h","ttl_ms":1000}`, "invalid", "name"},
		{"POST", "/v1/locks/acquire", `{"name":"a","ttl_ms":1000}`, "invalid", "holder"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h"}`, "invalid", "ttl_ms"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":-1}`, "invalid", "ttl_ms"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":9223372036854775807}`, "invalid", "ttl_ms"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":"10s"}`, "invalid", "ttl_ms"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":1000,"wait_ms":300001}`, "invalid", "wait_ms"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":1000,"wait_ms":-1}`, "invalid", "wait_ms"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":1000,"mode":"mine"}`, "invalid", "mode"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":1000,"permits":1025}`, "invalid", "permits"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":1000,"lock_delay_ms":-5}`, "invalid", "lock_delay_ms"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":1000,"ticket":"` + long + `"}`, "invalid", "ticket"},
		{"POST", "/v1/locks/acquire", `{"name":"a","holder":"h","ttl_ms":1000,"wait":5}`, "unknown_field", "wait"},
		{"POST", "/v1/locks/acquire?name=a", `{"name":"a","holder":"h","ttl_ms":1000}`, "unknown_field", "name"},
		{"POST", "/v1/locks/release", `{"name":"a","holder":"h","token":5}`, "invalid", "token"},
		{"POST", "/v1/locks/release", `{"name":"a","holder":"h","token":"0"}`, "invalid", "token"},
		{"POST", "/v1/locks/release", `{"name":"a","holder":"h","token":"18446744073709551616"}`, "invalid", "token"},
		{"POST", "/v1/locks/release", `{"name":"a","holder":"h"}`, "invalid", "token"},
		{"POST", "/v1/locks/release", `{"name":"a","holder":"h","token":"1","leases":[{"name":"a","holder":"h","token":"1"}]}`, "invalid", "leases"},
		{"POST", "/v1/locks/release", `{"leases":[]}`, "invalid", "leases"},
		{"POST", "/v1/locks/release", `{"leases":[` + many(lockdriver.MaxBatch+1, `{"name":"a","holder":"h","token":"1"}`) + `]}`, "invalid", "leases"},
		{"POST", "/v1/locks/release", `{"leases":[{"name":"a","holder":"h","token":"1"},{"name":"a","token":"1"}]}`, "invalid", "leases[1].holder"},
		{"POST", "/v1/locks/renew", `{"name":"a","holder":"h","token":"1"}`, "invalid", "ttl_ms"},
		{"POST", "/v1/locks/renew", `{"leases":[{"name":"a","holder":"h","token":"1"}]}`, "invalid", "leases[0].ttl_ms"},
		{"POST", "/v1/locks/cancel", `{"name":"a"}`, "invalid", "holder"},
		{"POST", "/v1/locks/revoke", `{"name":""}`, "invalid", "name"},
		{"GET", "/v1/locks?limit=1001", ``, "invalid", "limit"},
		{"GET", "/v1/locks?limit=-1", ``, "invalid", "limit"},
		{"GET", "/v1/locks?limit=x", ``, "invalid", "limit"},
		{"GET", "/v1/locks?nmae=a", ``, "unknown_field", "nmae"},
		{"GET", "/v1/locks?name=a&name=b", ``, "invalid", "name"},
		{"GET", "/v1/locks?name=a&prefix=b", ``, "invalid", "name"},
		{"GET", "/v1/locks?name=a%00b", ``, "invalid", "name"},
		{"GET", "/v1/locks?name=%ff", ``, "invalid", "name"},
		{"GET", "/v1/locks?name=%zz", ``, "malformed", ""},
		{"PUT", "/v1/topology", `{"queues":[{"name":"x","leases":1}]}`, "unknown_field", "queues[0].leases"},
		{"PUT", "/v1/topology", `{"queues":[{"name":"x","lease_ms":1}]}`, "invalid", "queues[0].lease_ms"},
		{"PUT", "/v1/topology", `{"queues":[{"name":"x","backoff":{"min_ms":9,"max_ms":5}}]}`, "invalid", "queues[0].backoff.min_ms"},
		{"PUT", "/v1/topology", `{"queues":[{"name":"x","delivery_limit":3}]}`, "invalid", "queues[0].delivery_limit"},
		{"PUT", "/v1/topology", `{"exchanges":[{"name":"amq.x","kind":"direct"}]}`, "invalid", "exchanges[0].name"},
		{"PUT", "/v1/topology", `{"exchanges":[{"name":"x","kind":"random"}]}`, "invalid", "exchanges[0].kind"},
		{"PUT", "/v1/topology", `{"queues":[{"name":"x"}],"bindings":[{"exchange":"nowhere","queue":"x"}]}`, "not_found", ""},
		{"PUT", "/v1/topology?dry_run=maybe", `{}`, "invalid", "dry_run"},
		{"DELETE", "/v1/queues", ``, "invalid", "name"},
		{"DELETE", "/v1/queues?name=nobody", ``, "not_found", ""},
		{"DELETE", "/v1/exchanges?name=", ``, "invalid", "name"},
		{"PUT", "/v1/topology", `{"exchanges":[{"name":"x","kind":"direct","alternate":"x"}]}`, "invalid", "exchanges[0].alternate"},
		{"PUT", "/v1/topology", `{"exchanges":[{"name":"x","kind":"direct","alternate":"nowhere"}]}`, "not_found", ""},
		{"PUT", "/v1/topology", `{"bindings":[{"exchange":"x","queue":"y","to_exchange":"z"}]}`, "invalid", "bindings[0].to_exchange"},
		{"DELETE", "/v1/bindings?queue=q", ``, "invalid", "exchange"},
		{"DELETE", "/v1/bindings?exchange=e&queue=q&to_exchange=f", ``, "invalid", "to_exchange"},
		{"DELETE", "/v1/bindings?exchange=e&to_exchange=nowhere", ``, "not_found", ""},
		{"DELETE", "/v1/bindings?exchange=e&queue=q&args=x", ``, "malformed", "args"},
		{"POST", "/v1/publish", `{"messages":[]}`, "invalid", "messages"},
		{"POST", "/v1/publish", `{}`, "invalid", "messages"},
		{"POST", "/v1/publish", `{"messages":[{"key":"q","body":"a"},{"key":"q","priority":10}]}`, "invalid", "messages[1].priority"},
		{"POST", "/v1/publish", `{"messages":[{"key":"q","body":"a"},{"key":"q","bdoy":"a"}]}`, "unknown_field", "messages[1].bdoy"},
		{"POST", "/v1/publish", `{"messages":[` + many(queuedriver.MaxBatch+1, `{"key":"q"}`) + `]}`, "invalid", "messages"},
		{"POST", "/v1/publish", `{"messages":[{"key":"q","headers":{"a":{"$bytes":"?"}}}]}`, "invalid", "headers[a]"},
		{"POST", "/v1/publish", `{"messages":[{"key":"q","not_before":"tomorrow"}]}`, "invalid", "body"},
		{"POST", "/v1/publish?id=1", `{"messages":[{"key":"q"}]}`, "invalid", "id"},
		{"POST", "/v1/publish?key=q&priority=10", `x`, "invalid", "priority"},
		{"POST", "/v1/publish?key=q&mandatory=perhaps", `x`, "invalid", "mandatory"},
		{"POST", "/v1/publish?key=q&colour=red", `x`, "unknown_field", "colour"},
		{"POST", "/v1/publish?key=q&delay_ms=99999999999999", `x`, "invalid", "delay_ms"},
		{"POST", "/v1/publish?key=q&not_before=now", `x`, "invalid", "not_before"},
		{"POST", "/v1/publish?key=q&headers=[]", `x`, "invalid", "headers"},
		{"POST", "/v1/publish?key=q%00", `x`, "invalid", "key"},
		{"POST", "/v1/receive", `{"queue":"nobody"}`, "not_found", ""},
		{"POST", "/v1/receive", `{}`, "invalid", "queue"},
		{"POST", "/v1/receive", `{"queue":"q","max":1001}`, "invalid", "max"},
		{"POST", "/v1/receive", `{"queue":"q","max":-1}`, "invalid", "max"},
		{"POST", "/v1/receive", `{"queue":"q","wait_ms":300001}`, "invalid", "wait_ms"},
		{"POST", "/v1/receive", `{"queue":"q","lease_ms":1}`, "invalid", "lease_ms"},
		{"POST", "/v1/receive", `{"queue":"q","receive_id":"` + long + `"}`, "invalid", "receive_id"},
		{"POST", "/v1/receive/cancel", `{}`, "invalid", "receive_id"},
		{"POST", "/v1/settle", `{}`, "invalid", "settlements"},
		{"POST", "/v1/settle", `{"ack":["` + handle + `","x"]}`, "invalid", "ack[1]"},
		{"POST", "/v1/settle", `{"ack":["` + handle[:len(handle)-2] + `"]}`, "invalid", "ack[0]"},
		{"POST", "/v1/settle", `{"ack":["` + handle + `"],"nack":[{"delivery":"` + handle + `","delay_ms":-1}]}`, "invalid", "nack[0].delay_ms"},
		{"POST", "/v1/settle", `{"extend":[{"delivery":"` + handle + `","lease_ms":1}]}`, "invalid", "extend[0].lease_ms"},
		{"POST", "/v1/settle", `{"reject":[{"delivery":"` + handle + `","reason":"` + strings.Repeat("x", 1025) + `"}]}`, "invalid", "reject[0].reason"},
		{"POST", "/v1/settle", `{"ack":"` + handle + `"}`, "invalid", "ack"},
		{"POST", "/v1/detach", `{"queue":"q"}`, "invalid", "consumer"},
		{"POST", "/v1/purge", `{"queue":"nobody"}`, "not_found", ""},
		{"POST", "/v1/redrive", `{"queue":"q","max":10001}`, "invalid", "max"},
		{"POST", "/v1/redrive", `{"queue":"q","to":{"key":"` + long + `"}}`, "invalid", "to.key"},
		{"GET", "/v1/messages", ``, "invalid", "queue"},
		{"GET", "/v1/messages?queue=q&after=-1", ``, "invalid", "after"},
		{"GET", "/v1/messages?queue=nobody", ``, "not_found", ""},
		{"GET", "/", ``, "no_such_endpoint", ""},
		{"GET", "/v1/locks/", ``, "no_such_endpoint", ""},
		{"GET", "/v1//locks", ``, "no_such_endpoint", ""},
		{"GET", "/v1/locks/acquire", ``, "method_not_allowed", ""},
		{"POST", "/healthz", ``, "method_not_allowed", ""},
		{"OPTIONS", "/v1/locks/acquire", ``, "method_not_allowed", ""},
	} {
		p := d.refused(c.method, c.path, c.body, c.code, c.field)
		if p.Detail == "" {
			t.Errorf("%s %s: no detail", c.method, c.path)
		}
	}
	var locks wire.LocksReply
	d.ok("GET", "/v1/locks", "", &locks)
	var queues wire.QueuesReply
	d.ok("GET", "/v1/queues", "", &queues)
	if len(locks.Locks) != 0 || len(queues.Queues) != 1 || queues.Queues[0].Published != 0 {
		t.Errorf("something was done: %+v, %+v", locks, queues)
	}
}

func TestLimitsAtTheirEdge(t *testing.T) {
	d := start(t, nil)
	d.declare("q")
	name := strings.Repeat("n", lockdriver.MaxName)
	d.ok("POST", "/v1/locks/acquire", `{"name":"`+name+`","holder":"h","ttl_ms":1000}`, nil)
	body := strings.Repeat("b", queuedriver.MaxBody)
	d.ok("POST", "/v1/publish?key=q", body, nil, "Content-Type", "text/plain")
	p := d.refused("POST", "/v1/publish?key=q", body+"b", "too_large", "body", "Content-Type", "text/plain")
	if !strings.Contains(p.Reason, fmt.Sprint(queuedriver.MaxBody)) {
		t.Errorf("the limit is not named: %s", p.Reason)
	}
	d.refuses("POST", "/v1/purge", `{"queue":"`+strings.Repeat("q", wire.MaxRequestBytes)+`"}`, "too_large", "body")
}

func FuzzRequests(f *testing.F) {
	f.Add("POST", "/v1/publish?key=q", "x")
	f.Add("POST", "/v1/settle", `{"ack":["x"]}`)
	f.Add("GET", "/v1/locks?name=%00", "")
	f.Add("DELETE", "/v1/bindings?exchange=a&queue=b&args=%7B%7D", "")
	d := start(f, nil)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		a := d.serveDirect(method, target, body)
		if a.status >= 500 && a.status != 501 {
			t.Fatalf("%s %q %q: %d %s", method, target, body, a.status, a.body)
		}
		if a.status >= 400 {
			_ = a.problem(t)
		}
	})
}
