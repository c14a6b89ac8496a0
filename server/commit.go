package server

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// queueCaps is what the queues have and assume behind this server: their
// commits can name locks only if the locks that it serves are of one store
// with them. It is decided by what the drivers say of their stores, so that no
// configuration can get it wrong. Only over a session is there a connection that a
// queue could be exclusive to.
func (s *Server) queueCaps(ss *session) queuedriver.Caps {
	caps := s.cfg.Queues.Caps()
	caps.Exclusive = ss != nil && s.exclusive()
	if s.cfg.Locks == nil || s.cfg.Locks.Caps().Store != caps.Store {
		caps.Store = ""
	}
	return caps
}

// exclusive reports whether queues can be exclusive to a session.
func (s *Server) exclusive() bool {
	_, forks := s.cfg.Queues.(queuedriver.Forker)
	return forks && s.cfg.Queues.Caps().Exclusive
}

// lockCaps is the same for the locks.
func (s *Server) lockCaps() lockdriver.Caps {
	caps := s.cfg.Locks.Caps()
	if s.cfg.Queues == nil || s.cfg.Queues.Caps().Store != caps.Store {
		caps.Store = ""
	}
	return caps
}

// serveCommit does everything in the request or nothing.
func serveCommit(c *call) error {
	if err := c.uncoded(); err != nil {
		return err
	}
	b, err := c.read(wire.MaxPublishBytes)
	if err != nil {
		return err
	}
	var in wire.CommitRequest
	if err := wire.Decode(b, &in); err != nil {
		return err
	}
	t, err := in.Driver()
	if err != nil {
		return err
	}
	caps := c.s.queueCaps(c.session)
	if caps.Commit && caps.Store == "" && len(t.Release)+len(t.Require) > 0 {
		return wire.NewProblem(wire.CodeUnsupported, "", "this daemon serves no locks from the store of its queues: a commit can name none")
	}
	whole := *t // Validate fills in what is left out
	if err := whole.Validate(&caps); err != nil {
		return err
	}
	out, err := c.queues().Commit(c.r.Context(), t)
	c.s.metrics.committed(t, out, err)
	if err != nil {
		return err
	}
	if len(out.Settled) != len(t.Settle) || len(out.Receipts) != len(t.Publish) {
		return fmt.Errorf("the driver returned %d outcomes and %d receipts for a commit of %d deliveries and %d messages: %w",
			len(out.Settled), len(out.Receipts), len(t.Settle), len(t.Publish), lease.ErrUnknown)
	}
	return c.reply(wire.NewCommitReply(out))
}

// serveResult returns what a commit recorded.
func serveResult(c *call) error {
	id := c.query.Get("id")
	if err := queuedriver.ValidateCommitID("id", id); err != nil {
		return err
	}
	out, err := c.queues().Result(c.r.Context(), id)
	if err != nil {
		return err
	}
	return c.reply(wire.NewCommitReply(out))
}

// committed counts a commit, and what it did beside what is done alone.
func (m *metrics) committed(t *queuedriver.Txn, r *queuedriver.TxnResult, err error) {
	if err == nil && r.Repeated {
		m.commits.WithLabelValues("repeated").Inc()
		return
	}
	m.commits.WithLabelValues(codeOf(err)).Inc()
	if err != nil {
		return
	}
	for i := range t.Settle {
		m.settled(wire.Verbs[t.Settle[i].Verb-1], nil)
	}
	m.publishedAll(r.Receipts)
	m.released.Add(float64(len(t.Release)))
}
