// Package topofile reads the file that `lockkeeper apply` takes: exchanges,
// queues, bindings and schedules in YAML, durations as people write them. Unknown fields
// and values of the wrong type are errors that name line and column.
package topofile

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"

	"github.com/lockkeeper/lockkeeper/queue"
)

// MaxFile bounds a file, in bytes.
const MaxFile = 4 << 20

// Example is a file that uses every field. The help of `lockkeeper apply`
// shows it.
const Example = `exchanges:
  - name: shop
    kind: topic              # direct, fanout, topic or headers
    alternate: unrouted      # gets what matches no binding of shop
  - {name: unrouted, kind: fanout}
  - {name: audit, kind: fanout}
queues:
  - name: payments
    lease: 30s               # how long a consumer has for one message
    delivery_limit: 5        # failed attempts before it is dead-lettered
    dead_letter:
      exchange: ""           # "" is the default exchange: key names the queue
      key: payments.dead
    backoff: {min: 1s, max: 5m}
    dedup_window: 24h        # message ids are remembered so long; 7d works too
    message_ttl: 7d          # older ones are dead-lettered
    max_length: 1000000      # messages
    max_bytes: 1000000000    # of bodies
    overflow: reject         # or drop_head: dead-letter the oldest ones
    single_active: true      # one consumer at a time, the others stand by
  - name: payments.dead
    max_priority: 9          # priorities 0 to 9 are told apart
    expires: 30d             # deleted after so long without consumers
  - name: session.7
    auto_delete: true        # deleted when its last consumer leaves
    exclusive: true          # for the connection that declares it, and gone with it
  - name: events
    type: stream             # keeps its messages, whoever reads them
    retention: {age: 30d, messages: 100000000, bytes: 50000000000}
bindings:
  - exchange: shop
    queue: payments
    key: order.*             # * is one word, # any number of words
    args: {}                 # headers exchanges match these with headers
  - exchange: shop
    to_exchange: audit       # to another exchange instead of a queue
    key: order.#
schedules:
  - name: nightly
    cron: "30 2 * * *"
    time_zone: Europe/Berlin # UTC without it
    exchange: shop
    key: order.report
    body: make the report
    content_type: text/plain
    headers: {by: the clock}
    missed: all              # or latest, or skip: of ticks while the server is down
    paused: false
`

type file struct {
	Exchanges []exchange `yaml:"exchanges"`
	Queues    []spec     `yaml:"queues"`
	Bindings  []binding  `yaml:"bindings"`
	Schedules []schedule `yaml:"schedules"`
}

type exchange struct {
	Name string `yaml:"name"`
	Kind string `yaml:"kind"`

	Alternate string `yaml:"alternate"`
}

type spec struct {
	Name          string   `yaml:"name"`
	Lease         Duration `yaml:"lease"`
	DeliveryLimit int      `yaml:"delivery_limit"`
	DeadLetter    *route   `yaml:"dead_letter"`
	Backoff       backoff  `yaml:"backoff"`
	DedupWindow   Duration `yaml:"dedup_window"`

	Type         string    `yaml:"type"`
	MaxPriority  uint8     `yaml:"max_priority"`
	MessageTTL   Duration  `yaml:"message_ttl"`
	Expires      Duration  `yaml:"expires"`
	MaxLength    int64     `yaml:"max_length"`
	MaxBytes     int64     `yaml:"max_bytes"`
	Overflow     string    `yaml:"overflow"`
	SingleActive bool      `yaml:"single_active"`
	Exclusive    bool      `yaml:"exclusive"`
	AutoDelete   bool      `yaml:"auto_delete"`
	Retention    retention `yaml:"retention"`
}

type retention struct {
	Age      Duration `yaml:"age"`
	Messages int64    `yaml:"messages"`
	Bytes    int64    `yaml:"bytes"`
}

type route struct {
	Exchange string `yaml:"exchange"`
	Key      string `yaml:"key"`
}

type backoff struct {
	Min Duration `yaml:"min"`
	Max Duration `yaml:"max"`
}

type binding struct {
	Exchange string         `yaml:"exchange"`
	Queue    string         `yaml:"queue"`
	To       string         `yaml:"to_exchange"`
	Key      string         `yaml:"key"`
	Args     map[string]any `yaml:"args"`
}

