package store

import (
	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

var (
	_ machine.Changes = (*Batch)(nil)
	_ machine.View    = (*Store)(nil)
)

// Batch collects the changes of a round. It implements machine.Changes, keeps
// nothing that it is passed, and is for one goroutine.
type Batch struct{}

// Empty reports that nothing is to be stored.
func (b *Batch) Empty() bool { panic("sketch") }

// Bytes is how large the batch is by now.
func (b *Batch) Bytes() int { panic("sketch") }

// Discard gives up a batch that is not to be applied.
func (b *Batch) Discard() { panic("sketch") }

func (b *Batch) ReserveTokens(upTo uint64)                                           {}
func (b *Batch) PutLock(name string, l *record.Lock)                                 {}
func (b *Batch) DeleteLock(name string)                                              {}
func (b *Batch) PutExchange(e *queuedriver.Exchange)                                 {}
func (b *Batch) DeleteExchange(name string)                                          {}
func (b *Batch) PutQueue(q *record.Queue)                                            {}
func (b *Batch) DeleteQueue(q *record.Queue)                                         {}
func (b *Batch) PutBinding(x *queuedriver.Binding)                                   {}
func (b *Batch) DeleteBinding(x *queuedriver.Binding)                                {}
func (b *Batch) Append(q uint32, first uint64, now int64, blocks []machine.NewBlock) {}
func (b *Batch) Ack(q uint32, runs []record.Run)                                     {}
func (b *Batch) DropBody(q uint32, blockFirst uint64)                                {}
func (b *Batch) DropSegments(q uint32, from, to uint64)                              {}
func (b *Batch) PutAttempt(q uint32, seq uint64, a record.Attempt)                   {}
func (b *Batch) DeleteAttempt(q uint32, seq uint64)                                  {}
func (b *Batch) PutFetch(q uint32, fetch uint64, f *record.Fetch)                    {}
func (b *Batch) DeleteFetch(q uint32, fetch uint64)                                  {}
func (b *Batch) PutDelayed(q uint32, d *record.Delayed)                              {}
func (b *Batch) DeleteDelayed(q uint32, due int64, seq uint64)                       {}
func (b *Batch) DropDelayed(q uint32)                                                {}
func (b *Batch) PutSeen(q uint32, bucket int64, id string)                           {}
func (b *Batch) DropSeen(q uint32, below int64)                                      {}
func (b *Batch) PutCounters(q uint32, c *record.Counters)                            {}
