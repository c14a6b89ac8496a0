package queuetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var publishChecks = []check{
	{"every property comes back as it was", publishProperties},
	{"every header type comes back as it was", publishHeaders},
	{"empty body", publishEmpty},
	{"largest body", publishLargest},
	{"an invalid message stops its batch", publishInvalid},
	{"an empty batch is nothing", publishNothing},
	{"the backend keeps nothing of the caller's memory", publishReuse},
}

// back publishes m and returns what is delivered.
func (s *suite) back(m *driver.Message) *driver.Message {
	s.Helper()
	q := s.queue("q" + fmt.Sprint(len(s.made.Queues)))
	s.publish(to(q), m)
	d := s.receive(q, 1)[0]
	s.ack(d)
	return d.Message
}

func publishProperties(s *suite) {
	text := strings.Repeat("é", driver.MaxProperty/2) + "x"
	want := &driver.Message{
		ID: strings.Repeat("i", driver.MaxID), Priority: driver.MaxPriority, Body: []byte("\x00\xff body"),
		ContentType: text, ContentEncoding: text + "", CorrelationID: "c/%2F?&=", ReplyTo: "r", Type: "t",
		AppID: "a", UserID: "u", Timestamp: time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), TTL: time.Hour,
	}
	if s.caps.OrderKey {
		want.OrderKey = strings.Repeat("k", driver.MaxOrderKey)
	}
	sent := *want
	if got := s.back(&sent); !reflect.DeepEqual(got, want) {
		s.Errorf("got  %+v\nwant %+v", got, want)
	}
	got := s.back(&driver.Message{Body: []byte("bare")})
	if want := (&driver.Message{Body: []byte("bare")}); !reflect.DeepEqual(got, want) {
		s.Errorf("a message with a body only came back as %+v", got)
	}
}

func publishHeaders(s *suite) {
	at := time.Date(2030, 12, 31, 23, 59, 59, 0, time.UTC)
	want := driver.Headers{
		"false": false, "true": true,
		"zero": int64(0), "least": int64(math.MinInt64), "most": int64(math.MaxInt64), "beyond 2^53": int64(1<<53 + 1),
		"float": 0.1, "whole float": 3.0, "tiny": math.SmallestNonzeroFloat64, "huge": math.MaxFloat64,
		"text": "grüße \x00\n", "no text": "", "bytes": []byte{0, 0xff, '"'}, "no bytes": []byte{},
		"time": at, "epoch": time.Unix(0, 0).UTC(),
		"table": driver.Headers{"inner": driver.Headers{"deep": []any{int64(1), "two", []byte("three")}}},
		"list":  []any{true, 1.5, at, []any{"nested"}},
	}
	got := s.back(&driver.Message{Headers: want, Body: []byte("x")}).Headers
	for k, v := range want {
		if !reflect.DeepEqual(got[k], v) {
			s.Errorf("header %q: got %#v, want %#v", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		s.Errorf("got %d headers, want %d: %v", len(got), len(want), got)
	}
}

func publishEmpty(s *suite) {
	for _, b := range [][]byte{nil, {}} {
		if got := s.back(&driver.Message{Body: b}); len(got.Body) != 0 {
			s.Errorf("an empty body came back as %q", got.Body)
		}
	}
}

func publishLargest(s *suite) {
	most := driver.MaxBody
	if s.caps.MaxBody > 0 {
		most = min(most, s.caps.MaxBody)
	}
	big := bytes.Repeat([]byte{0, 1, 2, 0xfe, 0xff}, most/5+1)[:most]
	if got := s.back(&driver.Message{Body: big}); !bytes.Equal(got.Body, big) {
		s.Errorf("a body of %d bytes came back different, with %d bytes", most, len(got.Body))
	}
	q := s.queue("q")
	s.refusedMessage(q, &driver.Message{Body: make([]byte, most+1)}, "a body of one byte more")
}

// refusedMessage asserts that a message is invalid and not stored.
func (s *suite) refusedMessage(q string, m *driver.Message, what string) {
	s.Helper()
	rs, err := s.conn.Publish(s.ctx, []driver.Publishing{{Route: to(q), Message: m}})
	if err == nil && len(rs) == 1 {
		err = rs[0].Err
	}
	s.field(err, what)
	s.none(q)
}

func publishInvalid(s *suite) {
	q := s.queue("q")
	_, err := s.conn.Publish(s.ctx, []driver.Publishing{
		{Route: to(q), Message: body("good")},
		{Route: to(q), Message: &driver.Message{ID: strings.Repeat("x", driver.MaxID+1)}},
	})
	s.field(err, "a batch with an invalid message")
	s.none(q)
	_, err = s.conn.Publish(s.ctx, []driver.Publishing{{Route: to(q)}})
	s.field(err, "a batch with a missing message")
}

func publishNothing(s *suite) {
	rs, err := s.conn.Publish(s.ctx, nil)
	if err != nil || len(rs) != 0 {
		s.Errorf("Publish of nothing: %v, %v", rs, err)
	}
	out, err := s.conn.Settle(s.ctx, nil)
	if err != nil || len(out) != 0 {
		s.Errorf("Settle of nothing: %v, %v", out, err)
	}
}

func publishReuse(s *suite) {
	q := s.queue("q")
	m := &driver.Message{Body: []byte("first"), Headers: driver.Headers{"k": "first"}}
	ps := []driver.Publishing{{Route: to(q), Message: m}}
	_, err := s.conn.Publish(s.ctx, ps)
	s.must(err, "Publish")
	copy(m.Body, "XXXXX")
	m.Headers["k"] = "changed"
	ps[0] = driver.Publishing{}
	if d := s.one(q, "first"); d.Message.Headers["k"] != "first" {
		s.Errorf("changing the caller's headers changed the message: %v", d.Message.Headers)
	}
}

var errNothing = errors.New("no error")

// outcome is the error of a publish of one message.
func (s *suite) outcome(p driver.Publishing) error {
	rs, err := s.conn.Publish(s.ctx, []driver.Publishing{p})
	if err == nil && len(rs) == 1 {
		err = rs[0].Err
	}
	if err == nil {
		return errNothing
	}
	return err
}
