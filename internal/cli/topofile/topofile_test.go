package topofile

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

func TestParseExample(t *testing.T) {
	got, err := Parse(strings.NewReader(Example))
	if err != nil {
		t.Fatal(err)
	}
	topology := &queue.Topology{
		Exchanges: []queue.Exchange{
			{Name: "shop", Kind: queue.Topic, Alternate: "unrouted"},
			{Name: "unrouted", Kind: queue.Fanout},
			{Name: "audit", Kind: queue.Fanout},
		},
		Queues: []queue.QueueSpec{
			{
				Name: "payments", Lease: 30 * time.Second, DeliveryLimit: 5,
				DeadLetter:  &queue.Route{Key: "payments.dead"},
				Backoff:     queue.Backoff{Min: time.Second, Max: 5 * time.Minute},
				DedupWindow: 24 * time.Hour,
				MessageTTL:  7 * 24 * time.Hour,
				MaxLength:   1_000_000, MaxBytes: 1_000_000_000, Overflow: queue.RejectPublish,
				SingleActive: true,
			},
			{Name: "payments.dead", MaxPriority: 9, Expires: 30 * 24 * time.Hour},
			{Name: "session.7", AutoDelete: true, Exclusive: true},
			{
				Name: "events", Type: queue.Stream,
				Retention: queue.Retention{Age: 30 * 24 * time.Hour, Messages: 100_000_000, Bytes: 50_000_000_000},
			},
		},
		Bindings: []queue.Binding{
			{Exchange: "shop", Queue: "payments", Key: "order.*", Args: queue.Headers{}},
			{Exchange: "shop", ToExchange: "audit", Key: "order.#"},
		},
	}
	want := &File{Topology: topology, Schedules: []*queue.Schedule{{
		Name: "nightly", Cron: "30 2 * * *", TimeZone: "Europe/Berlin", Route: queue.Route{Exchange: "shop", Key: "order.report"},
		Message: &queue.Message{Body: []byte("make the report"), ContentType: "text/plain", Headers: queue.Headers{"by": "the clock"}},
		Missed:  queue.MissedAll,
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestExampleIsWhole says which field the example lacks.
func TestExampleIsWhole(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(rt reflect.Type) {
		for rt.Kind() == reflect.Pointer || rt.Kind() == reflect.Slice {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct {
			return
		}
		for i := range rt.NumField() {
			name := rt.Field(i).Tag.Get("yaml")
			if !regexp.MustCompile(`\b` + name + `:`).MatchString(Example) {
				t.Errorf("the example has no %s (%s)", name, rt)
			}
			walk(rt.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[file]())
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "is empty"},
		{"comment only", "# nothing\n", "is empty"},
		{"unknown top field", "queue:\n  - name: a\n", `line 1, column 1: unknown field "queue"`},
		{"unknown field", "queues:\n  - name: a\n    leese: 30s\n", `line 3, column 5: unknown field "leese"`},
		{"not a duration", "queues:\n  - name: a\n    lease: soon\n", `"soon" is not a duration`},
		{"number for duration", "queues:\n  - name: a\n    lease: 30\n", `"30" is not a duration`},
		{"wrong type", "queues:\n  - name: a\n    delivery_limit: many\n", "line 3, column 21"},
		{"not a list", "queues: a\n", "line 1"},
		{"duplicate field", "queues: []\nqueues: []\n", "line 2, column 1"},
		{"syntax", "queues:\n\t- name: a\n", "line 2"},
		{"two documents", "queues: [{name: a}]\n---\nqueues: [{name: b}]\n", "more than one YAML document"},
		{"too large", "# " + strings.Repeat("x", MaxFile), "must be at most"},
	} {
		_, err := Parse(strings.NewReader(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"7d": 7 * day, "0d": 0, "24h": day, "1h30m": 90 * time.Minute, "0": 0, "250ms": 250 * time.Millisecond,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "-1d", "1.5d", "7", "106752d", "soon"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Example))
	f.Add([]byte("queues: [{name: a, lease: 1d}]"))
	f.Add([]byte("bindings:\n- args: {a: 1, b: [x, {y: 2.5}], t: 2026-01-02}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse(strings.NewReader(string(text)))
		if (got == nil) == (err == nil) {
			t.Fatalf("Parse returned %v and %v: exactly one must be nil", got, err)
		}
	})
}
