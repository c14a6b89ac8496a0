package driver

import (
	"encoding/hex"
	"testing"
	"time"
)

func digestTxn() *Txn {
	return &Txn{
		ID: "id", Result: []byte("r"), ResultFor: time.Hour,
		Settle:  []Settlement{{Ref: Ref{Queue: "in", Seq: 7, Token: 9}, Verb: Nack, Delay: time.Second, Reason: "why"}},
		Release: []LockRef{{Name: "a", Holder: "h", Token: 1}},
		Require: []LockRef{{Name: "b", Holder: "h", Token: 2}},
		Publish: []Publishing{{Route: Route{Exchange: "x", Key: "k"}, Mandatory: true, Message: &Message{
			ID: "m", OrderKey: "o", Body: []byte("body"), Priority: 3, TTL: 1, Delay: 2, NotBefore: time.Unix(3, 4), Timestamp: time.Unix(5, 0),
			ContentType: "t", ContentEncoding: "e", CorrelationID: "c", ReplyTo: "y", Type: "p", AppID: "a", UserID: "u",
			Headers: Headers{"bool": true, "int": int64(1), "float": 1.5, "s": "x", "b": []byte{1}, "t": time.Unix(1, 0), "h": Headers{"x": "y"}, "l": []any{int64(1), "2"}},
		}}},
	}
}

// TestDigestStays pins what stores have on disk.
func TestDigestStays(t *testing.T) {
	sum := digestTxn().Digest()
	if got := hex.EncodeToString(sum[:]); got != digestGolden {
		t.Errorf("the digest has changed: %s", got)
	}
}

// TestDigestTellsApart changes one thing at a time.
func TestDigestTellsApart(t *testing.T) {
	seen := map[[32]byte]string{digestTxn().Digest(): "nothing"}
	for name, change := range map[string]func(t *Txn, m *Message){
		"queue": func(t *Txn, _ *Message) { t.Settle[0].Ref.Queue = "i" }, "seq": func(t *Txn, _ *Message) { t.Settle[0].Ref.Seq++ },
		"verb": func(t *Txn, _ *Message) { t.Settle[0].Verb = Ack }, "delay of a nack": func(t *Txn, _ *Message) { t.Settle[0].Delay++ },
		"backoff": func(t *Txn, _ *Message) { t.Settle[0].Backoff = true }, "reason": func(t *Txn, _ *Message) { t.Settle[0].Reason = "" },
		"no settle": func(t *Txn, _ *Message) { t.Settle = nil }, "no publish": func(t *Txn, _ *Message) { t.Publish = nil },
		"twice": func(t *Txn, _ *Message) { t.Publish = append(t.Publish, t.Publish[0]) }, "result": func(t *Txn, _ *Message) { t.Result = nil },
		"released": func(t *Txn, _ *Message) { t.Release[0].Name = "b" }, "required": func(t *Txn, _ *Message) { t.Require, t.Release = t.Release, t.Require },
		"exchange": func(t *Txn, _ *Message) { t.Publish[0].Route = Route{Exchange: "xk"} }, "mandatory": func(t *Txn, _ *Message) { t.Publish[0].Mandatory = false },
		"id": func(_ *Txn, m *Message) { m.ID = "" }, "order key": func(_ *Txn, m *Message) { m.OrderKey = "" }, "body": func(_ *Txn, m *Message) { m.Body = nil },
		"priority": func(_ *Txn, m *Message) { m.Priority++ }, "ttl": func(_ *Txn, m *Message) { m.TTL++ }, "delay": func(_ *Txn, m *Message) { m.Delay++ },
		"not before": func(_ *Txn, m *Message) { m.NotBefore = m.NotBefore.Add(1) }, "timestamp": func(_ *Txn, m *Message) { m.Timestamp = time.Time{} },
		"moved text": func(_ *Txn, m *Message) { m.ContentType, m.ContentEncoding = "te", "" }, "user": func(_ *Txn, m *Message) { m.UserID = "v" },
		"no headers": func(_ *Txn, m *Message) { m.Headers = nil }, "header": func(_ *Txn, m *Message) { m.Headers["int"] = int64(2) },
		"type of a header": func(_ *Txn, m *Message) { m.Headers["int"] = 1.0 }, "list": func(_ *Txn, m *Message) { m.Headers["l"] = []any{int64(1), int64(2)} },
		"table": func(_ *Txn, m *Message) { m.Headers["h"] = Headers{} }, "bytes": func(_ *Txn, m *Message) { m.Headers["b"] = "\x01" },
		"bool": func(_ *Txn, m *Message) { m.Headers["bool"] = false }, "time": func(_ *Txn, m *Message) { m.Headers["t"] = time.Unix(2, 0) },
	} {
		txn := digestTxn()
		change(txn, txn.Publish[0].Message)
		sum := txn.Digest()
		if same, there := seen[sum]; there {
			t.Errorf("a change of %s is like one of %s", name, same)
		}
		seen[sum] = name
	}
}

// TestDigestLooksPast: who does it, how often it is tried, how long it is kept.
func TestDigestLooksPast(t *testing.T) {
	txn := digestTxn()
	txn.ID, txn.ResultFor = "other", 0
	txn.Settle[0].Ref.Token++
	txn.Release[0].Holder, txn.Require[0].Token = "other", 5
	txn.Publish[0].Message.Headers[HeaderTraceParent] = "00-1"
	txn.Publish[0].Message.NotBefore = txn.Publish[0].Message.NotBefore.UTC()
	if txn.Digest() != digestTxn().Digest() {
		t.Error("another token, holder, trace, ID or ResultFor is taken for another content")
	}
}

const digestGolden = "e3dbe44348092714d68cbcca92b87ac89b65154ace1d6033eb007b3c1c47d6a7"
