package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand" //nolint:depguard // testing/quick takes no other
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

var update = flag.Bool("update", false, "write the golden files anew")

// codec is a record as the tests see it.
type codec struct {
	name   string
	sample any // of the type that encode takes and decode returns
	encode func(any) []byte
	decode func([]byte) (any, error)
}

func codecOf[T any](name string, sample T, enc func([]byte, *T) []byte, dec func([]byte) (*T, error)) codec {
	return codec{name, sample,
		func(v any) []byte { t := v.(T); return enc(nil, &t) },
		func(b []byte) (any, error) {
			v, err := dec(b)
			if err != nil {
				return nil, err
			}
			return *v, nil
		},
	}
}

var day = time.Unix(1_700_000_000, 0).UTC()

var fullMessage = Message{
	Route:     queuedriver.Route{Exchange: "orders", Key: "eu.created"},
	Published: 1_700_000_000_123_456_789,
	Message: &queuedriver.Message{
		ID: "id", OrderKey: "customer-1",
		Headers: queuedriver.Headers{
			"bool": true, "no": false, "int": int64(-5), "float": 2.5, "string": "s", "bytes": []byte{0, 255},
			"time": day, "table": queuedriver.Headers{"x": int64(1)}, "list": []any{"a", int64(2), []any{}},
		},
		Body: []byte("body"), Priority: 9, TTL: time.Minute, Delay: time.Hour, NotBefore: day.Add(1),
		ContentType: "text/plain", ContentEncoding: "gzip", CorrelationID: "c", ReplyTo: "r", Type: "t",
		AppID: "a", UserID: "u", Timestamp: day,
	},
}

func someAcks() AckSet {
	var a AckSet
	a.Add(4096, 3)
	a.Add(4200, 1)
	a.Add(8191, 1)
	return a
}

