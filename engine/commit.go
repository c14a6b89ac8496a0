package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// identify names an open store in the Caps of its connections: the same name
// after a restart, another one for a copy of its directory. The incarnation
// itself is not shown: it keys the tickets of locks.
func identify(s *store.Store) string {
	incarnation := s.Meta().Incarnation
	sum := sha256.Sum256(slices.Concat([]byte("lockkeeper store\x00"), incarnation[:], []byte(s.Dir())))
	return hex.EncodeToString(sum[:16])
}

// passCommit decides what is about queues and locks at once.
func (c *core) passCommit(now machine.Time, b *store.Batch, cmd machine.Command) {
	switch cmd := cmd.(type) {
	case *machine.Commit:
		c.commits.Commit(now, b, c.store, cmd)
	case *machine.ReadResult:
		c.commits.Read(now, c.store, cmd)
	}
}

// Commit implements queuedriver.Conn.
func (q *queueConn) Commit(ctx context.Context, t *queuedriver.Txn) (*queuedriver.TxnResult, error) {
	own, caps := *t, q.Caps()
	if err := own.Validate(&caps); err != nil {
		return nil, err
	}
	own.Settle = slices.Clone(own.Settle)
	own.Publish = clonePublishings(own.Publish)
	own.Release = slices.Clone(own.Release)
	own.Require = slices.Clone(own.Require)
	own.Result = slices.Clone(own.Result)
	cmd := &machine.Commit{Txn: &own, Digest: own.Digest()}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	q.confirm(cmd.Result)
	return cmd.Result, nil
}

// Result implements queuedriver.Conn.
func (q *queueConn) Result(ctx context.Context, id string) (*queuedriver.TxnResult, error) {
	if err := queuedriver.ValidateCommitID("id", id); err != nil {
		return nil, err
	}
	cmd := &machine.ReadResult{ID: id}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	q.confirm(cmd.Result)
	return cmd.Result, nil
}

// confirm says how safe the messages of a commit are.
func (q *queueConn) confirm(r *queuedriver.TxnResult) {
	for i := range r.Receipts {
		r.Receipts[i].Durability = q.core.durability()
	}
}
