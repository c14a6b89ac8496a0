package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func fullTxn() *queuedriver.Txn {
	ref := func(seq uint64) queuedriver.Ref { return queuedriver.Ref{Queue: "in", Seq: seq, Token: 1 << 60} }
	return &queuedriver.Txn{
		ID: "order/42", Result: []byte("done"), ResultFor: time.Hour,
		Settle: []queuedriver.Settlement{
			{Ref: ref(4), Verb: queuedriver.Release},
			{Ref: ref(1), Verb: queuedriver.Ack},
			{Ref: ref(3), Verb: queuedriver.Reject, Reason: "no"},
			{Ref: ref(2), Verb: queuedriver.Nack, Delay: time.Second, Reason: "later"},
			{Ref: ref(5), Verb: queuedriver.Nack, Backoff: true},
		},
		Publish: []queuedriver.Publishing{
			{Route: queuedriver.Route{Exchange: "x", Key: "k"}, Mandatory: true, Message: &queuedriver.Message{ID: "m", Body: []byte{0, 255}, Headers: allHeaders}},
			{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{Body: []byte("text"), Delay: time.Minute}},
		},
		Release: []queuedriver.LockRef{{Name: "a/b", Holder: "h", Token: 7}},
		Require: []queuedriver.LockRef{{Name: "c", Holder: "h", Token: 1<<64 - 1}},
	}
}

func TestCommitCrosses(t *testing.T) {
	for _, result := range [][]byte{[]byte("done"), {0, 255}, nil} {
		txn := fullTxn()
		txn.Result = result
		b, err := NewCommitRequest(txn)
		if err != nil {
			t.Fatal(err)
		}
		var r CommitRequest
		if err := Decode(b, &r); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		got, err := r.Driver()
		if err != nil || !reflect.DeepEqual(got, txn) || got.Digest() != txn.Digest() {
			t.Errorf("%v\n got %+v\nwant %+v\n%s", err, got, txn, b)
		}
	}
}

func TestCommitReplyCrosses(t *testing.T) {
	for _, want := range []*queuedriver.TxnResult{
		{},
		{Repeated: true, Result: []byte{0}},
		{Result: []byte("x"), Settled: []queuedriver.Outcome{{DeadLettered: true}, {}}, Receipts: []queuedriver.Receipt{{Durability: queuedriver.Synced, Queues: 2, Duplicate: true}}},
	} {
		b, err := Encode(NewCommitReply(want))
		if err != nil {
			t.Fatal(err)
		}
		var r CommitReply
		if err := Decode(b, &r); err != nil {
			t.Fatal(err)
		}
		got, err := r.Driver()
		if err != nil || got.Repeated != want.Repeated || !bytes.Equal(got.Result, want.Result) ||
			len(got.Settled) != len(want.Settled) || len(got.Receipts) != len(want.Receipts) ||
			len(got.Receipts) > 0 && got.Receipts[0] != want.Receipts[0] || len(got.Settled) > 0 && got.Settled[0] != want.Settled[0] {
			t.Errorf("%v: got %+v, want %+v", err, got, want)
		}
	}
}

func TestCommitRefused(t *testing.T) {
	handle := EncodeHandle(queuedriver.Ref{Queue: "q", Seq: 1, Token: 1})
	for body, field := range map[string]string{
		`{"settle":[{"delivery":"x"}]}`:                                           "settle[0].delivery",
		`{"settle":[{"delivery":"` + handle + `","verb":"extend"}]}`:              "settle[0].verb",
		`{"settle":[{"delivery":"` + handle + `"},{"delivery":"","verb":"ack"}]}`: "settle[1].delivery",
		`{"publish":[{"key":"q","body":"a","body_base64":"YQ=="}]}`:               "publish[0].body",
		`{"publish":[{"key":"q"},{"key":"q","delay_ms":-1}]}`:                     "publish[1].delay_ms",
		`{"id":"i","result":"a","result_base64":"YQ=="}`:                          "result",
		`{"settle":[{"delivery":"` + handle + `","lease_ms":1}]}`:                 "settle[0].lease_ms",
		`{"release":[{"name":"n","holder":"h","token":1}]}`:                       "release[0].token",
		`{"require":[{"name":"n","holder":"h","token":"0"}]}`:                     "token",
		`{"publish":{"key":"q"}}`:                                                 "publish",
	} {
		var r CommitRequest
		err := Decode([]byte(body), &r)
		if err == nil {
			_, err = r.Driver()
		}
		if p := ProblemOf(err); err == nil || p.Field != field {
			t.Errorf("%s: %v about %q, want %q", body, err, ProblemOf(err).Field, field)
		}
	}
}

// TestCommitErrorCrosses: the part, the index, the reason and the sentinel.
func TestCommitErrorCrosses(t *testing.T) {
	for _, inner := range []error{lease.ErrNotHeld, queuedriver.ErrQueueFull, lease.ErrConflict, lease.Invalidf("message.order_key", "is not for queue %q", "q")} {
		want := &queuedriver.CommitError{Part: queuedriver.PartPublish, Index: 3, Err: inner}
		b, err := json.Marshal(ProblemOf(want))
		if err != nil {
			t.Fatal(err)
		}
		var p Problem
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		var got *queuedriver.CommitError
		if !errors.As(p.Err(), &got) || got.Part != want.Part || got.Index != want.Index || got.Error() != want.Error() {
			t.Errorf("%v became %v by %s", want, p.Err(), b)
		}
		var f *lease.FieldError
		if errors.As(inner, &f) != errors.As(p.Err(), &f) || f == nil && !errors.Is(p.Err(), inner) {
			t.Errorf("%v became %v", inner, p.Err())
		}
	}
}

func FuzzCommitRequest(f *testing.F) {
	b, err := NewCommitRequest(fullTxn())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"settle":[{"delivery":"AQ"}],"result":"a"}`))
	caps := &queuedriver.Caps{Commit: true, Store: "s", MaxLease: time.Hour}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r CommitRequest
		if Decode(data, &r) != nil {
			return
		}
		txn, err := r.Driver()
		if err != nil {
			if p := ProblemOf(err); p.Code == CodeInternal {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if txn.Validate(caps) != nil {
			return
		}
		again, err := NewCommitRequest(txn)
		if err != nil {
			t.Fatalf("%q was accepted and cannot be sent: %v", data, err)
		}
		var back CommitRequest
		if err := Decode(again, &back); err != nil {
			t.Fatalf("%q: %s cannot be read: %v", data, again, err)
		}
		other, err := back.Driver()
		if err != nil || other.Digest() != txn.Digest() {
			t.Fatalf("%q became %s: %v", data, again, err)
		}
	})
}
