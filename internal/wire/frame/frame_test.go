package frame

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// schema compiles docs/session.proto.
func schema(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"../../../docs"}}}
	files, err := c.Compile(context.Background(), "session.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

// filler sets every field that it can reach to a value that is not zero, so
// that a field which the codec does not carry is missed.
type filler struct{ *rand.Rand }

func (f filler) text() string { return fmt.Sprintf("é%x", f.Uint64()) }

func (f filler) fill(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(f.Int64N(1<<33)+1, f.Int64N(1e9)).UTC()))
		return
	case queuedriver.Headers:
		v.Set(reflect.ValueOf(f.headers(1)))
		return
	case error:
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(1 + f.Uint64N(5))
	case reflect.Uint64:
		v.SetUint(f.Uint64() | 1)
	case reflect.Int:
		v.SetInt(1 + f.Int64N(1<<31-1))
	case reflect.Int64:
		v.SetInt(f.Int64() | 1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		for range 1 + f.IntN(3) {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(k)
			f.fill(e)
			m.SetMapIndex(k, e)
		}
		v.Set(m)
	case reflect.Slice:
		n := 1 + f.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			f.fill(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Interface: // error
		p := wire.NewProblem(wire.CodeNotHeld, "", f.text())
		v.Set(reflect.ValueOf(p.Err()))
	default:
		panic("the test cannot fill a " + v.Type().String())
	}
}

func (f filler) headers(depth int) queuedriver.Headers {
	h := queuedriver.Headers{}
	for i, v := range f.values(depth) {
		h[fmt.Sprint("k", i)] = v
	}
	return h
}

func (f filler) values(depth int) []any {
	vs := []any{
		true, false, int64(0), int64(f.Uint64()), 0.0, f.NormFloat64(), "", f.text(),
		[]byte{}, []byte{0, 1, 0xff}, time.Unix(f.Int64N(1<<33), 0).UTC(), queuedriver.Headers{}, []any{},
	}
	if depth < 3 {
		vs = append(vs, f.headers(depth+1), f.values(depth+1))
	}
	return vs
}

func some[T any](f filler) T {
	var v T
	f.fill(reflect.ValueOf(&v).Elem())
	return v
}

// trip is one kind of frame there and back.
type trip struct {
	kind Kind
	run  func(t *testing.T, f filler) (body []byte, want any, parse func([]byte) (any, error))
}

func both[A, B any](a A, b B) []any { return []any{a, b} }