var codecs = []codec{
	codecOf("meta", Meta{Format: 1, Incarnation: [16]byte{1, 2, 15: 16}, TokenReserve: 1 << 60, NextQueueID: 7}, AppendMeta, DecodeMeta),
	codecOf("lock", Lock{Mode: lockdriver.Shared, Permits: 3, ClosedFor: time.Second, Grants: []LockGrant{
		{Holder: "h1", RequestID: "r", Token: 1<<64 - 1, TTL: time.Minute, LockDelay: time.Second, Revoked: true, Meta: map[string]string{"b": "2", "a": "1"}},
		{Holder: "h2", Token: 2},
	}}, AppendLock, DecodeLock),
	codecOf("lock_value", Lock{Permits: 1, Grants: []LockGrant{{Holder: "h1", Token: 1, Value: []byte("10.0.0.1:80")}, {Holder: "h2", Token: 2}}}, AppendLock, DecodeLock),
	codecOf("exchange", queuedriver.Exchange{Name: "x", Kind: queuedriver.Topic}, AppendExchange, DecodeExchange),
	codecOf("exchange_alternate", queuedriver.Exchange{Name: "x", Kind: queuedriver.Direct, Alternate: "rest"}, AppendExchange, DecodeExchange),
	codecOf("queue_policy", Queue{ID: 3, Spec: queuedriver.Queue{
		Name: "q", Lease: time.Second, MaxPriority: 9, MessageTTL: time.Minute, Expires: time.Hour, MaxLength: 7, MaxBytes: 1 << 40,
		Overflow: queuedriver.DropHead, SingleActive: true, Exclusive: true, AutoDelete: true,
	}}, AppendQueue, DecodeQueue),
	codecOf("queue_stream", Queue{ID: 4, Spec: queuedriver.Queue{
		Name: "s", Type: queuedriver.Stream, Retention: queuedriver.Retention{Age: time.Hour, Messages: 5, Bytes: 6},
	}}, AppendQueue, DecodeQueue),
	codecOf("binding_exchange", queuedriver.Binding{Exchange: "x", ToExchange: "y", Key: "a.*"}, AppendBinding, DecodeBinding),
	codecOf("queue", Queue{ID: 1 << 31, Spec: queuedriver.Queue{
		Name: "q", Lease: time.Second, DeliveryLimit: 20, DeadLetter: &queuedriver.Route{Exchange: "dlx", Key: "k"},
		Backoff: queuedriver.Backoff{Min: 1, Max: 2}, DedupWindow: time.Hour,
	}}, AppendQueue, DecodeQueue),
	codecOf("binding", queuedriver.Binding{Exchange: "x", Queue: "q", Key: "a.*", Args: queuedriver.Headers{"x-match": "any"}}, AppendBinding, DecodeBinding),
	codecOf("message", fullMessage, AppendMessage, DecodeMessage),
	codecOf("message_trail", Message{Trail: "\x00\x00\x00\x07", Message: &queuedriver.Message{Body: []byte("b")}}, AppendMessage, DecodeMessage),
	codecOf("message_empty", Message{Message: &queuedriver.Message{}}, AppendMessage, DecodeMessage),
	codecOf("index", IndexBlock{FirstSeq: 1 << 40, Published: 5, Bytes: 9, Entries: []Index{{KeyHash: 1 << 63, Size: 3}, {Size: 1 << 24}}}, AppendIndexBlock, DecodeIndexBlock),
	codecOf("index_expires", IndexBlock{FirstSeq: 1, Published: -5, Entries: []Index{{Size: 3}, {Size: 4, KeyHash: 7, Expires: 1 << 60}}}, AppendIndexBlock, DecodeIndexBlock),
	codecOf("index_keyless", IndexBlock{FirstSeq: 1, Entries: []Index{{Size: 3}}}, AppendIndexBlock, DecodeIndexBlock),
	codecOf("acks", someAcks(), AppendAckSet, DecodeAckSet),
	codecOf("attempt", Attempt{Count: 3, LastToken: 1 << 50, NotBefore: -1}, AppendAttempt, DecodeAttempt),
	codecOf("fetch", Fetch{Consumer: "c", TTL: time.Second, FirstToken: 9, Seqs: []uint64{5, 6, 3, 1<<64 - 1}}, AppendFetch, DecodeFetch),
	codecOf("delayed", Delayed{Due: 77, Seq: 8, Message: fullMessage}, AppendDelayed, DecodeDelayed),
	codecOf("result", Result{Digest: [32]byte{1, 31: 32}, Until: -7, Settled: []bool{true, false},
		Receipts: []Receipt{{Queues: 300, Duplicate: true}, {}}, Result: []byte("ok")}, AppendResult, DecodeResult),
	{"number", uint64(300),
		func(v any) []byte { return AppendNumber(nil, v.(uint64)) },
		func(b []byte) (any, error) { n, err := DecodeNumber(b); return n, err },
	},
	codecOf("counters", Counters{
		NextSeq: 1, NextDelayed: 2, NextFetch: 3, Head: 4, SeenBucket: -5, Live: 6, Bytes: 7, Delayed: 8, Published: 9,
		Duplicates: 10, Delivered: 11, Acked: 12, Nacked: 13, Expired: 14, DeadLettered: 15, Dropped: 16,
	}, AppendCounters, DecodeCounters),
	{"levels", []Level{{NextSeq: 1<<56 + 1}, {NextSeq: 9<<56 + 5000, Head: 9<<56 + 4096}},
		func(v any) []byte { return AppendLevels(nil, v.([]Level)) },
		func(b []byte) (any, error) { l, err := DecodeLevels(b); return l, err },
	},
	{"waiting", []Waiting{
		{ID: [16]byte{1, 15: 2}, DelayedAt: DelayedAt{Due: 1_700_000_000_123_456_789, Seq: 1 << 40}},
		{DelayedAt: DelayedAt{Due: -5, Seq: 1<<40 + 1}}, {DelayedAt: DelayedAt{Due: 1<<63 - 1, Seq: 3}},
	},
		func(v any) []byte { return AppendWaiting(nil, v.([]Waiting)) },
		func(b []byte) (any, error) { w, err := DecodeWaiting(b); return w, err },
	},
	codecOf("schedule", queuedriver.Schedule{
		Name: "report", Cron: "0 9 * * MON-FRI", TimeZone: "Europe/Berlin", Route: queuedriver.Route{Exchange: "x", Key: "k"},
		Message: &queuedriver.Message{Headers: queuedriver.Headers{"h": int64(1)}, Body: []byte("body"), ContentType: "text/plain"},
		Missed:  queuedriver.MissedLatest, Paused: true,
	}, AppendSchedule, DecodeSchedule),
	codecOf("ticks", ScheduleState{Last: 1_700_000_000_000_000_000, Fired: 2, Published: 3, Skipped: 4, Failed: 5, Error: "why"},
		AppendScheduleState, DecodeScheduleState),
	codecOf("counters_limits", Counters{NextSeq: 1, TimedOut: 17, Overflowed: 18, Refused: 19, Mortal: 20}, AppendCounters, DecodeCounters),
}

