package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

type order struct {
	ID   int               `json:"id"`
	Tags map[string]string `json:"tags,omitempty"`
}

var orders = Typed[order]{Type: "order.created"}

func TestTypedMessage(t *testing.T) {
	m, err := orders.Message(order{ID: 7, Tags: map[string]string{"b": "2", "a": "1"}})
	if err != nil || m.ContentType != "application/json" || m.Type != "order.created" || string(m.Body) != `{"id":7,"tags":{"a":"1","b":"2"}}` {
		t.Fatalf("%+v, %v", m, err)
	}
	o, err := orders.Decode(m)
	if err != nil || o.ID != 7 || o.Tags["b"] != "2" {
		t.Errorf("%+v, %v", o, err)
	}
}

// What is not of the type is ErrUndecodable, with a reason; what is close
// enough is not.
func TestTypedDecode(t *testing.T) {
	good := Message{ContentType: "application/json", Type: "order.created", Body: []byte(`{"id":1}`)}
	for name, c := range map[string]struct {
		change func(m *Message)
		want   string // in the error; "" for none
	}{
		"as it is":              {func(*Message) {}, ""},
		"with parameters":       {func(m *Message) { m.ContentType = "Application/JSON; charset=utf-8" }, ""},
		"without content type":  {func(m *Message) { m.ContentType = "" }, ""},
		"a field more":          {func(m *Message) { m.Body = []byte(`{"id":1,"new":2}`) }, ""},
		"another type":          {func(m *Message) { m.Type = "order.paid" }, `"order.paid"`},
		"no type":               {func(m *Message) { m.Type = "" }, "type"},
		"another content type":  {func(m *Message) { m.ContentType = "text/plain" }, "text/plain"},
		"a broken content type": {func(m *Message) { m.ContentType = ";;" }, ";;"},
		"compressed":            {func(m *Message) { m.ContentEncoding = "gzip" }, "gzip"},
		"no body":               {func(m *Message) { m.Body = nil }, "end of JSON"},
		"two values":            {func(m *Message) { m.Body = []byte(`{} {}`) }, "after top-level"},
		"of another form":       {func(m *Message) { m.Body = []byte(`{"id":"x"}`) }, "id"},
		"deep":                  {func(m *Message) { m.Body = []byte(strings.Repeat("[", 100_000)) }, "depth"},
		"too long":              {func(m *Message) { m.Body = make([]byte, DefaultTypedBytes+1) }, "at most 1048576"},
	} {
		m := good
		c.change(&m)
		_, err := orders.Decode(&m)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrUndecodable) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// panicky is a codec that fails in the worst way.
type panicky struct{ Codec[order] }

func (panicky) ContentType() string          { return "x/y" }
func (panicky) Encode(order) ([]byte, error) { panic("boo") }
func (panicky) Decode([]byte) (order, error) { panic("boo") }

func TestTypedSurvivesItsCodec(t *testing.T) {
	bad := Typed[order]{Codec: panicky{}}
	_, err := bad.Message(order{})
	wantIs(t, err, ErrInvalid)
	_, err = bad.Decode(&Message{})
	wantIs(t, err, ErrUndecodable)
	_, err = (Typed[any]{}).Message(make(chan int))
	wantIs(t, err, ErrInvalid)
	_, err = (Typed[string]{MaxBytes: 3}).Message("ab") // with its quotes 4
	wantIs(t, err, ErrInvalid)
	if _, err = (Typed[string]{MaxBytes: 4}).Message("ab"); err != nil {
		t.Error(err)
	}
}

// A message that cannot be decoded is rejected at once and never reaches the
// handler.
func TestTypedServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		if _, err := orders.Publish(t.Context(), b, Route{Key: "q"}, order{ID: 1}, order{ID: 2}); err != nil {
			t.Fatal(err)
		}
		good := c.published[1].Message
		c.put(good, msg("garbage"), &Message{Type: "order.created", Body: []byte("{")}, good)
		ctx, cancel := context.WithCancel(t.Context())
		handled := 0
		err := orders.Serve(ctx, b, "q", func(_ context.Context, o order, d *Delivery) error {
			if o.ID != 2 || d.Message != good {
				t.Errorf("handled %+v of %+v", o, d.Message)
			}
			if handled++; handled == 2 {
				cancel()
			}
			return nil
		}, nil)
		if err != nil || handled != 2 {
			t.Fatalf("handled %d, %v", handled, err)
		}
		var rejected []string
		for _, s := range c.settled {
			if s.Verb == driver.Reject {
				rejected = append(rejected, s.Reason)
			}
		}
		if len(rejected) != 2 || !strings.Contains(rejected[0], `of type ""`) || !strings.Contains(rejected[1], "unexpected end") {
			t.Errorf("rejected %q", rejected)
		}
		wantIs(t, orders.Serve(t.Context(), b, "q", nil, nil), ErrInvalid)
		_, err = (Typed[any]{}).Publish(t.Context(), b, Route{Key: "q"}, 1, make(chan int))
		wantIs(t, err, ErrInvalid)
	})
}

// FuzzTypedDecode: a value or an error, and what was decoded can be encoded.
func FuzzTypedDecode(f *testing.F) {
	f.Add("application/json", "order.created", "", []byte(`{"id":1,"tags":{"a":"b"}}`))
	f.Add("", "", "gzip", []byte{0xff})
	f.Fuzz(func(t *testing.T, contentType, kind, encoding string, body []byte) {
		o, err := orders.Decode(&Message{ContentType: contentType, Type: kind, ContentEncoding: encoding, Body: body})
		if err != nil {
			wantIs(t, err, ErrUndecodable)
			return
		}
		if _, err := orders.Message(o); err != nil {
			t.Fatalf("decoded %+v: %v", o, err)
		}
	})
}
