package wire

import (
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// StreamReply is an answer to GET /v1/stream.
type StreamReply struct {
	Messages []StreamMessage `json:"messages"`
	Next     uint64          `json:"next,string" doc:"the offset to go on with; 0: nothing as late as time yet, ask for the same again"`
	First    uint64          `json:"first,string" doc:"offset of the oldest message that is kept"`
	End      uint64          `json:"end,string" doc:"offset that the next message to be stored gets"`
}

// StreamMessage is one message of a stream.
type StreamMessage struct {
	Offset   uint64    `json:"offset,string"`
	Stored   time.Time `json:"stored" doc:"when it got into the stream, by the server's clock"`
	Exchange string    `json:"exchange"`
	Key      string    `json:"key"`
	Message
}

// NewStreamReply is the wire form of b.
func NewStreamReply(b *queuedriver.StreamBatch) *StreamReply {
	out := &StreamReply{Messages: make([]StreamMessage, len(b.Messages)), Next: b.Next, First: b.First, End: b.End}
	for i := range b.Messages {
		m := &b.Messages[i]
		out.Messages[i] = StreamMessage{
			Offset: m.Offset, Stored: m.Stored.UTC(), Exchange: m.Route.Exchange, Key: m.Route.Key, Message: NewMessage(m.Message),
		}
	}
	return out
}

// Driver is the inverse of NewStreamReply.
func (r *StreamReply) Driver() (*queuedriver.StreamBatch, error) {
	out := &queuedriver.StreamBatch{Next: r.Next, First: r.First, End: r.End}
	for i := range r.Messages {
		w := &r.Messages[i]
		m, err := w.Message.Driver(Indexed("messages", i))
		if err != nil {
			return nil, err
		}
		out.Messages = append(out.Messages, queuedriver.StreamMessage{
			Offset: w.Offset, Stored: w.Stored.UTC(), Route: queuedriver.Route{Exchange: w.Exchange, Key: w.Key}, Message: m,
		})
	}
	return out, nil
}

// SaveOffsetRequest says how far a consumer of a stream has come: PUT
// /v1/offsets.
type SaveOffsetRequest struct {
	Queue    string `json:"queue" doc:"the stream"`
	Consumer string `json:"consumer"`
	Offset   Number `json:"offset" doc:"that it reads next, as a decimal string; it may go back"`
}

// Number is a number of 64 bits in a request, as a decimal string: as a JSON
// number some clients would lose its last digits.
type Number uint64

// MarshalText implements encoding.TextMarshaler.
func (n Number) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(n), 10), nil }

// UnmarshalText is the inverse of MarshalText.
func (n *Number) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return lease.Invalidf("number", "must be a decimal number from 0 to 18446744073709551615, is %q", b)
	}
	*n = Number(v)
	return nil
}

// OffsetsReply is an answer to GET /v1/offsets.
type OffsetsReply struct {
	Offsets []Offset `json:"offsets"`
}

// Offset is how far a consumer of a stream has come.
type Offset struct {
	Consumer string `json:"consumer"`
	Offset   uint64 `json:"offset,string"`
}