// TestGolden pins the encoding: stores on disk have it.
func TestGolden(t *testing.T) {
	for _, c := range codecs {
		got := hex.EncodeToString(c.encode(c.sample)) + "\n"
		checkGolden(t, c.name, got)
		v, err := c.decode(c.encode(c.sample))
		if err != nil || !reflect.DeepEqual(v, c.sample) {
			t.Errorf("%s: %+v, %v\nwant %+v", c.name, v, err, c.sample)
		}
	}
	block := AppendBlock(nil, []byte("key"), []Message{fullMessage, {Message: &queuedriver.Message{}}})
	checkGolden(t, "block", hex.EncodeToString(block)+"\n")
	checkGolden(t, "sealed", hex.EncodeToString(Seal([]byte("key"), []byte("value")))+"\n")
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".hex")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got {
		t.Errorf("%s: the encoding has changed: %v\nhave %swant %s", name, err, got, want)
	}
}

// TestDecodeDamaged cuts every sample short, appends to it and changes its
// version: always an error that names the record, never a panic.
func TestDecodeDamaged(t *testing.T) {
	for _, c := range codecs {
		enc := c.encode(c.sample)
		record, _, _ := strings.Cut(c.name, "_")
		bad := [][]byte{append(bytes.Clone(enc), 0)}
		for n := range enc {
			bad = append(bad, enc[:n:n])
		}
		if record != "message" {
			bad = append(bad, append([]byte{version + 98}, enc[1:]...))
		} else {
			bad = append(bad, appendUint(nil, hasUnknown))
		}
		for _, b := range bad {
			_, err := c.decode(b)
			if e := (*Error)(nil); !errors.As(err, &e) || e.Record != record || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %x: %v", c.name, b, err)
			}
		}
	}
}

