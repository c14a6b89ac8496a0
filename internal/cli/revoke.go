package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

func (a *app) revokeCommand() *cobra.Command {
	var options lock.RevokeOptions
	var token string
	cmd := &cobra.Command{
		Use:     "revoke KEY",
		GroupID: groupLocks,
		Short:   "Take a lock away from its holder",
		Long: `Take a lock away from its holder.

Revoking is safe: the holder cannot renew any more, learns of it, and the next
one is granted when the lease has run out, within one TTL.

With --break the next one is granted at once, while the holder may still be at
work: only what checks the fencing token is protected. Use it when the holder
is known to be dead and the TTL is long.`,
		Example: `  lockkeeper revoke nightly-report
  lockkeeper revoke --token 1790000000000123 nightly-report   # only if it is still that holder
  lockkeeper revoke --break nightly-report`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeLock,
		RunE: func(cmd *cobra.Command, args []string) error {
			var t lock.Token
			if token != "" {
				var err error
				if t, err = lease.ParseToken(token); err != nil {
					return usageOf(cmd, fmt.Errorf("--%w", err))
				}
			}
			return a.withLocks(cmd.Context(), func(ctx context.Context, locks *lock.Locker) error {
				return a.revoke(ctx, locks, args[0], t, &options)
			})
		},
	}
	cmd.Flags().BoolVar(&options.Break, "break", false, "grant the next one at once: the holder may still be at work")
	cmd.Flags().StringVar(&token, "token", "", "only the grant with this token; without it all grants of the name")
	return cmd
}

// revokedJSON is a line of `revoke --json`.
type revokedJSON struct {
	Name   string      `json:"name"`
	Holder string      `json:"holder"`
	Token  lease.Token `json:"token"`
	Broken bool        `json:"broken"`
	EndsMS int64       `json:"ends_ms"`
}

func (a *app) revoke(ctx context.Context, locks *lock.Locker, name string, token lock.Token, o *lock.RevokeOptions) error {
	// Only to be able to say what was revoked.
	info, err := locks.Info(ctx, name)
	if err != nil && !errors.Is(err, lock.ErrNotFound) {
		return err
	}
	if err := locks.Revoke(ctx, name, token, o); err != nil {
		if errors.Is(err, lock.ErrNotHeld) && token != 0 {
			return fmt.Errorf("%w with token %s: see lockkeeper locks", err, token)
		}
		return err
	}
	if info == nil {
		return nil
	}
	for _, g := range info.Grants {
		if token != 0 && g.Token != token {
			continue
		}
		if err := a.printRevoked(name, &g, o.Break); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printRevoked(name string, g *lock.GrantInfo, broken bool) error {
	if a.json {
		line := revokedJSON{Name: name, Holder: g.Holder, Token: g.Token, Broken: broken, EndsMS: g.Remaining.Milliseconds()}
		if broken {
			line.EndsMS = 0
		}
		return a.printJSON(line)
	}
	if broken {
		_, err := fmt.Fprintf(a.Out, "broke %s: holder %s with token %s has lost it; only the token protects what it still does\n",
			name, g.Holder, g.Token)
		return err
	}
	_, err := fmt.Fprintf(a.Out, "revoked %s: holder %s with token %s cannot renew it; it is free in %s at the latest\n",
		name, g.Holder, g.Token, brief(g.Remaining))
	return err
}
