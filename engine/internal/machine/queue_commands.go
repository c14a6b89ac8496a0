package machine

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// The queue commands: what the shell passes to Queues and gets back.

// Declare makes a topology.
type Declare struct {
	Topology *queuedriver.Topology // validated, defaults filled in
	DryRun   bool
	Conn     uint64 // that it came over, which exclusive queues belong to; 0: none

	Changes []queuedriver.Change
	Err     error
}

// DeleteTopology removes one part of the topology.
type DeleteTopology struct {
	Request *queuedriver.DeleteRequest
	Conn    uint64 // that it came over; 0: none
	Err     error
}

// ReadTopology returns everything declared.
type ReadTopology struct{ Topology *queuedriver.Topology }

// Publish stores a batch. The messages are kept until the round is written
// and must not be changed.
type Publish struct {
	Publishings []queuedriver.Publishing // validated
	Receipts    []queuedriver.Receipt

	next int // to be decided
}

// Leased is a delivery whose body is still to be read: message Seq of the
// block that begins at Block.
type Leased struct {
	Seq     uint64
	Block   uint64
	Token   lease.Token
	Attempt int
}

// Receive leases messages. It finishes in the round in which there are some;
// with Request.Wait 0 in the first round that knows whether there are any.
// The shell ends a longer wait by GiveUp.
type Receive struct {
	Request  *queuedriver.ReceiveRequest // validated
	Conn     uint64                      // that it came over; 0: none
	Received lease.Instant
	Owner    any // the shell's own, to recognise it in Finished

	QueueID uint32
	TTL     time.Duration
	Waited  time.Duration
	Leased  []Leased
	Err     error

	consumer   *consumer // while it waits
	prev, next *Receive
}

// GiveUp ends a waiting Receive, which finishes at once with what it has:
// nothing. One that has finished already is left alone: the shell hands its
// deliveries back.
type GiveUp struct{ Receive *Receive }

// Settle settles deliveries.
type Settle struct {
	Settlements []queuedriver.Settlement // validated
	Outcomes    []queuedriver.Outcome

	next int // to be decided
}

// CancelScheduled drops messages that wait for their time.
type CancelScheduled struct {
	Queue, ID string
	Err       error
}

// Detach forgets a consumer.
type Detach struct {
	Queue, Consumer string
	Conn            uint64 // that it came over; 0: none
	Err             error
}

// CloseConn ends a connection: its consumers leave, its exclusive queues go.
// One that is not known, or was closed before, is none. A command that comes
// over it later opens it again.
type CloseConn struct{ Conn uint64 }

// ReadStats reads.
type ReadStats struct {
	Request *queuedriver.StatsRequest
	Stats   []queuedriver.QueueStats
	Err     error
}

// Purge drops what is not in flight.
type Purge struct {
	Queue   string
	Conn    uint64 // that it came over; 0: none
	Dropped int64
	Err     error
}

// Redrive moves dead letters back, beginning with From. It moves and looks at
// what fits one round; Next is the one to go on with, 0 at the end.
type Redrive struct {
	Request *queuedriver.RedriveRequest // validated
	Conn    uint64                      // that it came over; 0: none
	From    uint64

	Moved int64
	Next  uint64
	Err   error
}

// PeekMessages reads.
type PeekMessages struct {
	Request *queuedriver.PeekRequest // validated
	Peeked  []queuedriver.Peeked
	Err     error
}

func (*Declare) command()         {}
func (*DeleteTopology) command()  {}
func (*ReadTopology) command()    {}
func (*Publish) command()         {}
func (*Receive) command()         {}
func (*GiveUp) command()          {}
func (*Settle) command()          {}
func (*CancelScheduled) command() {}
func (*Detach) command()          {}
func (*CloseConn) command()       {}
func (*ReadStats) command()       {}
func (*Purge) command()           {}
func (*Redrive) command()         {}
func (*PeekMessages) command()    {}
