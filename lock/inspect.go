package lock

import (
	"context"
	"iter"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// List returns the names that begin with prefix and have holders, waiters or
// a lock-delay, in byte order. It reads them page by page while the caller
// goes on, so that it is no snapshot. An error ends it.
func (l *Locker) List(ctx context.Context, prefix string) iter.Seq2[*Info, error] {
	return func(yield func(*Info, error) bool) {
		r := driver.ListRequest{Prefix: prefix, Max: driver.DefaultList}
		for {
			page, err := l.list(ctx, &r)
			if err != nil {
				yield(nil, wrap("list locks", prefix, err))
				return
			}
			if len(page) == 0 {
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			r.After = page[len(page)-1].Name
		}
	}
}

func (l *Locker) list(ctx context.Context, r *driver.ListRequest) ([]Info, error) {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return l.conn.List(ctx, r)
}

// Info describes one name. ErrNotFound: nobody holds or awaits it, and it is
// not closed.
func (l *Locker) Info(ctx context.Context, name string) (*Info, error) {
	info, err := l.info(ctx, name)
	return info, wrap("describe lock", name, err)
}

func (l *Locker) info(ctx context.Context, name string) (*Info, error) {
	if err := driver.ValidateName("name", name); err != nil {
		return nil, err
	}
	found, err := l.list(ctx, &driver.ListRequest{Name: name, Max: 1})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return &found[0], nil
}

// Revoke refuses further renewals of the grant of name with token t, or of all
// its grants if t is 0: each ends at its deadline, which is safe. With
// RevokeOptions.Break it ends at once, which is not. ErrNotHeld: there is no
// such grant.
func (l *Locker) Revoke(ctx context.Context, name string, t Token, o *RevokeOptions) error {
	brk := o != nil && o.Break
	op := "revoke lock"
	if brk {
		op = "break lock"
	}
	return wrap(op, name, l.revoke(ctx, &driver.RevokeRequest{Name: name, Token: t, Break: brk}))
}

func (l *Locker) revoke(ctx context.Context, r *driver.RevokeRequest) error {
	if err := driver.ValidateName("name", r.Name); err != nil {
		return err
	}
	if r.Break && !l.caps.Break || !r.Break && !l.caps.Revoke {
		return ErrUnsupported
	}
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return l.conn.Revoke(ctx, r)
}
