package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// A ticket is one of the old backend or, of a request that holds the name
// there, one of the new backend. The first byte says which.
const (
	inOldLine = 'o'
	inNewLine = 'n'
)

// tickets returns a request's tickets for the two backends.
func tickets(t *driver.Ticket) (old, next *driver.Ticket, err error) {
	if t == nil {
		return nil, nil, nil
	}
	if t.Opaque == "" {
		return nil, nil, lease.Invalidf("ticket", "is empty")
	}
	inner := &driver.Ticket{Opaque: t.Opaque[1:], Position: t.Position}
	switch t.Opaque[0] {
	case inOldLine:
		return inner, nil, nil
	case inNewLine:
		return nil, inner, nil
	}
	return nil, nil, lease.Invalidf("ticket", "is none of this driver")
}

func ticketFor(line byte, t *driver.Ticket) (*driver.Ticket, error) {
	if len(t.Opaque) >= driver.MaxTicket {
		return nil, fmt.Errorf("a ticket of %d bytes leaves no room for its line: %w", len(t.Opaque), lease.ErrLimit)
	}
	return &driver.Ticket{Opaque: string(line) + t.Opaque, Position: t.Position}, nil
}

// with returns a copy of r with another ticket.
func with(r *driver.Request, t *driver.Ticket) *driver.Request {
	own := *r
	own.Ticket = t
	return &own
}

// Acquire implements driver.Conn. It keeps no state of a request that waits:
// each attempt asks both again, which gives what the old backend has granted
// its TTL anew.
func (c *conn) Acquire(ctx context.Context, r *driver.Request) (*driver.Grant, *driver.Ticket, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, nil, err
	}
	oldTicket, newTicket, err := tickets(r.Ticket)
	if err != nil {
		return nil, nil, err
	}
	old, t, err := c.old.Acquire(ctx, with(r, oldTicket))
	if err != nil {
		return nil, nil, err
	}
	if t != nil {
		t, err = ticketFor(inOldLine, t)
		return nil, t, err
	}
	next, t, err := c.new.Acquire(ctx, with(r, newTicket))
	if err != nil {
		return nil, nil, c.half(ctx, r, err)
	}
	if t != nil {
		t, err = ticketFor(inNewLine, t)
		return nil, t, err
	}
	g, err := c.granted(ctx, r, old, next)
	return g, nil, err
}

// half returns the error of an Acquire that the old backend has granted and
// the new one not: after one that is definite nothing is held.
func (c *conn) half(ctx context.Context, r *driver.Request, err error) error {
	passing := errors.Is(err, lease.ErrUnavailable) || errors.Is(err, lease.ErrUnknown) || ctx.Err() != nil
	if passing || r.Resume {
		return unknown(err)
	}
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if undo := c.old.Cancel(ctx, with(r, nil)); undo != nil {
		return unknown(errors.Join(err, undo))
	}
	return err
}

// unknown says that something is held or in line on one of the backends. It
// does not match err, which may say that nothing was done.
func unknown(err error) error {
	return fmt.Errorf("%w: one of the two backends may have granted it: %s", lease.ErrUnknown, err.Error())
}

// granted makes one grant of two.
func (c *conn) granted(ctx context.Context, r *driver.Request, old, next *driver.Grant) (*driver.Grant, error) {
	for i := range r.Names() {
		if err := growing(old.TokenAt(i), next.TokenAt(i)); err != nil {
			return nil, c.undo(ctx, r, err)
		}
	}
	handed, known := c.pairs.handed(r, old, next)
	if !known {
		come, err := c.turn.come(ctx)
		if err != nil {
			return nil, unknown(err)
		}
		if handed = TokensOld; come {
			handed = TokensNew
		}
		c.pairs.add(r, old, next, handed)
	}
	from := next
	if handed == TokensOld {
		from = old
	}
	// The TTLs of both count from after this call began.
	return &driver.Grant{
		Token: from.Token, More: from.More, Resumed: from.Resumed,
		TTL: min(old.TTL, next.TTL), Waited: min(old.Waited, next.Waited),
	}, nil
}

// undo takes a grant of both back.
func (c *conn) undo(ctx context.Context, r *driver.Request, err error) error {
	if r.Resume {
		return err
	}
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if undo := c.Cancel(ctx, r); undo != nil {
		return unknown(errors.Join(err, undo))
	}
	return err
}

// Wait implements driver.Conn. It never returns a grant: one of the old backend
// is half of one, and one of the new backend goes with a new TTL of the old.
func (c *conn) Wait(ctx context.Context, r *driver.Request, t *driver.Ticket) (*driver.Grant, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, err
	}
	oldTicket, newTicket, err := tickets(t)
	switch {
	case err != nil:
		return nil, err
	case oldTicket != nil:
		_, err := c.old.Wait(ctx, with(r, oldTicket), oldTicket)
		return nil, err
	case newTicket == nil:
		return nil, nil //nolint:nilnil // attempt again
	}
	// What the old backend has granted wants to be renewed: by an attempt.
	soon, cancel := context.WithTimeout(ctx, r.TTL/3)
	defer cancel()
	_, err = c.new.Wait(soon, with(r, newTicket), newTicket)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		err = nil
	}
	return nil, err
}

// Cancel implements driver.Conn.
func (c *conn) Cancel(ctx context.Context, r *driver.Request) error {
	if err := r.ValidateCancel(); err != nil {
		return err
	}
	c.pairs.forget(r)
	plain := with(r, nil)
	err := c.new.Cancel(ctx, plain)
	if old := c.old.Cancel(ctx, plain); err == nil {
		err = old
	}
	return err
}
