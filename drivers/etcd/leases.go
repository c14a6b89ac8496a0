package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Bounds of what is kept and of what is done at once.
const (
	maxIdle      = 256              // leases that are kept for the next grants
	idleTime     = 20 * time.Second // and for how long
	maxGrants    = 16               // leases asked for at once, for one request
	maxStreams   = 4                // streams of renewals for one call
	streamShare  = 64               // renewals that are worth a stream
	revokeTime   = time.Second      // for giving back what is left at Close
	maxShave     = time.Second      // what a grant on a kept lease may lack of its TTL
	shaveDivisor = 8                // or this part of it, if that is less
)

// etcdLease is a lease at etcd that this client made. Nobody else attaches a
// key to it.
type etcdLease struct {
	id      clientv3.LeaseID
	asked   int64         // seconds
	seconds int64         // what the server gave: no less
	fresh   lease.Instant // before the last request was sent that gave it its time
	idle    lease.Instant // since when
	grant   *quickGrant   // that hangs on it, if the release may take the short way
}

// quickGrant is a grant that this client made, and whose record is as it was
// written then unless its key has changed since.
type quickGrant struct {
	id  grantID
	key string
}

// grantID tells the grants of a client apart.
type grantID struct {
	name, holder string
	revision     int64 // that made it
}

// leftLocked returns for how long the lease lasts at least, if not renewed.
func (l *etcdLease) leftLocked(now lease.Instant) time.Duration {
	return l.fresh.Add(time.Duration(l.seconds) * time.Second).Sub(now)
}

// leases are the leases at etcd that a conn made. Each grant has one of its
// own. To make one costs a write to the disks of a majority, so those of
// grants that were released are kept for the next: a lease that was renewed a
// moment ago needs no renewal, the grant merely lacks that moment of its TTL.
//
// A lease is only kept if no request is on its way that would attach a key to
// it. One that is not is revoked, so that such a request comes too late.
type leases struct {
	c *conn

	mu    sync.Mutex
	used  map[clientv3.LeaseID]*etcdLease
	own   map[grantID]*etcdLease
	idle  map[int64][]*etcdLease // by what was asked; those used last come last
	count int                    // of idle
	trash []clientv3.LeaseID     // to be revoked

	condemned map[clientv3.LeaseID]struct{} // those in trash, and those that are being revoked
}

func newLeases(c *conn) *leases {
	return &leases{
		c: c, used: map[clientv3.LeaseID]*etcdLease{}, own: map[grantID]*etcdLease{}, idle: map[int64][]*etcdLease{},
		condemned: map[clientv3.LeaseID]struct{}{},
	}
}