func trips() []trip {
	refs := func(k Kind, add func([]byte, []lockdriver.Ref) []byte) trip {
		return trip{k, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[[]lockdriver.Ref](f)
			return add(nil, v), v, func(b []byte) (any, error) { return ParseRefs(b, nil, new(int)) }
		}}
	}
	empty := func(k Kind, add func([]byte) []byte) trip {
		return trip{k, func(*testing.T, filler) ([]byte, any, func([]byte) (any, error)) {
			return add(nil), nil, func(b []byte) (any, error) { return nil, ParseEmpty(Frame{Body: b}) }
		}}
	}
	return []trip{
		{Acquire, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[lockdriver.Request](f)
			return AppendAcquire(nil, &v, true), both(&v, true), func(b []byte) (any, error) {
				q := &lockdriver.Request{}
				wait, err := ParseAcquire(b, q)
				return both(q, wait), err
			}
		}},
		refs(Renew, AppendRenew), refs(Release, AppendRelease),
		{Publish, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[[]queuedriver.Publishing](f)
			return AppendPublish(nil, v), v, func(b []byte) (any, error) { return ParsePublish(b, nil, new(int)) }
		}},
		{Receive, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[queuedriver.ReceiveRequest](f)
			v.Ahead = 0 // a session has its credit for that
			return AppendReceive(nil, &v, true), both(&v, true), func(b []byte) (any, error) {
				q, keep, err := ParseReceive(b)
				return both(q, keep), err
			}
		}},
		{Settle, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[[]queuedriver.Settlement](f)
			return AppendSettle(nil, v), v, func(b []byte) (any, error) { return ParseSettle(b, nil, new(int)) }
		}},
		{Call, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[Request](f)
			return AppendCall(nil, &v), &v, func(b []byte) (any, error) { return ParseCall(b) }
		}},
		empty(Cancel, AppendCancel), empty(Ping, AppendPing), empty(Pong, AppendPong), empty(Done, AppendDone),
		{Credit, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			n := some[int](f)
			return AppendCredit(nil, n), n, func(b []byte) (any, error) { return ParseCredit(b) }
		}},
		{Hello, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[Greeting](f)
			return AppendHello(nil, &v), &v, func(b []byte) (any, error) { return ParseHello(b) }
		}},
		{Granted, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[lockdriver.Grant](f)
			return AppendGranted(nil, &v), &v, func(b []byte) (any, error) { return ParseGranted(b) }
		}},
		{Queued, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[lockdriver.Ticket](f)
			return AppendQueued(nil, &v), &v, func(b []byte) (any, error) { return ParseQueued(b) }
		}},
		{Outcomes, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[[]lockdriver.Outcome](f)
			return AppendOutcomes(nil, v), v, func(b []byte) (any, error) { return ParseOutcomes(b) }
		}},
		{Receipts, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[[]queuedriver.Receipt](f)
			return AppendReceipts(nil, v), v, func(b []byte) (any, error) { return ParseReceipts(b, len(v)) }
		}},
		{Deliveries, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[[]queuedriver.Delivery](f)
			for i := range v { // all of one frame are of one queue
				v[i].Queue = v[0].Queue
			}
			return AppendDeliveries(nil, v, true), both(v, true), func(b []byte) (any, error) {
				ds, more, err := ParseDeliveries(b)
				return both(ds, more), err
			}
		}},
		{Settled, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[[]queuedriver.Outcome](f)
			return AppendSettled(nil, v), v, func(b []byte) (any, error) { return ParseSettled(b, len(v)) }
		}},
		{Reply, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[Answer](f)
			return AppendReply(nil, &v), &v, func(b []byte) (any, error) { return ParseReply(b) }
		}},
		{Problem, func(_ *testing.T, f filler) ([]byte, any, func([]byte) (any, error)) {
			v := some[wire.Problem](f)
			v.Code = wire.CodeNotHeld
			v.Type, v.Title, v.Status = "", "", 0 // they follow from the code
			return AppendProblem(nil, &v), &v, func(b []byte) (any, error) { return ParseProblem(b) }
		}},
	}
}

// TestEveryFrameThereAndBack sends every kind of frame with every field set:
// by our codec both ways, and through the schema in between, so that neither
// knows a field that the other does not.
func TestEveryFrameThereAndBack(t *testing.T) {
	batch := schema(t).Messages().ByName("Batch")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := filler{rand.New(rand.NewPCG(seed, 0))}
	var seen []Kind
	for _, tr := range trips() {
		seen = append(seen, tr.kind)
		for range 20 {
			body, want, parse := tr.run(t, f)
			id := f.Uint64() | 1
			ours := AppendFrame(nil, id, body)

			m := dynamicpb.NewMessage(batch)
			if err := proto.Unmarshal(ours, m); err != nil {
				t.Fatalf("%v: the schema cannot read %x: %v", tr.kind, ours, err)
			}
			if where := unknown(m.ProtoReflect()); where != "" {
				t.Fatalf("%v: the schema does not know a field of %s", tr.kind, where)
			}
			theirs, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			for who, b := range map[string][]byte{"ours": ours, "the schema's": theirs} {
				fr, rest, err := Next(b)
				if err != nil || len(rest) > 0 || fr.ID != id || fr.Kind != tr.kind {
					t.Fatalf("%v, %s: %v with id %d and %d bytes behind it, %v", tr.kind, who, fr.Kind, fr.ID, len(rest), err)
				}
				got, err := parse(fr.Body)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("%v, %s: got %+v, %v\nwant %+v", tr.kind, who, got, err, want)
				}
			}
		}
	}
	slices.Sort(seen)
	if !slices.Equal(seen, Kinds()) {
		t.Errorf("tried %v of %v", seen, Kinds())
	}
}

