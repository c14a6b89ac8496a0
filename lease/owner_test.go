package lease

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type owner chan error

func (o owner) LeaseEnded(cause error) { o <- cause }

// An owner is told of each end that is not its own doing, once.
func TestOwnerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := GoClock()
		refuse := errors.New("not yet")
		k := NewKeeper(KeeperConfig[string]{Clock: clock, Renew: func(_ context.Context, due []Due[string]) ([]Renewed, error) {
			out := make([]Renewed, len(due))
			for i, d := range due {
				out[i].Err = refuse
				if d.Ref == "revoked" {
					out[i].Err = ErrRevoked
				}
			}
			return out, nil
		}})
		closed := errors.New("closed")
		told := map[string]owner{}
		hold := func(ref string, ttl time.Duration, renew bool) *Held[string] {
			told[ref] = make(owner, 2)
			now := clock.Now()
			h := new(Held[string])
			k.HoldIn(h, told[ref], context.Background(), ref, ttl, Deadline(now, now, 0, ttl), renew)
			return h
		}
		hold("expires", time.Second, false)
		hold("revoked", 10*time.Second, true)
		hold("over", 0, false)
		mine := hold("mine", time.Minute, false)
		hold("left", time.Hour, false)
		mine.End(ErrReleased)
		<-time.After(30 * time.Second)
		k.Close(closed)
		hold("late", time.Hour, false)
		synctest.Wait()
		for ref, want := range map[string]error{
			"expires": ErrExpired, "revoked": ErrRevoked, "over": ErrExpired, "mine": nil, "left": closed, "late": closed,
		} {
			var got error
			select {
			case got = <-told[ref]:
			default:
			}
			if !errors.Is(got, want) {
				t.Errorf("%s: told %v, want %v", ref, got, want)
			}
			if len(told[ref]) > 0 {
				t.Errorf("%s: told twice", ref)
			}
		}
	})
}
