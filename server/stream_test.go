package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
)

func tourOfStreams(t *testing.T, d *daemon) {
	t.Helper()
	var changed wire.TopologyReply
	d.ok("PUT", "/v1/topology", `{"queues":[{"name":"log","type":"stream","retention":{"age_ms":3600000,"messages":1000000}}]}`, &changed)
	d.ok("POST", "/v1/publish", `{"messages":[{"key":"log","body":"one"},{"key":"log","body":"two"}]}`, &wire.PublishReply{})
	for query, want := range map[string]string{
		"from=first": "one two", "from=last": "two", "from=next": "", "offset=2": "two", "offset=1&limit=1": "one",
		"time=" + time.Now().Add(-time.Hour).UTC().Format(time.RFC3339): "one two",
		"from=next&wait_ms=20": "",
	} {
		var b wire.StreamReply
		d.ok("GET", "/v1/stream?queue=log&"+query, "", &b)
		var got []string
		for _, m := range b.Messages {
			got = append(got, *m.Body)
		}
		if strings.Join(got, " ") != want || b.First != 1 || b.End != 3 || b.Next == 0 {
			t.Errorf("%s: %q in %+v", query, got, b)
		}
	}
	d.ok("PUT", "/v1/offsets", `{"queue":"log","consumer":"audit","offset":"2"}`, nil)
	var offsets wire.OffsetsReply
	d.ok("GET", "/v1/offsets?queue=log", "", &offsets)
	if len(offsets.Offsets) != 1 || offsets.Offsets[0] != (wire.Offset{Consumer: "audit", Offset: 2}) {
		t.Errorf("the offsets are %+v", offsets)
	}
	d.ok("DELETE", "/v1/offsets?queue=log&consumer=audit", "", nil)
	d.ok("DELETE", "/v1/queues?name=log", "", nil)
}

// FuzzStreamQuery: whatever the query of a read is, it is understood or
// refused, and what is understood passes the check of the driver.
func FuzzStreamQuery(f *testing.F) {
	f.Add("queue=q&offset=1")
	f.Add("queue=q&time=2026-01-02T03:04:05Z&limit=7&wait_ms=10")
	f.Add("queue=q&from=first&max_bytes=0")
	f.Add("queue=q&from=first&offset=0&time=")
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := parseQuery(raw, streamParams)
		if err != nil {
			return
		}
		req, err := streamRequest(&call{query: query})
		if err != nil {
			if p := wire.ProblemOf(err); p.Status < http.StatusBadRequest || p.Status >= http.StatusInternalServerError {
				t.Fatalf("%q is a problem %+v", raw, p)
			}
			return
		}
		if err := req.Validate(); err != nil {
			t.Fatalf("%q is let through as %+v: %v", raw, req, err)
		}
	})
}

func tourOfSchedules(t *testing.T, d *daemon) {
	t.Helper()
	d.ok("PUT", "/v1/topology", `{"queues":[{"name":"reports"}]}`, &wire.TopologyReply{})
	d.ok("PUT", "/v1/schedules", `{"name":"nightly","cron":"0 2 * * *","time_zone":"Europe/Berlin","key":"reports","message":{"body":"go"},"missed":"latest"}`, nil)
	var list wire.SchedulesReply
	d.ok("GET", "/v1/schedules?prefix=night", "", &list)
	if len(list.Schedules) != 1 || list.Schedules[0].Cron != "0 2 * * *" || *list.Schedules[0].Message.Body != "go" || list.Schedules[0].NextTick == nil {
		t.Errorf("the schedules are %+v", list)
	}
	d.ok("DELETE", "/v1/schedules?name=nightly", "", nil)
	d.ok("DELETE", "/v1/queues?name=reports", "", nil)
}