// take returns n leases that last for need, less what a kept one may lack.
func (p *leases) take(ctx context.Context, need, ttl time.Duration, n int) ([]*etcdLease, error) {
	out := make([]*etcdLease, n)
	shave := min(ttl/shaveDivisor, maxShave)
	if n == 1 { // the common case
		l, err := p.one(ctx, need, shave)
		out[0] = l
		return out, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(maxGrants)
	for i := range out {
		group.Go(func() error {
			var err error
			out[i], err = p.one(gctx, need, shave)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		p.give(out...)
		return nil, err
	}
	return out, nil
}

func (p *leases) one(ctx context.Context, need, shave time.Duration) (*etcdLease, error) {
	asked := seconds(need)
	for {
		l := p.pop(asked)
		if l == nil {
			return p.grant(ctx, asked)
		}
		switch left := p.left(l, p.c.clock.Now()); {
		case left >= need-shave:
			return l, nil
		case left <= 0:
			p.lose(l.id)
			continue
		}
		sent := p.c.clock.Now()
		left, err := p.keepAlive(ctx, []clientv3.LeaseID{l.id})
		switch {
		case err != nil:
			p.give(l)                                                                  // it is none the worse
			return nil, fmt.Errorf("%w: renew a lease: %v", lease.ErrUnavailable, err) //nolint:errorlint // nothing hangs on it whose outcome could be unknown
		case left[0] > 0:
			p.kept(l.id, sent)
			return l, nil
		default:
			p.lose(l.id)
		}
	}
}

// left returns for how long a lease lasts at least. A renewal of the grant that
// had it before may be noted meanwhile.
func (p *leases) left(l *etcdLease, now lease.Instant) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.leftLocked(now)
}

// pop returns an idle lease, which is in use from now on; nil: there is none.
func (p *leases) pop(asked int64) *etcdLease {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.idle[asked]
	if len(kept) == 0 {
		return nil
	}
	l := kept[len(kept)-1]
	p.idle[asked] = kept[:len(kept)-1]
	p.count--
	p.used[l.id] = l
	return l
}

// grant makes a lease.
func (p *leases) grant(ctx context.Context, asked int64) (*etcdLease, error) {
	if err := p.c.ready(ctx); err != nil {
		return nil, err
	}
	bounded, cancel := p.c.bound(ctx)
	defer cancel()
	sent := p.c.clock.Now()
	answer, err := p.c.rpc.LeaseGrant(bounded, &etcdserverpb.LeaseGrantRequest{TTL: asked})
	if err != nil { // one that was made all the same has no keys, and runs out
		return nil, p.c.failed(ctx, err, false)
	}
	l := &etcdLease{id: clientv3.LeaseID(answer.ID), asked: asked, seconds: answer.TTL, fresh: sent}
	p.mu.Lock()
	p.used[l.id] = l
	p.mu.Unlock()
	return l, nil
}

// give takes leases back that nothing is attached to, nor will be.
func (p *leases) give(all ...*etcdLease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.c.clock.Now()
	for _, l := range all {
		if l == nil || p.used[l.id] != l { // another call was faster
			continue
		}
		p.endLocked(l.id)
		if p.count >= maxIdle {
			p.condemnLocked(l.id)
			continue
		}
		l.idle = now
		p.idle[l.asked] = append(p.idle[l.asked], l)
		p.count++
	}
}

// giveID is give for a lease that may be another client's.
func (p *leases) giveID(id clientv3.LeaseID) {
	p.mu.Lock()
	l := p.used[id]
	if l == nil && id != 0 {
		p.condemnLocked(id)
	}
	p.mu.Unlock()
	p.give(l)
}

// lose forgets a lease and has it revoked.
func (p *leases) lose(ids ...clientv3.LeaseID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.endLocked(id)
		p.condemnLocked(id)
	}
}

// endLocked ends the use of a lease.
func (p *leases) endLocked(id clientv3.LeaseID) {
	l := p.used[id]
	if l == nil {
		return
	}
	delete(p.used, id)
	if l.grant != nil {
		delete(p.own, l.grant.id)
		l.grant = nil
	}
}

// granted notes which grant hangs on a lease.
func (p *leases) granted(l *etcdLease, g *quickGrant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[l.id] == l {
		l.grant, p.own[g.id] = g, l
	}
}

// of returns the lease and the key of a grant that was noted; nil: it was not.
func (p *leases) of(k grantID) (*etcdLease, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.own[k]
	if l == nil {
		return nil, ""
	}
	return l, l.grant.key
}

func (p *leases) condemnLocked(id clientv3.LeaseID) {
	if _, ok := p.condemned[id]; !ok && len(p.condemned) < maxTrash { // the others run out
		p.condemned[id] = struct{}{}
		p.trash = append(p.trash, id)
	}
}

// doomed reports whether a lease is to be revoked, or may have been.
func (p *leases) doomed(id clientv3.LeaseID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.condemned[id]
	return ok
}

// kept notes that a lease was renewed.
func (p *leases) kept(id clientv3.LeaseID, sent lease.Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.used[id]; l != nil {
		l.fresh = max(l.fresh, sent)
	}
}

// tidy forgets leases that have run out, lets go of those that were idle for
// long, and revokes what is to be revoked.
func (p *leases) tidy(ctx context.Context) {
	p.mu.Lock()
	now := p.c.clock.Now()
	for id, l := range p.used {
		if l.leftLocked(now) < -time.Minute {
			p.endLocked(id)
		}
	}
	for asked, kept := range p.idle {
		n := 0
		for n < len(kept) && now.Sub(kept[n].idle) > idleTime {
			p.condemnLocked(kept[n].id)
			n++
		}
		p.count -= n
		if p.idle[asked] = kept[n:]; n == len(kept) {
			delete(p.idle, asked)
		}
	}
	trash := p.trash
	p.trash = nil
	p.mu.Unlock()
	left := p.revokeAll(ctx, trash)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range trash {
		delete(p.condemned, id)
	}
	for _, id := range left {
		p.condemnLocked(id)
	}
}

// maxTrash bounds the leases that wait to be revoked.
const maxTrash = 100_000

// revokeAll revokes leases and returns those that it could not.
func (p *leases) revokeAll(ctx context.Context, ids []clientv3.LeaseID) []clientv3.LeaseID {
	var mu sync.Mutex
	var left []clientv3.LeaseID
	var group errgroup.Group
	group.SetLimit(maxGrants)
	for i, id := range ids {
		if ctx.Err() != nil {
			mu.Lock()
			left = append(left, ids[i:]...)
			mu.Unlock()
			break
		}
		group.Go(func() error {
			if p.revoke(ctx, id) != nil {
				mu.Lock()
				left = append(left, id)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // it has no errors
	return left
}

// revoke ends a lease, and deletes what is attached to it.
func (p *leases) revoke(ctx context.Context, id clientv3.LeaseID) error {
	bounded, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), p.c.timeout)
	defer cancel()
	_, err := p.c.rpc.LeaseRevoke(bounded, &etcdserverpb.LeaseRevokeRequest{ID: int64(id)})
	if isGone(err) {
		return nil
	}
	return p.c.failed(ctx, err, true)
}

// close gives back what is idle.
func (p *leases) close() {
	p.mu.Lock()
	ids := p.trash
	for _, kept := range p.idle {
		for _, l := range kept {
			ids = append(ids, l.id)
		}
	}
	p.trash, p.idle, p.count = nil, nil, 0
	p.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), revokeTime)
	defer cancel()
	p.revokeAll(ctx, ids)
}

// keepAlive renews leases and returns how many seconds each has now: 0 for one
// that is gone.
func (p *leases) keepAlive(ctx context.Context, ids []clientv3.LeaseID) ([]int64, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if err := p.c.ready(ctx); err != nil {
		return nil, err
	}
	bounded, cancel := p.c.bound(ctx)
	defer cancel()
	out := make([]int64, len(ids))
	streams := min(maxStreams, (len(ids)+streamShare-1)/streamShare)
	share := (len(ids) + streams - 1) / streams
	group, gctx := errgroup.WithContext(bounded)
	for from := 0; from < len(ids); from += share {
		end := min(from+share, len(ids))
		group.Go(func() error { return p.stream(gctx, ids[from:end], out[from:end]) })
	}
	return out, p.c.failed(ctx, group.Wait(), true)
}

// stream renews leases one after another over one stream. The server answers
// in the order in which it was asked.
func (p *leases) stream(ctx context.Context, ids []clientv3.LeaseID, out []int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // it ends the stream
	s, err := p.c.rpc.LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil && !errors.Is(err, io.EOF) { // Recv says why
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for i, id := range ids {
		answer, err := s.Recv()
		switch {
		case err != nil:
			return err
		case answer.ID != int64(id):
			return fmt.Errorf("a renewal of lease %x was answered for %x", id, answer.ID)
		}
		out[i] = max(0, answer.TTL)
	}
	return nil
}

// remaining returns what is left of a lease, in whole seconds, and 0 if it is
// gone.
func (p *leases) remaining(ctx context.Context, id clientv3.LeaseID) (left int64, alive bool, err error) {
	if err := p.c.ready(ctx); err != nil {
		return 0, false, err
	}
	bounded, cancel := p.c.bound(ctx)
	defer cancel()
	answer, err := p.c.rpc.LeaseTimeToLive(bounded, &etcdserverpb.LeaseTimeToLiveRequest{ID: int64(id)})
	if isGone(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, p.c.failed(ctx, err, false)
	}
	return max(0, answer.TTL), answer.TTL >= 0, nil
}
