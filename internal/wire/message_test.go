package wire

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

var allHeaders = queuedriver.Headers{
	"bool": true, "int": int64(2), "big": int64(math.MaxInt64), "small": int64(math.MinInt64),
	"float": 2.0, "tiny": 5e-324, "huge": 1.5e300, "minus zero": math.Copysign(0, -1),
	"string": "a<b&c\u2028", "bytes": []byte{0, 255}, "none": []byte{},
	"time":  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	"table": queuedriver.Headers{"x": int64(1), "y": queuedriver.Headers{}},
	"list":  []any{int64(1), 1.0, "s", []any{}},
	"$odd":  queuedriver.Headers{"$bytes": "AA==", "$table": int64(1)},
}

func TestHeadersKeepTheirTypes(t *testing.T) {
	b, err := Encode(Headers(allHeaders))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"float":2.0`) || !strings.Contains(string(b), `"int":2,`) {
		t.Errorf("2 and 2.0 are not told apart: %s", b)
	}
	var got Headers
	if err := Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(queuedriver.Headers(got), allHeaders) {
		t.Errorf("got  %#v\nwant %#v", got, allHeaders)
	}
	if !math.Signbit(got["minus zero"].(float64)) {
		t.Error("-0.0 lost its sign")
	}
}

func TestHeadersRefused(t *testing.T) {
	for _, s := range []string{
		`{"a":null}`, `{"a":[null]}`, `{"a":9223372036854775808}`, `{"a":1e999}`, `{"a":{"$bytes":"?"}}`, `{"a":{"$bytes":1}}`,
		`{"a":{"$time":"x"}}`, `{"a":{"$time":1.5}}`, `{"a":{"$time":-1}}`, `{"a":{"$time":1,"b":2}}`, `{"a":{"$what":1}}`,
		`{"a":{"$table":1}}`, `[]`, `1`, `{"a":[[[[[[[1]]]]]]]}`,
	} {
		var h Headers
		if err := Decode([]byte(s), &h); !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), 7, struct{}{}, nil} {
		if _, err := Encode(Headers{"a": v}); err == nil {
			t.Errorf("%v was encoded", v)
		}
	}
}

// FuzzHeaders checks that whatever is accepted keeps value and type on the
// way back.
func FuzzHeaders(f *testing.F) {
	b, _ := json.Marshal(Headers(allHeaders))
	f.Add(b)
	f.Add([]byte(`{"a":1e5,"b":-0,"c":{"$table":{"$":[]}},"d":{"$time":0}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h, again Headers
		if Decode(data, &h) != nil {
			return
		}
		b, err := Encode(h)
		if err != nil {
			t.Fatalf("%q was accepted as %#v and cannot be encoded: %v", data, h, err)
		}
		if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(h, again) {
			t.Fatalf("%q: %#v became %#v by %s: %v", data, h, again, b, err)
		}
	})
}

func TestBodies(t *testing.T) {
	for _, c := range []struct {
		body string
		text bool
	}{
		{"", true}, {"hello", true}, {"tab\tline\r\n<&>\"\\", true}, {"ünïcödé 😀 \u2028 \ufffd", true},
		{"\x00", false}, {"a\x1b[0m", false}, {"\xff\xfe", false}, {"\xed\xa0\x80", false},
	} {
		w := NewMessage(&queuedriver.Message{Body: []byte(c.body)})
		if (w.Body != nil) != c.text || (w.BodyBase64 != nil) == c.text {
			t.Errorf("%q: text is %v, want %v", c.body, w.Body != nil, c.text)
		}
		b, err := Encode(w)
		if err != nil {
			t.Fatal(err)
		}
		var back Message
		if err := Decode(b, &back); err != nil {
			t.Fatalf("%q: %s: %v", c.body, b, err)
		}
		m, err := back.Driver("")
		if err != nil || string(m.Body) != c.body {
			t.Errorf("%q came back as %q, %v", c.body, m.Body, err)
		}
	}
}

func TestPublishingComesBackWhole(t *testing.T) {
	want := queuedriver.Publishing{
		Route: queuedriver.Route{Exchange: "e", Key: "k/%2F"},
		Message: &queuedriver.Message{
			ID: "i", OrderKey: "o", Headers: allHeaders, Body: []byte("b"), Priority: 9, TTL: time.Second, Delay: time.Minute,
			ContentType: "a", ContentEncoding: "b", CorrelationID: "c", ReplyTo: "d", Type: "e", AppID: "f", UserID: "g",
			Timestamp: time.Unix(1e9, 0).UTC(),
		},
	}
	b, err := NewPublishing(&want)
	if err != nil {
		t.Fatal(err)
	}
	var w Publishing
	if err := Decode(b, &w); err != nil {
		t.Fatal(err)
	}
	got, err := w.Driver("messages[0]")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got.Message, want.Message)
	}
	if _, err := NewPublishing(&queuedriver.Publishing{}); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("no message: %v", err)
	}
}

func TestPublishingNamesFields(t *testing.T) {
	for body, field := range map[string]string{
		`{"id":"` + strings.Repeat("x", queuedriver.MaxID+1) + `"}`: "messages[2].id",
		`{"exchange":"` + strings.Repeat("x", 256) + `"}`:           "messages[2].exchange",
		`{"ttl_ms":-1}`:                     "messages[2].ttl_ms",
		`{"priority":10}`:                   "messages[2].priority",
		`{"body":"a","body_base64":"AA=="}`: "messages[2].body",
		`{"delay_ms":9223372036854775807}`:  "messages[2].delay_ms",
		`{"key":"a\u0000b"}`:                "messages[2].key",
	} {
		var w Publishing
		if err := Decode([]byte(body), &w); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		_, err := w.Driver("messages[2]")
		if p := ProblemOf(err); p.Code != CodeInvalid || p.Field != field || p.Reason == "" {
			t.Errorf("%s: %+v, want field %s", body, p, field)
		}
	}
}