func TestSealDetectsEveryBit(t *testing.T) {
	key, sealed := []byte("key"), Seal([]byte("key"), []byte("value"))
	if v, err := Unseal(key, sealed); err != nil || string(v) != "value" {
		t.Fatalf("%q, %v", v, err)
	}
	for i := range 8 * len(sealed) {
		b := bytes.Clone(sealed)
		b[i/8] ^= 1 << (i % 8)
		if _, err := Unseal(key, b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	if _, err := Unseal([]byte("kez"), sealed); !errors.Is(err, ErrCorrupt) {
		t.Errorf("under another key: %v", err)
	}
}

func TestBlockDetectsEveryBit(t *testing.T) {
	key, msgs := []byte("key"), []Message{fullMessage, {Message: &queuedriver.Message{Body: []byte("x")}}}
	enc := AppendBlock(nil, key, msgs)
	read := func(b []byte) (err error) {
		blk, err := OpenBlock(key, b)
		if err != nil {
			return err
		}
		for i := range blk.Len() {
			m, e := blk.Message(i)
			if err = errors.Join(err, e); e == nil && !reflect.DeepEqual(*m, msgs[i]) {
				t.Errorf("message %d is %+v", i, m)
			}
		}
		return err
	}
	if err := read(enc); err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(enc) {
		b := bytes.Clone(enc)
		b[i/8] ^= 1 << (i % 8)
		if err := read(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	for n := range enc {
		if err := read(enc[:n:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
}

// randomMessage makes a message with each field there or not.
func randomMessage(r *rand.Rand) Message {
	text := func() string {
		if r.Intn(2) == 0 {
			return ""
		}
		return strings.Repeat("é", r.Intn(100))
	}
	m := Message{Route: queuedriver.Route{Exchange: text(), Key: text()}, Published: int64(r.Uint64()), Message: &queuedriver.Message{
		ID: text(), OrderKey: text(), Priority: uint8(r.Intn(3)), TTL: time.Duration(r.Intn(2)) * time.Hour,
		Delay: -time.Duration(r.Intn(2)), ContentType: text(), ContentEncoding: text(), CorrelationID: text(),
		ReplyTo: text(), Type: text(), AppID: text(), UserID: text(),
	}}
	if r.Intn(2) == 0 {
		m.Trail = "\x00\x00\x00\x07\xff\xff\xff\xff"
		m.Headers = randomHeaders(r, 1)
		m.NotBefore = time.Unix(r.Int63n(1<<33), r.Int63n(1e9)).UTC()
		m.Timestamp = time.Unix(r.Int63n(1<<33), 0).UTC()
		m.Body = make([]byte, 1+r.Intn(300))
		r.Read(m.Body)
	}
	return m
}

func randomHeaders(r *rand.Rand, least int) queuedriver.Headers {
	h := queuedriver.Headers{}
	for range least + r.Intn(5) {
		h[fmt.Sprint("key", r.Intn(1000))] = randomValue(r, 0)
	}
	return h
}

func randomValue(r *rand.Rand, depth int) any {
	kinds := 8
	if depth == 3 {
		kinds = 6
	}
	switch r.Intn(kinds) {
	case 0:
		return r.Intn(2) == 0
	case 1:
		return int64(r.Uint64())
	case 2:
		return r.NormFloat64()
	case 3:
		return strings.Repeat("x", r.Intn(200))
	case 4:
		return bytes.Repeat([]byte{1}, r.Intn(200))
	case 5:
		return time.Unix(r.Int63n(1<<35), 0).UTC()
	case 6:
		h := queuedriver.Headers{}
		for i := range r.Intn(3) {
			h[fmt.Sprint(i)] = randomValue(r, depth+1)
		}
		return h
	default:
		list := []any{}
		for range r.Intn(3) {
			list = append(list, randomValue(r, depth+1))
		}
		return list
	}
}

func TestMessageRoundTrip(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 2000 {
		m := randomMessage(r)
		enc := AppendMessage(nil, &m)
		if len(enc) != messageSize(&m) {
			t.Fatalf("%d bytes, messageSize says %d", len(enc), messageSize(&m))
		}
		got, err := DecodeMessage(enc)
		if err != nil || !reflect.DeepEqual(*got, m) {
			t.Fatalf("%+v, %v\nwant %+v", got, err, m)
		}
	}
}

// TestRecordsRoundTrip takes random values of the records that have no fields
// with rules of their own.
func TestRecordsRoundTrip(t *testing.T) {
	conf := &quick.Config{MaxCount: 300, Rand: rand.New(rand.NewSource(1))}
	check := func(f any) {
		t.Helper()
		if err := quick.Check(f, conf); err != nil {
			t.Error(err)
		}
	}
	check(func(m Meta) bool { v, err := DecodeMeta(AppendMeta(nil, &m)); return err == nil && *v == m })
	check(func(a Attempt) bool { v, err := DecodeAttempt(AppendAttempt(nil, &a)); return err == nil && *v == a })
	check(func(c Counters) bool { v, err := DecodeCounters(AppendCounters(nil, &c)); return err == nil && *v == c })
	check(func(c string, ttl int64, tok uint64, seqs []uint64) bool {
		if len(seqs) == 0 {
			seqs = nil
		}
		f := Fetch{Consumer: c, TTL: time.Duration(ttl), FirstToken: lease.Token(tok), Seqs: seqs}
		v, err := DecodeFetch(AppendFetch(nil, &f))
		return err == nil && reflect.DeepEqual(*v, f)
	})
	check(func(g LockGrant) bool {
		if len(g.Meta) == 0 {
			g.Meta = nil
		}
		if len(g.Value) == 0 {
			g.Value = nil
		}
		l := Lock{Permits: 1, Grants: []LockGrant{g, {Holder: "x"}}}
		v, err := DecodeLock(AppendLock(nil, &l))
		return err == nil && reflect.DeepEqual(*v, l)
	})
}

// fuzzCodec checks that what is decoded is encoded to the same bytes: one
// value has one encoding, and nothing is overlooked.
func fuzzCodec(f *testing.F, name string) {
	f.Helper()
	for _, c := range codecs {
		if record, _, _ := strings.Cut(c.name, "_"); record != name {
			continue
		}
		f.Add(c.encode(c.sample))
		f.Fuzz(func(t *testing.T, b []byte) {
			v, err := c.decode(b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("an error without a class: %v", err)
				}
				return
			}
			if again := c.encode(v); !bytes.Equal(again, b) {
				t.Errorf("%x is read as %+v and written as %x", b, v, again)
			}
		})
		return
	}
	f.Fatalf("no codec %q", name)
}

func FuzzMeta(f *testing.F)     { fuzzCodec(f, "meta") }
func FuzzNumber(f *testing.F)   { fuzzCodec(f, "number") }
func FuzzResult(f *testing.F)   { fuzzCodec(f, "result") }
func FuzzLock(f *testing.F)     { fuzzCodec(f, "lock") }
func FuzzExchange(f *testing.F) { fuzzCodec(f, "exchange") }
func FuzzQueue(f *testing.F)    { fuzzCodec(f, "queue") }
func FuzzBinding(f *testing.F)  { fuzzCodec(f, "binding") }
func FuzzMessage(f *testing.F)  { fuzzCodec(f, "message") }
func FuzzIndex(f *testing.F)    { fuzzCodec(f, "index") }
func FuzzAttempt(f *testing.F)  { fuzzCodec(f, "attempt") }
func FuzzFetch(f *testing.F)    { fuzzCodec(f, "fetch") }
func FuzzDelayed(f *testing.F)  { fuzzCodec(f, "delayed") }
func FuzzCounters(f *testing.F) { fuzzCodec(f, "counters") }

func FuzzSchedule(f *testing.F) { fuzzCodec(f, "schedule") }
func FuzzTicks(f *testing.F)    { fuzzCodec(f, "ticks") }

// FuzzAcks allows for two forms of one set: a decoder that compares them would
// slow down every merge.
func FuzzAcks(f *testing.F) {
	a := someAcks()
	f.Add(AppendAckSet(nil, &a))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := DecodeAckSet(b)
		if err != nil {
			return
		}
		again, err := DecodeAckSet(AppendAckSet(nil, a))
		if err != nil || *again != *a {
			t.Errorf("%x does not survive: %v", b, err)
		}
	})
}

func FuzzBlock(f *testing.F) {
	key := []byte("key")
	f.Add(AppendBlock(nil, key, []Message{fullMessage, {Message: &queuedriver.Message{}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		blk, err := OpenBlock(key, b)
		if err != nil {
			return
		}
		for i := range blk.Len() {
			if _, err := blk.Message(i); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("an error without a class: %v", err)
			}
		}
	})
}
