package queuetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// transfer makes a commit with an ID, as one after a message of in.
func (s *suite) transfer(id string, d driver.Delivery, out string) *driver.Txn {
	return &driver.Txn{ID: id, Settle: acks(d), Publish: s.posts(out, "x", "y"), Result: []byte("done\x00")}
}

// wantResult asserts what is known of a commit.
func (s *suite) wantResult(id string, want *driver.TxnResult) {
	s.Helper()
	got, err := s.conn.Result(s.ctx, id)
	s.must(err, "Result")
	if !got.Repeated || !sameOutcome(got, want) {
		s.Errorf("Result of %s: %+v, want that of %+v", id, *got, *want)
	}
}

// sameOutcome compares but for Repeated.
func sameOutcome(a, b *driver.TxnResult) bool {
	return bytes.Equal(a.Result, b.Result) &&
		slices.Equal(a.Settled, b.Settled) && slices.Equal(a.Receipts, b.Receipts)
}

// Though its deliveries are not live any more, and with other tokens, as after
// an attempt of which nothing was heard.
func commitRepeat(s *suite) {
	if !s.commits() {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	s.bodies(to(in), "1")
	d := s.one(in, "1")
	t := s.transfer(s.name("id"), d, out)
	first := s.commit(t)
	if first.Repeated || string(first.Result) != "done\x00" {
		s.Errorf("the first commit returned %+v", first)
	}
	t.Settle[0].Ref.Token++
	t.ResultFor = time.Hour
	for range 3 {
		again := s.commit(t)
		if !again.Repeated {
			s.Errorf("a repeat does not say so: %+v", again)
		}
		if !sameOutcome(again, first) {
			s.Errorf("a repeat returned %+v, the first commit %+v", again, first)
		}
	}
	s.want(out, "x", "y")
}

// Whatever differs. The trace context may: it differs with every attempt.
func commitConflict(s *suite) {
	if !s.commits() {
		return
	}
	in, out, other := s.queue("in"), s.queue("out"), s.queue("other")
	s.bodies(to(in), "1", "2")
	ds := s.receive(in, 2)
	id := s.name("id")
	s.commit(s.transfer(id, ds[0], out))
	for what, change := range map[string]func(t *driver.Txn){
		"another delivery": func(t *driver.Txn) { t.Settle = acks(ds[1]) },
		"another verb":     func(t *driver.Txn) { t.Settle[0].Verb = driver.Release },
		"no delivery":      func(t *driver.Txn) { t.Settle = nil },
		"another body":     func(t *driver.Txn) { t.Publish[1].Message.Body = []byte("z") },
		"another route":    func(t *driver.Txn) { t.Publish[1].Route = to(other) },
		"another header":   func(t *driver.Txn) { t.Publish[0].Message.Headers = driver.Headers{"a": int64(1)} },
		"one more message": func(t *driver.Txn) { t.Publish = append(t.Publish, s.posts(other, "z")...) },
		"another result":   func(t *driver.Txn) { t.Result = nil },
	} {
		t := s.transfer(id, ds[0], out)
		change(t)
		if _, err := s.conn.Commit(s.ctx, t); !errors.Is(err, lease.ErrConflict) {
			s.Errorf("%s: %v, want ErrConflict", what, err)
		}
		s.fails(t, driver.PartID, 0, lease.ErrConflict)
	}
	t := s.transfer(id, ds[0], out)
	t.Publish[0].Message.Headers = driver.Headers{driver.HeaderTraceParent: "00-1-1-00"}
	if !s.commit(t).Repeated {
		s.Error("another trace context is taken for another content")
	}
	s.want(out, "x", "y")
	s.none(other)
	s.stillHeld(ds[1])
}

// It was not carried out, so nothing is known of it.
func commitFailedID(s *suite) {
	if !s.commits() {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	s.bodies(to(in), "1")
	d := s.one(in, "1")
	id := s.name("id")
	t := s.transfer(id, d, out)
	t.Publish = append(t.Publish, driver.Publishing{Route: driver.Route{Exchange: s.name("none")}, Message: body("z")})
	s.fails(t, driver.PartPublish, 2, lease.ErrNotFound)
	_, err := s.conn.Result(s.ctx, id)
	s.is(err, lease.ErrNotFound, "Result of a commit that failed")
	if s.commit(s.transfer(id, d, out)).Repeated {
		s.Error("the commit after one that failed says that it was done before")
	}
	s.want(out, "x", "y")
}

// By the ID alone; there is none for commits without one.
func commitResult(s *suite) {
	if !s.commits() {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	s.bodies(to(in), "1")
	id := s.name("id")
	_, err := s.conn.Result(s.ctx, id)
	s.is(err, lease.ErrNotFound, "Result before the commit")
	r := s.commit(s.transfer(id, s.one(in, "1"), out))
	s.wantResult(id, r)
	s.commit(&driver.Txn{ID: s.name("bare")})
	s.wantResult(s.name("bare"), &driver.TxnResult{})
	_, err = s.conn.Result(s.ctx, s.name("other"))
	s.is(err, lease.ErrNotFound, "Result of an ID that nobody used")
	_, err = s.conn.Result(s.ctx, "")
	s.field(err, "Result without an ID")
	s.want(out, "x", "y")
}

// Then the ID may be used again, for anything.
func commitForgotten(s *suite) {
	if !s.commits() {
		return
	}
	id := s.name("id")
	began := time.Now()
	s.commit(&driver.Txn{ID: id, Result: []byte("a"), ResultFor: driver.MinResultFor})
	s.commit(&driver.Txn{ID: s.name("long"), Result: []byte("b"), ResultFor: driver.MaxResultFor})
	for {
		_, err := s.conn.Result(s.ctx, id)
		took := time.Since(began)
		if err == nil && took < s.h.Patience {
			continue
		}
		s.is(err, lease.ErrNotFound, "Result after its time")
		if took < driver.MinResultFor {
			s.Errorf("it was forgotten after %v, is to be remembered for %v", took, driver.MinResultFor)
		}
		break
	}
	if s.commit(&driver.Txn{ID: id, Result: []byte("c")}).Repeated {
		s.Error("a result that is forgotten is repeated")
	}
	s.wantResult(id, &driver.TxnResult{Result: []byte("c")})
	s.wantResult(s.name("long"), &driver.TxnResult{Result: []byte("b")})
}

// Each at its edge and one past it.
func commitLimits(s *suite) {
	if !s.commits() {
		return
	}
	q := s.queue("q")
	posts := make([]driver.Publishing, driver.MaxCommitPublish)
	for i := range posts {
		posts[i] = driver.Publishing{Route: to(q), Message: body("m")}
	}
	s.commit(&driver.Txn{Publish: posts})
	ds := s.receive(q, driver.MaxCommitPublish)
	for len(ds) < driver.MaxCommitSettle {
		s.Fatal("the suite needs as many messages as deliveries")
	}
	s.commit(&driver.Txn{Settle: acks(ds[:driver.MaxCommitSettle]...)})
	long := s.name(strings.Repeat("i", driver.MaxCommitID))[:driver.MaxCommitID]
	s.commit(&driver.Txn{ID: long, Result: bytes.Repeat([]byte("r"), driver.MaxResult), ResultFor: driver.MaxResultFor})
	half := bytes.Repeat([]byte("b"), min(s.caps.MaxBody, driver.MaxCommitBytes)/2)
	large := s.posts(q, "", "")
	large[0].Message.Body, large[1].Message.Body = half, half
	s.commit(&driver.Txn{Publish: large})

	ref := driver.Ref{Queue: q, Seq: 1, Token: 1}
	refs := make([]driver.Settlement, driver.MaxCommitSettle+1)
	for i := range refs {
		refs[i] = driver.Settlement{Ref: driver.Ref{Queue: q, Seq: uint64(i + 1), Token: 1}, Verb: driver.Ack}
	}
	twice := []driver.Settlement{{Ref: ref, Verb: driver.Ack}, {Ref: driver.Ref{Queue: q, Seq: 1, Token: 2}, Verb: driver.Nack}}
	over := append(s.posts(q, "", "", ""), large...)
	over[0].Message.Body = make([]byte, driver.MaxCommitBytes-2*len(half)+1)
	for field, t := range map[string]*driver.Txn{
		"commit":             {},
		"id":                 {ID: long + "i"},
		"settle":             {Settle: refs},
		"settle[1].delivery": {Settle: twice},
		"publish":            {Publish: slices.Concat(posts, s.posts(q, "m"))},
		"publish ":           {Publish: over},
		"result":             {ID: s.name("id"), Result: make([]byte, driver.MaxResult+1)},
		"result ":            {Result: []byte("r"), Publish: s.posts(q, "m")},
		"result_for":         {ID: s.name("id"), ResultFor: driver.MaxResultFor + 1},
		"result_for ":        {ID: s.name("id"), ResultFor: driver.MinResultFor - 1},
		"result_for  ":       {ResultFor: time.Hour, Publish: s.posts(q, "m")},
	} {
		_, err := s.conn.Commit(s.ctx, t)
		var f *lease.FieldError
		if want := strings.TrimSpace(field); !errors.As(err, &f) || f.Field != want || f.Reason == "" {
			s.Errorf("Commit past a limit: got %v (%s), want one about %s", err, fmt.Sprintf("%T", err), want)
		}
	}
	if got := s.receive(q, 2); len(got[0].Message.Body) != len(half) {
		s.Errorf("an invalid commit has published")
	}
	s.none(q)
}