type schedule struct {
	Name        string         `yaml:"name"`
	Cron        string         `yaml:"cron"`
	TimeZone    string         `yaml:"time_zone"`
	Exchange    string         `yaml:"exchange"`
	Key         string         `yaml:"key"`
	Body        string         `yaml:"body"`
	ContentType string         `yaml:"content_type"`
	Headers     map[string]any `yaml:"headers"`
	Missed      string         `yaml:"missed"`
	Paused      bool           `yaml:"paused"`
}

// File is what a file says.
type File struct {
	Topology  *queue.Topology
	Schedules []*queue.Schedule
}

// errEmpty is the error of a file that would do nothing.
var errEmpty = errors.New("is empty: it should have exchanges, queues, bindings or schedules")

// Parse reads a file. An empty file is an error: it would do nothing.
// Limits and names are checked by who declares the topology, not here.
func Parse(r io.Reader) (*File, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("must be at most %d bytes", MaxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	var f file
	if err := dec.Decode(&f); errors.Is(err, io.EOF) {
		return nil, errEmpty
	} else if err != nil {
		return nil, positioned(err)
	}
	if err := dec.Decode(&file{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one YAML document: join them into one")
	}
	t := f.topology()
	if len(t.Exchanges)+len(t.Queues)+len(t.Bindings)+len(f.Schedules) == 0 {
		return nil, errEmpty
	}
	return &File{Topology: t, Schedules: f.schedules()}, nil
}

func (f *file) schedules() []*queue.Schedule {
	var all []*queue.Schedule
	for i := range f.Schedules {
		s := &f.Schedules[i]
		all = append(all, &queue.Schedule{
			Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone, Route: queue.Route{Exchange: s.Exchange, Key: s.Key},
			Message: &queue.Message{Body: []byte(s.Body), ContentType: s.ContentType, Headers: queue.Headers(s.Headers).Normalize()},
			Missed:  queue.Missed(s.Missed), Paused: s.Paused,
		})
	}
	return all
}

func (f *file) topology() *queue.Topology {
	t := &queue.Topology{}
	for _, e := range f.Exchanges {
		t.Exchanges = append(t.Exchanges, queue.Exchange{Name: e.Name, Kind: queue.Kind(e.Kind), Alternate: e.Alternate})
	}
	for i := range f.Queues {
		t.Queues = append(t.Queues, f.Queues[i].queue())
	}
	for _, b := range f.Bindings {
		t.Bindings = append(t.Bindings, queue.Binding{
			Exchange: b.Exchange, Queue: b.Queue, ToExchange: b.To, Key: b.Key, Args: queue.Headers(b.Args).Normalize(),
		})
	}
	return t
}

func (s *spec) queue() queue.QueueSpec {
	q := queue.QueueSpec{
		Name: s.Name, Lease: s.Lease.Duration(), DeliveryLimit: s.DeliveryLimit,
		Backoff:     queue.Backoff{Min: s.Backoff.Min.Duration(), Max: s.Backoff.Max.Duration()},
		DedupWindow: s.DedupWindow.Duration(),

		Type: queue.QueueType(s.Type), MaxPriority: s.MaxPriority,
		MessageTTL: s.MessageTTL.Duration(), Expires: s.Expires.Duration(),
		MaxLength: s.MaxLength, MaxBytes: s.MaxBytes, Overflow: queue.Overflow(s.Overflow),
		SingleActive: s.SingleActive, Exclusive: s.Exclusive, AutoDelete: s.AutoDelete,
		Retention: queue.Retention{Age: s.Retention.Age.Duration(), Messages: s.Retention.Messages, Bytes: s.Retention.Bytes},
	}
	if s.DeadLetter != nil {
		q.DeadLetter = &queue.Route{Exchange: s.DeadLetter.Exchange, Key: s.DeadLetter.Key}
	}
	return q
}

// positioned turns the decoder's error, which draws the source over several
// lines, into one line that begins with line and column.
func positioned(err error) error {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil || y.GetToken().Position == nil {
		return err
	}
	at := y.GetToken().Position
	return fmt.Errorf("line %d, column %d: %s", at.Line, at.Column, y.GetMessage())
}