// TestSchemaNamesTheKinds: the numbers and names are those of the schema.
func TestSchemaNamesTheKinds(t *testing.T) {
	fields := schema(t).Messages().ByName("Frame").Fields()
	if fields.Len() != len(Kinds())+1 {
		t.Errorf("the schema has %d bodies, we have %d", fields.Len()-1, len(Kinds()))
	}
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Name() != "id" && Kind(fd.Number()).String() != string(fd.Name()) {
			t.Errorf("field %d is %s in the schema, %v here", fd.Number(), fd.Name(), Kind(fd.Number()))
		}
	}
}

func unknown(m protoreflect.Message) (where string) {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().FullName())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
				if fd.MapValue().Message() != nil && where == "" {
					where = unknown(e.Message())
				}
				return true
			})
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				if where == "" {
					where = unknown(v.List().Get(i).Message())
				}
			}
		case fd.Message() != nil:
			where = unknown(v.Message())
		}
		return where == ""
	})
	return where
}

// TestStrictAndLenient: what a client sends has no field that is not known;
// what a server sends may.
func TestStrictAndLenient(t *testing.T) {
	extra := []byte{0xf8, 0x07, 1} // field 127
	_, err := ParseAcquire(extra, &lockdriver.Request{})
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "acquire has an unknown field 127") {
		t.Errorf("acquire: %v", err)
	}
	if _, err := ParseGranted(extra); err != nil {
		t.Errorf("granted: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	frame := func(body ...byte) []byte { return append([]byte{0x0a, byte(len(body))}, body...) }
	for name, b := range map[string][]byte{
		"a cut tag":          {0x80},
		"a cut length":       {0x0a, 0x80},
		"half a frame":       {0x0a, 5, 8, 1},
		"another field":      {0x12, 0},
		"a varint for bytes": {0x08, 1},
		"a group":            {0x0b, 0x0c},
		"no body":            frame(0x08, 1),
		"two bodies":         frame(0x62, 0, 0x72, 0),
		"a body as varint":   frame(0x60, 1),
		"id as bytes":        frame(0x0a, 0, 0x62, 0),
		"a long varint":      frame(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	} {
		if f, _, err := Next(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

// TestBoundsOfLists: a list may have as many elements as the drivers take, and
// not one more; all lists of a batch together have a bound too.
func TestBoundsOfLists(t *testing.T) {
	body := func(n int) []byte {
		f, _, err := Next(AppendFrame(nil, 1, AppendRelease(nil, make([]lockdriver.Ref, n))))
		if err != nil {
			t.Fatal(err)
		}
		return f.Body
	}
	if refs, err := ParseRefs(body(lockdriver.MaxBatch), nil, new(int)); err != nil || len(refs) != lockdriver.MaxBatch {
		t.Errorf("the most: %d, %v", len(refs), err)
	}
	if _, err := ParseRefs(body(lockdriver.MaxBatch+1), nil, new(int)); !errors.Is(err, ErrMalformed) {
		t.Errorf("one more: %v", err)
	}
	items := MaxItems - 2
	if _, err := ParseRefs(body(2), nil, &items); err != nil {
		t.Errorf("the most of a batch: %v", err)
	}
	if _, err := ParseRefs(body(1), nil, &items); !errors.Is(err, ErrMalformed) {
		t.Errorf("one more in a batch: %v", err)
	}
}

// TestNesting: headers may be nested as deep as MaxDepth, whatever they claim.
func TestNesting(t *testing.T) {
	deep := func(n int) error {
		var v any = []any{}
		for range n - 1 {
			v = []any{v}
		}
		ps := []queuedriver.Publishing{{Message: &queuedriver.Message{Headers: queuedriver.Headers{"k": v}}}}
		f, _, err := Next(AppendFrame(nil, 1, AppendPublish(nil, ps)))
		if err != nil {
			return err
		}
		_, err = ParsePublish(f.Body, nil, new(int))
		return err
	}
	if err := deep(MaxDepth); err != nil {
		t.Errorf("the deepest: %v", err)
	}
	if err := deep(MaxDepth + 1); !errors.Is(err, ErrMalformed) {
		t.Errorf("one deeper: %v", err)
	}
}

// TestLengthsAreRight: whatever was guessed, lengths are shortest varints.
func TestLengthsAreRight(t *testing.T) {
	for _, hint := range []int{0, 127, 128, 1 << 14, 1 << 21} {
		for _, n := range []int{0, 1, 127, 128, 1<<14 - 1, 1 << 14, 1 << 21} {
			b, m := open([]byte("before"), 3, hint)
			b = shut(append(b, bytes.Repeat([]byte{7}, n)...), m)
			want := appendBytes([]byte("before"), 3, bytes.Repeat([]byte{7}, n))
			if n == 0 {
				want = append([]byte("before"), 0x1a, 0)
			}
			if !bytes.Equal(b, want) {
				t.Errorf("hint %d, %d bytes: %.20x", hint, n, b)
			}
		}
	}
}

// FuzzBatch: no input makes the decoder panic, or take more memory than the
// bounds of lists admit; what it accepts it can write again.
func FuzzBatch(f *testing.F) {
	fill := filler{rand.New(rand.NewPCG(1, 2))}
	var all []byte
	for i, tr := range trips() {
		body, _, _ := tr.run(nil, fill)
		all = AppendFrame(all, uint64(i), body)
		f.Add(AppendFrame(nil, 1, body))
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, batch []byte) {
		items := 0
		for len(batch) > 0 {
			fr, rest, err := Next(batch)
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
				return
			}
			batch = rest
			fuzzBody(t, fr, &items)
		}
	})
}

func fuzzBody(t *testing.T, f Frame, items *int) {
	t.Helper()
	var again []byte
	var err error
	switch f.Kind {
	case Acquire:
		var r lockdriver.Request
		var wait bool
		if wait, err = ParseAcquire(f.Body, &r); err == nil {
			again = AppendAcquire(nil, &r, wait)
		}
	case Renew, Release:
		var refs []lockdriver.Ref
		if refs, err = ParseRefs(f.Body, nil, items); err == nil {
			again = AppendRenew(nil, refs)
		}
	case Publish:
		var ps []queuedriver.Publishing
		if ps, err = ParsePublish(f.Body, nil, items); err == nil {
			again = AppendPublish(nil, ps)
		}
	case Receive:
		_, _, err = ParseReceive(f.Body)
	case Settle:
		_, err = ParseSettle(f.Body, nil, items)
	case Call:
		_, err = ParseCall(f.Body)
	case Credit:
		_, err = ParseCredit(f.Body)
	case Hello:
		_, err = ParseHello(f.Body)
	case Granted:
		_, err = ParseGranted(f.Body)
	case Queued:
		_, err = ParseQueued(f.Body)
	case Outcomes:
		_, err = ParseOutcomes(f.Body)
	case Receipts:
		_, err = ParseReceipts(f.Body, 100)
	case Deliveries:
		var ds []queuedriver.Delivery
		if ds, _, err = ParseDeliveries(f.Body); err == nil {
			again = AppendDeliveries(nil, ds, true)
		}
	case Settled:
		_, err = ParseSettled(f.Body, 100)
	case Reply:
		_, err = ParseReply(f.Body)
	case Problem:
		_, err = ParseProblem(f.Body)
	default:
		err = ParseEmpty(f)
	}
	if err != nil && !errors.Is(err, ErrMalformed) {
		t.Fatalf("%v: %v", f.Kind, err)
	}
	if *items > MaxItems+1 {
		t.Fatalf("%d items", *items)
	}
	if again != nil {
		if _, _, err := Next(AppendFrame(nil, 1, again)); err != nil {
			t.Fatalf("%v written again: %v", f.Kind, err)
		}
	}
}
