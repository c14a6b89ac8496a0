package driver

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Streams is the part of a Conn that reads queues of type Stream. Without
// Caps.Streams every method is lease.ErrUnsupported.
//
// A stream is published to and bound like any queue. Its messages stay, each
// under its offset: the first is 1, and each later one has the next number.
// Nobody is handed them: any number of readers read where they like, as often
// as they like, and reading writes nothing. Receive, Settle and Redrive are
// lease.ErrUnsupported on a stream; ReadStream and the offsets are so on a
// queue of another type.
type Streams interface {
	// ReadStream returns messages from a place on, in order of their offsets.
	// If there is none it waits up to r.Wait for one, and returns a batch
	// without messages and no error if none came.
	ReadStream(ctx context.Context, r *StreamRequest) (*StreamBatch, error)
	// SaveOffset remembers, durably, up to where a consumer has come: the
	// offset that it wants to read next. It may go back as well as forth: to
	// read anew is a consumer's right, and two readers that share a name are
	// the user's to keep apart. A stream remembers MaxOffsets names;
	// lease.ErrLimit for one more.
	SaveOffset(ctx context.Context, stream, consumer string, offset uint64) error
	// Offsets returns what consumers of the stream have saved, sorted by name.
	// With a consumer it is that one alone, lease.ErrNotFound if it has none.
	Offsets(ctx context.Context, stream, consumer string) ([]Offset, error)
	// DeleteOffset forgets a consumer. lease.ErrNotFound.
	DeleteOffset(ctx context.Context, stream, consumer string) error
}

// From says where reading begins.
type From string

// Places in a stream to begin at.
const (
	FromOffset From = "offset" // StreamRequest.Offset; it is the zero value's meaning too
	FromTime   From = "time"   // the first message stored at StreamRequest.Time or later
	FromFirst  From = "first"  // the oldest message that is kept
	FromLast   From = "last"   // the newest message; what comes next if there is none
	FromNext   From = "next"   // what comes after this request
)

// StreamRequest asks for messages of a stream.
type StreamRequest struct {
	Queue string
	From  From // "" means FromOffset

	// Offset is where to begin, at least 1, and at most the one that the next
	// message will get: past that is lease.ErrInvalid. If retention has
	// dropped it already, reading begins with the oldest message that is
	// left, which shows in the offsets.
	Offset uint64
	// Time is by the server's wall clock, of the years 1970 to 2200. Messages
	// are searched by when they were stored; if the clock was set back, by the
	// latest time that it had shown until then.
	Time time.Time

	Max      int           // 1 to MaxReceive
	MaxBytes int           // of bodies together, though one message is always returned; 0: MaxReceiveBytes
	Wait     time.Duration // 0 to MaxWait
}

// StreamBatch is what a ReadStream returns.
type StreamBatch struct {
	Messages []StreamMessage
	// Next is the offset to go on with. It is 0 if nothing was found yet that
	// is as late as the request's Time: then ask for the same again.
	Next uint64
	// First is the offset of the oldest message that was kept, and End the one
	// that the next message to be stored was to get, both when the request was
	// decided. End-First is how many there were.
	First, End uint64
}

// StreamMessage is one message of a stream.
type StreamMessage struct {
	Offset  uint64
	Stored  time.Time // in UTC, by the server's wall clock, when it got into the stream
	Route   Route     // as it was published
	Message *Message  // not to be changed
}

// Offset is how far a named consumer of a stream has come.
type Offset struct {
	Consumer string
	Offset   uint64 // that it wants to read next
}

// Validate checks a request and fills in defaults.
func (r *StreamRequest) Validate() error {
	if err := ValidateQueueName("queue", r.Queue); err != nil {
		return err
	}
	if r.From == "" {
		r.From = FromOffset
	}
	switch r.From {
	case FromOffset, FromTime, FromFirst, FromLast, FromNext:
	default:
		return lease.Invalidf("from", "must be offset, time, first, last or next, is %q", r.From)
	}
	if (r.From == FromOffset) != (r.Offset != 0) {
		return lease.Invalidf("offset", "must be given, from 1 on, to begin at an offset, and only then")
	}
	if (r.From == FromTime) != !r.Time.IsZero() {
		return lease.Invalidf("time", "must be given to begin at a time, and only then")
	}
	if y := r.Time.UTC().Year(); r.From == FromTime && (y < 1970 || y > 2200) {
		return lease.Invalidf("time", "must be in the years 1970 to 2200, is in %d", y)
	}
	if r.Max < 1 || r.Max > MaxReceive {
		return lease.Invalidf("max", "must be 1 to %d, is %d", MaxReceive, r.Max)
	}
	if r.MaxBytes == 0 {
		r.MaxBytes = MaxReceiveBytes
	}
	if r.MaxBytes < 0 || r.MaxBytes > MaxReceiveBytes {
		return lease.Invalidf("max_bytes", "must be 1 to %d, is %d", MaxReceiveBytes, r.MaxBytes)
	}
	return validDuration("wait", r.Wait, 0, MaxWait)
}

// ValidateOffset checks what is passed to SaveOffset and DeleteOffset; the
// latter passes an offset of 1.
func ValidateOffset(stream, consumer string, offset uint64) error {
	if err := ValidateQueueName("queue", stream); err != nil {
		return err
	}
	if err := ValidateConsumer("consumer", consumer); err != nil {
		return err
	}
	if offset < 1 {
		return lease.Invalidf("offset", "must be at least 1")
	}
	return nil
}

// ValidateOffsets checks what is passed to Offsets.
func ValidateOffsets(stream, consumer string) error {
	if err := ValidateQueueName("queue", stream); err != nil || consumer == "" {
		return err
	}
	return ValidateConsumer("consumer", consumer)
}
