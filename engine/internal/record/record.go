// Package record defines what the engine keeps on disk: the values as Go
// structs, and their binary encoding. It does no I/O. Package store says under
// which keys the values lie.
package record

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// SegmentSize is how many sequence numbers share one record of acks. A block
// of messages never crosses a segment's border.
const SegmentSize = 4096

// MaxBlockBytes is where a block of messages is split; a longer message has
// a block of its own.
const MaxBlockBytes = 64 << 10

// Meta is the store's own record.
type Meta struct {
	Format       uint32
	Incarnation  [16]byte // random, made with the store; also keys the tickets
	TokenReserve uint64   // no token up to here may be granted again after an open
	NextQueueID  uint32
}

// Lock is the durable state of one name. Waiters, deadlines and renewals are
// in memory only; after an open every grant has its full TTL again.
type Lock struct {
	Mode      lockdriver.Mode // of the grants, if any
	Permits   int             // at least 1
	Grants    []LockGrant     // in order of their tokens
	ClosedFor time.Duration   // a lock-delay that had begun; runs anew after an open
}

// LockGrant is one live lease on a name.
type LockGrant struct {
	Holder    string
	RequestID string
	Token     lease.Token
	TTL       time.Duration
	LockDelay time.Duration
	Revoked   bool
	Meta      map[string]string
	Value     []byte // nil if empty
}

// Queue is a declared queue and the number that its keys carry.
type Queue struct {
	ID   uint32
	Spec queuedriver.Queue // validated, defaults filled in
}

// Message is a stored message.
type Message struct {
	Route     queuedriver.Route
	Published int64 // wall clock, Unix nanoseconds
	*queuedriver.Message

	// Trail has the ids of the queues that the message and its copies have
	// been in since somebody last did something with it, as the machine
	// writes them.
	Trail string
}

// Index describes one message of a block without its body.
type Index struct {
	KeyHash uint64 // of the order key; 0 if it has none
	Size    uint32 // of its body
	Expires int64  // wall clock, Unix nanoseconds; 0: never. Behind Published
}

// IndexBlock describes the messages FirstSeq, FirstSeq+1, ... of one block.
type IndexBlock struct {
	FirstSeq  uint64
	Published int64  // wall clock of the round that stored it, Unix nanoseconds
	Bytes     uint32 // of the encoded block
	Entries   []Index
}

// Run is a run of sequence numbers From .. From+Len-1.
type Run struct {
	From uint64
	Len  uint32
}

// Attempt is the durable end of earlier deliveries of a message.
type Attempt struct {
	Count     uint32      // failed attempts
	LastToken lease.Token // an ack with it or a smaller one is refused
	NotBefore int64       // wall clock, Unix nanoseconds; 0: at once
}

// Fetch is a set of deliveries made by one receive: message Seqs[i] has token
// FirstToken+i.
type Fetch struct {
	Consumer   string
	TTL        time.Duration
	FirstToken lease.Token
	Seqs       []uint64
}

// Delayed is a message that waits for its time outside the queue's sequence.
type Delayed struct {
	Due int64 // wall clock, Unix nanoseconds
	Seq uint64
	Message
}

// Level is the counters of one priority of a queue, of those behind the
// highest: the highest one's are in Counters.
type Level struct {
	NextSeq uint64 // of the next message
	Head    uint64 // no message before it is left; a hint, may lag
}

// DelayedAt is where a delayed message lies.
type DelayedAt struct {
	Due int64
	Seq uint64
}

// Before reports whether a lies before b.
func (a DelayedAt) Before(b DelayedAt) bool {
	return a.Due < b.Due || a.Due == b.Due && a.Seq < b.Seq
}

// Counters of a queue, written with every round that touches it.
type Counters struct {
	NextSeq     uint64 // of the next message
	NextDelayed uint64 // of the next delayed message
	NextFetch   uint64
	Head        uint64 // no message before it is left; a hint, may lag
	SeenBucket  int64  // the newest bucket of dedup ids

	Live    int64 // messages that are not acked
	Bytes   int64 // of their bodies
	Delayed int64 // scheduled

	Published    int64
	Duplicates   int64
	Delivered    int64
	Acked        int64
	Nacked       int64
	Expired      int64
	DeadLettered int64
	Dropped      int64

	// Since version 2 of the record.
	TimedOut   int64
	Overflowed int64
	Refused    int64
	Mortal     int64 // messages that are not acked and have a TTL
}

// Result is the outcome of a commit, kept under its id.
type Result struct {
	Digest   [32]byte // of what the commit did
	Until    int64    // wall clock, Unix nanoseconds: not known any more after it
	Settled  []bool   // dead-lettered or not
	Receipts []Receipt
	Result   []byte
}

// Receipt is the outcome of a publish within a commit.
type Receipt struct {
	Queues    int
	Duplicate bool
}
