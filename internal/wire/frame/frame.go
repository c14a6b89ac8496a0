// Package frame is what the multiplexed session between the daemon and a
// client carries: the schema of docs/session.proto, encoded and decoded by
// hand.
//
// One WebSocket message is one Batch, a list of frames. A frame has an id and
// one body; the body's Kind is the number of its field in the schema. The
// functions AppendKind make bodies, and AppendFrame frames of them: a batch is
// what several frames are one after another. Next takes frames out of a batch,
// and the functions ParseKind read their bodies. Bodies alias the batch; what
// Parse returns does not, except for the bodies of messages to be published,
// and of calls and their answers.
//
// What comes from a client is read strictly: a field that is not known is an
// error, because to ignore it would be to do something else than was asked.
// What comes from a server is read leniently, so that a later server can say
// more. docs/wire.md says what the frames mean.
package frame

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Protocol is the WebSocket subprotocol of a session.
const Protocol = "lockkeeper.v1"

// Kind is what a frame is: the number of its body's field.
type Kind protowire.Number

// Frames of a client. Acquire to Call are requests: they have a new id, and
// are answered.
const (
	Acquire Kind = 2
	Renew   Kind = 3
	Release Kind = 4
	Publish Kind = 5
	Receive Kind = 6
	Settle  Kind = 7
	Call    Kind = 8

	Cancel Kind = 12
	Credit Kind = 13
	Ping   Kind = 14
)

// Frames of a server.
const (
	Hello      Kind = 20
	Granted    Kind = 21
	Queued     Kind = 22
	Outcomes   Kind = 23
	Receipts   Kind = 24
	Deliveries Kind = 25
	Settled    Kind = 26
	Reply      Kind = 27
	Problem    Kind = 28
	Pong       Kind = 29
	Done       Kind = 30
)

var kindNames = map[Kind]string{
	Acquire: "acquire", Renew: "renew", Release: "release", Publish: "publish", Receive: "receive", Settle: "settle",
	Call: "call", Cancel: "cancel", Credit: "credit", Ping: "ping",
	Hello: "hello", Granted: "granted", Queued: "queued", Outcomes: "outcomes", Receipts: "receipts",
	Deliveries: "deliveries", Settled: "settled", Reply: "reply", Problem: "problem", Pong: "pong", Done: "done",
}

// Kinds returns all of them.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kindNames)) }

// String returns the name of the field in the schema.
func (k Kind) String() string {
	if s := kindNames[k]; s != "" {
		return s
	}
	return fmt.Sprintf("kind %d", int(k))
}

// FromClient says whether a client may send it.
func (k Kind) FromClient() bool { return k >= Acquire && k <= Call || k >= Cancel && k <= Ping }

// Request says whether it is answered, and so has an id of its own.
func (k Kind) Request() bool { return k >= Acquire && k <= Call }

// Limits of a session. A server tells its own in the hello; a client that
// goes past one is cut off.
const (
	// MaxBatch is how many bytes a WebSocket message may have, either way.
	MaxBatch = 24 << 20
	// MaxFrames is how many frames a batch may have.
	MaxFrames = 10_000
	// MaxItems is how many leases, messages, settlements and headers a
	// batch may have together.
	MaxItems = 100_000
	// MaxCalls is how many requests may be unanswered at once, those that
	// wait not counted.
	MaxCalls = 2048
	// MaxWaits is how many acquires that wait and receives may be unanswered
	// at once.
	MaxWaits = 4096
	// MaxCallBytes is how many bytes of requests may be unanswered at once
	// before the server stops reading: one batch of any size fits.
	MaxCallBytes = 32 << 20
	// MaxCredit is how many messages a receive may have credit for.
	MaxCredit = 1_000_000
	// MaxDepth is how deep values of headers may be nested.
	MaxDepth = 8
	// Flush is about how many bytes a sender puts into one batch. A frame
	// that is larger goes alone.
	Flush = 256 << 10
	// Chunk is how many bytes of a long answer to a call one frame carries.
	Chunk = 256 << 10
)

// Signs of life. Both ends send something at least so often, and give the
// other up when nothing has come for the whole of Silence.
const (
	// PingBusy is after how long without a frame from the server a client
	// that waits for an answer sends a ping, and PingWait how long it waits
	// for any sign of life then.
	PingBusy = 2 * time.Second
	PingWait = 3 * time.Second
	// PingIdle is the same for a client that waits for nothing.
	PingIdle = 20 * time.Second
	// SilenceBusy is after how long without anything from a client that has
	// unanswered requests its server gives it up, and SilenceIdle the same
	// for one that has none.
	SilenceBusy = 10 * time.Second
	SilenceIdle = time.Minute
)

// ErrMalformed is what all errors of decoding match.
var ErrMalformed = errors.New("malformed")

// Frame is one frame of a batch.
type Frame struct {
	ID   uint64
	Kind Kind
	Body []byte // aliases the batch
}

// Next takes the first frame off a batch.
func Next(batch []byte) (f Frame, rest []byte, err error) {
	r := reader{b: batch, what: "batch"}
	if !r.next() {
		return f, nil, r.fail("has no frame")
	}
	if r.num != 1 {
		return f, nil, r.fail("has an unknown field %d", r.num)
	}
	inner := reader{b: r.bytes(), what: "frame"}
	if r.err != nil {
		return f, nil, r.err
	}
	for inner.next() {
		switch {
		case inner.num == 1:
			f.ID = inner.uint()
		case f.Kind != 0:
			return f, nil, inner.fail("has two bodies: %v and %v", f.Kind, Kind(inner.num))
		default:
			f.Kind, f.Body = Kind(inner.num), inner.bytes()
		}
	}
	if inner.err == nil && f.Kind == 0 {
		return f, nil, inner.fail("has no body")
	}
	return f, r.b, inner.err
}

// begin starts the body of a frame, which will have about hint bytes. It is
// ended by shut.
func begin(b []byte, k Kind, hint int) ([]byte, mark) { return open(b, protowire.Number(k), hint) }

// appendEmpty appends a body without content.
func appendEmpty(b []byte, k Kind) []byte {
	b, m := begin(b, k, 0)
	return shut(b, m)
}

// maxHead is how many bytes at most a frame has besides its body.
const maxHead = 32

// AppendFrame appends a frame to a batch: its id, and a body as the functions
// AppendKind make it.
func AppendFrame(batch []byte, id uint64, body []byte) []byte {
	return append(appendHead(batch, id, len(body)), body...)
}

// appendHead appends what comes before the body of a frame.
func appendHead(batch []byte, id uint64, n int) []byte {
	if id != 0 {
		n += 1 + protowire.SizeVarint(id)
	}
	batch = protowire.AppendTag(batch, 1, protowire.BytesType)
	batch = protowire.AppendVarint(batch, uint64(n))
	return appendUint(batch, 1, id)
}

// Announced returns how many bytes the first frame of a batch is going to
// have, of which a part has come: 0 if that is too short to say.
func Announced(part []byte) int {
	num, typ, n := protowire.ConsumeTag(part)
	if n < 0 || num != 1 || typ != protowire.BytesType {
		return 0
	}
	length, m := protowire.ConsumeVarint(part[n:])
	if m < 0 || length > MaxBatch {
		return 0
	}
	return n + m + int(length)
}
