package wire

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
)

func TestDecodeRefuses(t *testing.T) {
	const ok = `"name":"a","holder":"b","ttl_ms":1000`
	for _, c := range []struct{ body, code, field string }{
		{``, CodeMalformed, "body"},
		{" \n", CodeMalformed, "body"},
		{`{`, CodeMalformed, "body"},
		{`{` + ok + `} x`, CodeMalformed, "body"},
		{`{` + ok + `}{}`, CodeMalformed, "body"},
		{"{\"name\":\"\xff\"}", CodeMalformed, "body"},
		{`{"name":"\ud800"}`, CodeMalformed, "name"},
		{`{"name":"\udc00x"}`, CodeMalformed, "name"},
		{`{"name":"\ud800\u0041"}`, CodeMalformed, "name"},
		{`{"meta":{"\ud800":"x"}}`, CodeMalformed, "meta"},
		{`[]`, CodeInvalid, "body"},
		{`"x"`, CodeInvalid, "body"},
		{`null`, CodeInvalid, "body"},
		{`{"name":null}`, CodeInvalid, "name"},
		{`{"name":1}`, CodeInvalid, "name"},
		{`{"name":["a"]}`, CodeInvalid, "name"},
		{`{"ttl_ms":"1000"}`, CodeInvalid, "ttl_ms"},
		{`{"ttl_ms":1.5}`, CodeInvalid, "ttl_ms"},
		{`{"ttl_ms":1e3}`, CodeInvalid, "ttl_ms"},
		{`{"ttl_ms":9223372036854775808}`, CodeInvalid, "ttl_ms"},
		{`{"queue":1}`, CodeInvalid, "queue"},
		{`{"meta":[]}`, CodeInvalid, "meta"},
		{`{"meta":{"a":1}}`, CodeInvalid, "meta.a"},
		{`{"meta":{"a":"1","a":"2"}}`, CodeInvalid, "meta.a"},
		{`{"name":"a","name":"b"}`, CodeInvalid, "name"},
		{`{"name":"a","n\u0061me":"b"}`, CodeInvalid, "name"},
		{`{"Name":"a"}`, CodeUnknownField, "Name"},
		{`{"nmae":"a"}`, CodeUnknownField, "nmae"},
		{`{"":"a"}`, CodeUnknownField, `""`},
	} {
		var v AcquireRequest
		err := Decode([]byte(c.body), &v)
		var p *Problem
		if !errors.As(err, &p) {
			t.Errorf("%s: %v, want a problem", c.body, err)
			continue
		}
		if p.Code != c.code || p.Field != c.field || p.Reason == "" {
			t.Errorf("%s: code %q, field %q, reason %q; want %q, %q", c.body, p.Code, p.Field, p.Reason, c.code, c.field)
		}
		if !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("%s: %v does not match ErrInvalid", c.body, err)
		}
	}
}

func TestDecodeNamesPlacesInLists(t *testing.T) {
	for _, c := range []struct{ body, field string }{
		{`{"messages":[{"key":"a"},{"key":"b","exchnage":"x"}]}`, "messages[1].exchnage"},
		{`{"messages":[{"body":1}]}`, "messages[0].body"},
		{`{"messages":[{"headers":{"a":{"b":1,"b":2}}}]}`, "messages[0].headers.a.b"},
		{`{"messages":[{"body_base64":"***"}]}`, "body"},
		{`{"messages":{}}`, "messages"},
	} {
		var v PublishRequest
		var p *Problem
		if err := Decode([]byte(c.body), &v); !errors.As(err, &p) || p.Field != c.field {
			t.Errorf("%s: %v, want field %q", c.body, err, c.field)
		}
	}
	var r ReleaseRequest
	var p *Problem
	if err := Decode([]byte(`{"leases":[{"name":"a","holder":"b","token":5}]}`), &r); !errors.As(err, &p) || p.Field != "leases[0].token" {
		t.Errorf("a token that is a number: %v", err)
	}
}

func TestDecodeDepth(t *testing.T) {
	deep := func(n int) []byte {
		return []byte(`{"headers":{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}}`)
	}
	var m Message
	if err := Decode(deep(100), &m); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("100 deep: %v", err)
	}
	if err := Decode(deep(3), &m); err != nil {
		t.Errorf("3 deep: %v", err)
	}
	var anything map[string]any
	if err := Decode([]byte(strings.Repeat(`{"a":`, MaxDepth)+"1"+strings.Repeat("}", MaxDepth)), &anything); err == nil {
		t.Error("more than MaxDepth deep was accepted")
	}
}

func TestDecodeAccepts(t *testing.T) {
	var a AcquireRequest
	if err := Decode([]byte(` { "name" : "a/b c%2F\ud83d\ude00" , "holder":"h","ttl_ms":1000,"meta":{"k":"v"},"queue":true } `), &a); err != nil {
		t.Fatal(err)
	}
	if a.Name != "a/b c%2F😀" || a.TTL != 1000 || !a.Queue || a.Meta["k"] != "v" {
		t.Errorf("decoded %+v", a)
	}
}

// FuzzDecode checks that nothing makes the walker run off its data, and that
// what it accepts is valid JSON which comes out the same a second time.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"messages":[{"key":"q","body":"x","headers":{"a":1,"b":2.0,"c":[true,{"$bytes":"AA=="}]}}]}`,
		`{"messages":[{"key":"\ud83d\ude00\\\"","mandatory":false,"not_before":"2026-01-01T00:00:00Z"}]}`,
		`{"messages":[]}`, `{"a":`, `"\u`, `[1,2`, `{"messages":[{"headers":{"$table":{}}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v PublishRequest
		err := Decode(data, &v)
		if err != nil {
			if p := ProblemOf(err); p.Code == CodeInternal || p.Detail == "" {
				t.Fatalf("%q: %#v", data, err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		out, err := Encode(&v)
		if err != nil {
			return // a time that JSON cannot carry
		}
		var again PublishRequest
		if v.Messages == nil {
			return // encodes as null, which is refused
		}
		if err := Decode(out, &again); err != nil {
			t.Fatalf("%s, encoded from %q, is refused: %v", out, data, err)
		}
	})
}

// TestDecodeIsBounded sends what is short and would be long in memory.
func TestDecodeIsBounded(t *testing.T) {
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat("{},", n), ",") }
	numbers := strings.TrimSuffix(strings.Repeat("1,", 4<<20), ",")
	for name, c := range map[string]struct {
		in    string
		field string
	}{
		"messages": {`{"messages":[` + many(2<<20) + `]}`, "messages"},
		"one past": {`{"messages":[` + many(MaxElements+1) + `]}`, "messages"},
		"headers":  {`{"messages":[{"headers":{"a":[` + numbers + `]}}]}`, "messages[0].headers.a"},
		"strings":  {`{"messages":[{"headers":{"a":["` + strings.Repeat("x", 4<<20) + `"]}}]}`, "headers"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := Decode([]byte(c.in), &PublishRequest{})
		runtime.ReadMemStats(&after)
		var p *Problem
		if !errors.As(err, &p) || p.Field != c.field {
			t.Errorf("%s: %v, want an error about %s", name, err, c.field)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4*uint64(len(c.in))+1<<20 {
			t.Errorf("%s: %d bytes were allocated for %d", name, took, len(c.in))
		}
	}
	var in PublishRequest
	if err := Decode([]byte(`{"messages":[`+many(MaxElements)+`]}`), &in); err != nil || len(in.Messages) != MaxElements {
		t.Errorf("as many as may be: %v", err)
	}
}
