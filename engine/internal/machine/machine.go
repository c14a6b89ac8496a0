// Package machine decides. It holds the state of every lock and queue, takes
// one command after another together with the time, and says what changes.
// It does no I/O, reads no clock, starts no goroutine and draws no random
// number: the same commands at the same times give the same decisions.
//
// The shell (package engine) drives it, from one goroutine, in rounds:
//
//  1. let it expire what is due (Locks.Tick, Queues.Tick, Commits.Tick),
//  2. pass the commands that have queued up,
//  3. let it hand messages to waiting receivers (Queues.Dispatch), and say
//     what has changed (Locks.Write),
//  4. write its Changes in one batch, apply it, and make it durable,
//  5. complete the commands that it has decided.
//
// The View must show the effects of a round from the next round on, durable
// or not.
//
// A command is a struct that the caller fills in; the machine fills in its
// result before the method that takes it returns. An Await and a Receive may
// wait: they are appended to Finished, in the same round or in a later one,
// when they have their result. Nothing of a result may leave before step 4 is
// done.
package machine

import (
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Time is the moment of a round.
type Time struct {
	Mono lease.Instant // runs on through a suspend, is never stepped: leases
	Wall int64         // Unix nanoseconds: schedules, dedup, ages
}

// Command is a request that the machine has decided.
type Command interface{ command() }

// Finished collects the commands that waited and now have their result.
type Finished []Command

func (f *Finished) add(c Command) { *f = append(*f, c) }

// Changes takes the durable effects of a round. *store.Batch implements it.
// It must not keep or change what it is passed.
type Changes interface {
	ReserveTokens(upTo uint64)

	PutLock(name string, l *record.Lock)
	DeleteLock(name string)

	PutExchange(e *queuedriver.Exchange)
	DeleteExchange(name string)
	PutQueue(q *record.Queue)
	DeleteQueue(q *record.Queue) // with everything that it holds
	PutBinding(b *queuedriver.Binding)
	DeleteBinding(b *queuedriver.Binding)

	// Append stores messages first, first+1, ... in as many blocks as
	// SplitBlocks makes of them.
	Append(q uint32, first uint64, now int64, blocks []NewBlock)
	Ack(q uint32, runs []record.Run)
	DropBody(q uint32, blockFirst uint64)   // of a block that is wholly acked
	DropSegments(q uint32, from, to uint64) // [from, to) in segments: bodies, index and acks
	PutAttempt(q uint32, seq uint64, a record.Attempt)
	DeleteAttempt(q uint32, seq uint64)
	PutFetch(q uint32, fetch uint64, f *record.Fetch)
	DeleteFetch(q uint32, fetch uint64)
	PutDelayed(q uint32, d *record.Delayed)
	DeleteDelayed(q uint32, at record.DelayedAt, id string)
	DropDelayed(q uint32)            // all of them
	PassDelayed(q uint32, due int64) // a hint: none that can be read is left that is due before
	PutSeen(q uint32, bucket int64, id string)
	DropSeen(q uint32, below int64) // all buckets before this one
	PutCounters(q uint32, c *record.Counters)
	PutOffset(q uint32, consumer string, offset uint64)
	DeleteOffset(q uint32, consumer string)

	PutSchedule(s *queuedriver.Schedule)
	PutScheduleState(name string, s *record.ScheduleState)
	DeleteSchedule(name string) // and its state

	PutResult(class byte, bucket int64, id string, r *record.Result)
	DropResults(class byte, below int64) // all buckets of the class before this one
	PutLevels(q uint32, lower []record.Level)
}

// NewBlock is one block to be stored: its messages, and their index.
// Index.Bytes is an estimate until the block is encoded.
// record.SplitBlocks makes them.
type NewBlock = record.NewBlock

// View reads what the machine does not keep in memory. It sees the rounds
// before this one and nothing of this one. *store.Store implements it. It is
// an input like the time: it gives the same answers for the same rounds.
type View interface {
	// LoadIndex returns whole blocks in order, beginning with the first that
	// holds a message >= from, until they have at least most entries.
	LoadIndex(q uint32, from uint64, most int) ([]record.IndexBlock, error)
	// Message returns message seq of the block that begins at blockFirst; 0
	// means that the caller does not know the block.
	Message(q uint32, blockFirst, seq uint64) (*record.Message, error)
	// LoadDue returns delayed messages that lie at from or behind it and are
	// due at or before wall, in order of their time, no more than most of them
	// and about mostBytes of bodies, and the time of the next one behind these
	// (0 if there is none). An error together with messages or next is about
	// some others that are damaged.
	LoadDue(q uint32, from record.DelayedAt, wall int64, most, mostBytes int) (due []record.Delayed, next int64, err error)
	// FindDelayed returns where the delayed messages with this id, which is
	// not "", lie.
	FindDelayed(q uint32, id string) ([]record.DelayedAt, error)
	// Seen reports whether the id is in a bucket from..to.
	Seen(q uint32, from, to int64, id string) (bool, error)
	// Result returns what a commit recorded under its id, nil if it is not
	// in this bucket.
	Result(class byte, bucket int64, id string) (*record.Result, error)
}

// Tokens hands out fencing tokens, for locks and deliveries alike. Each is
// larger than all before it, also over restarts: a reserve is durable before
// a token under it leaves.
type Tokens struct{ last, reserved uint64 }

// TokenReserve is how many tokens are reserved at once.
const TokenReserve = 1 << 20

// NewTokens starts above everything reserved before, and above the
// microseconds since 1970, so that a store made anew on a machine goes on
// above the one before it.
func NewTokens(reserved uint64, wall int64) *Tokens {
	last := max(reserved, uint64(max(wall, 0))/1000)
	return &Tokens{last: last, reserved: reserved}
}

// Take returns the first of n consecutive tokens.
func (t *Tokens) Take(ch Changes, n int) lease.Token {
	first := t.last + 1
	t.last += uint64(n)
	if t.last > t.reserved {
		t.reserved = t.last + TokenReserve
		ch.ReserveTokens(t.reserved)
	}
	return lease.Token(first)
}
