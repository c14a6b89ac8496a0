package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Commit implements queuedriver.Conn.
func (c *queueConn) Commit(ctx context.Context, t *queuedriver.Txn) (*queuedriver.TxnResult, error) {
	whole := *t // Validate fills in what is left out
	if err := whole.Validate(&c.caps); err != nil {
		return nil, err
	}
	body, err := wire.NewCommitRequest(t)
	if err != nil {
		return nil, err
	}
	if len(body) > wire.MaxPublishBytes {
		return nil, lease.Invalidf("commit", "must be at most %d bytes as JSON, is %d", wire.MaxPublishBytes, len(body))
	}
	var out wire.CommitReply
	if err := c.send(ctx, request{method: http.MethodPost, path: "/v1/commit"}, body, &out); err != nil {
		return nil, err
	}
	if len(out.Settled) != len(t.Settle) {
		return nil, wrongCount(len(out.Settled), len(t.Settle))
	}
	if len(out.Receipts) != len(t.Publish) {
		return nil, wrongCount(len(out.Receipts), len(t.Publish))
	}
	return out.Driver()
}

// Result implements queuedriver.Conn.
func (c *queueConn) Result(ctx context.Context, id string) (*queuedriver.TxnResult, error) {
	if !c.caps.Commit {
		return nil, fmt.Errorf("result of a commit: %w", lease.ErrUnsupported)
	}
	var out wire.CommitReply
	r := request{method: http.MethodGet, path: "/v1/commit", query: url.Values{"id": {id}}, reads: true}
	if err := c.call(ctx, r, nil, &out); err != nil {
		return nil, err
	}
	return out.Driver()
}
