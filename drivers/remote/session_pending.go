package remote

import (
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// pending is one request of a session that has no answer yet.
type pending struct {
	kind  frame.Kind
	waits bool // counts as one that waits
	n     int  // how many outcomes or receipts are expected
	bytes int64

	done chan struct{} // a token, when the answer is there

	// The answer, set before done. A caller that has left must not read it.
	err        error
	grant      *lockdriver.Grant
	ticket     *lockdriver.Ticket
	outcomes   []lockdriver.Outcome
	receipts   []queuedriver.Receipt
	deliveries []queuedriver.Delivery
	settled    []queuedriver.Outcome
	reply      frame.Answer

	number    uint64 // in the outbox
	abandoned bool   // nobody waits for it; guarded by conn.mu
}

// inLine says whether it is an acquire that waits.
func (p *pending) inLine() bool { return p.kind == frame.Acquire && p.waits }

// wanted says with which frames a request may be answered, besides a problem.
var wanted = map[frame.Kind][]frame.Kind{
	frame.Acquire: {frame.Granted, frame.Queued},
	frame.Renew:   {frame.Outcomes},
	frame.Release: {frame.Outcomes},
	frame.Publish: {frame.Receipts},
	frame.Receive: {frame.Deliveries, frame.Done},
	frame.Settle:  {frame.Settled},
	frame.Call:    {frame.Reply},
}

// parse reads an answer. final says that it is the last one.
func (p *pending) parse(f frame.Frame) (final bool, err error) {
	if f.Kind != frame.Problem && !slices.Contains(wanted[p.kind], f.Kind) {
		return false, fmt.Errorf("the daemon answered %v to a %v", f.Kind, p.kind)
	}
	switch f.Kind {
	case frame.Granted:
		p.grant, err = frame.ParseGranted(f.Body)
	case frame.Queued:
		p.ticket, err = frame.ParseQueued(f.Body)
		return !p.waits, err
	case frame.Outcomes:
		p.outcomes, err = frame.ParseOutcomes(f.Body)
		err = counted(err, len(p.outcomes), p.n)
	case frame.Receipts:
		p.receipts, err = frame.ParseReceipts(f.Body, p.n)
		err = counted(err, len(p.receipts), p.n)
	case frame.Settled:
		p.settled, err = frame.ParseSettled(f.Body, p.n)
		err = counted(err, len(p.settled), p.n)
	case frame.Deliveries:
		p.deliveries, _, err = frame.ParseDeliveries(f.Body)
	case frame.Reply:
		return p.parseReply(f)
	case frame.Problem:
		var problem *wire.Problem
		if problem, err = frame.ParseProblem(f.Body); err == nil {
			p.err = &problemError{error: problem.Err(), problem: problem}
		}
	default: // done
	}
	return true, err
}

func counted(err error, got, want int) error {
	if err == nil && got != want {
		return wrongCount(got, want)
	}
	return err
}

func (p *pending) parseReply(f frame.Frame) (final bool, err error) {
	a, err := frame.ParseReply(f.Body)
	if err != nil {
		return false, err
	}
	if len(p.reply.Body)+len(a.Body) > maxReply {
		return false, fmt.Errorf("the daemon's answer is longer than %d bytes", maxReply)
	}
	if a.Status != 0 {
		p.reply.Status, p.reply.Media = a.Status, a.Media
	}
	p.reply.Body = append(p.reply.Body, a.Body...)
	return !a.More, nil
}
