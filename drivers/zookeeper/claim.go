package zookeeper

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// maxCreates bounds how often a node is created again because the servers
// remove its empty container meanwhile.
const maxCreates = 8

// MaxClaims bounds the holders and waiters of a name: each look at it reads all
// their names in one reply.
const MaxClaims = 10_000

func nodeOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// create makes the claim of a place: one transaction, which also writes the
// container, so that its reply says by which transaction the claim was made
// and how many nodes were there afterwards.
func (c *conn) create(p *place, r *driver.Request) (alone bool, err error) {
	parent, kind := c.namePath(r.Name), kindOf(r)
	c.mu.Lock()
	p.id, p.kind, p.request, p.checked, p.granted = newID(), kind, r.ID, false, false
	p.rec = *c.newRecord(r)
	c.mu.Unlock()
	data, err := encode(&p.rec)
	if err != nil {
		return false, err
	}
	path := parent + "/" + nodeName(kind, digest(r.Holder), p.id)
	for range maxCreates {
		before := c.client.SessionID()
		replies, err := c.client.Multi(
			&zk.CreateRequest{Path: path, Data: data, Acl: c.acl, Flags: zk.FlagEphemeralSequential},
			&zk.SetDataRequest{Path: parent, Version: -1})
		switch {
		case errors.Is(err, zk.ErrNoNode):
			if err := c.makeContainers(r.Name); err != nil {
				return false, err
			}
			continue
		case err != nil && lost(err):
			c.mu.Lock()
			p.unknown = true
			c.mu.Unlock()
			c.last(p, c.session)
			return false, err
		case err != nil:
			return false, err
		case len(replies) != 2 || replies[1].Stat == nil:
			return false, fmt.Errorf("%w: a transaction's reply cannot be read", lease.ErrUnknown)
		}
		made, stat := replies[0].String, replies[1].Stat
		if before == 0 || before != c.client.SessionID() {
			return false, c.take(p, made) // whose session it is has to be seen
		}
		c.mu.Lock()
		p.path, p.version, p.zxid, p.session = made, 0, stat.Mzxid, before
		p.made, p.ctime = time.Now(), stat.Mtime
		c.mu.Unlock()
		if stat.NumChildren > c.most {
			c.drop(p)
			return false, fmt.Errorf("%d hold or wait for the name: %w", c.most, lease.ErrLimit)
		}
		return stat.NumChildren == 1, nil
	}
	return false, fmt.Errorf("%w: the container of the name cannot be kept", lease.ErrUnavailable)
}

// makeContainers makes the nodes above the claims of a name.
func (c *conn) makeContainers(name string) error {
	for _, path := range []string{c.namePath(name), c.shardPath(name), c.namePath(name)} {
		_, err := c.client.CreateContainer(path, nil, zk.FlagContainer, c.acl)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			if path == c.shardPath(name) {
				return c.prepare()
			}
			continue
		case err != nil && !errors.Is(err, zk.ErrNodeExists):
			return err
		case path == c.namePath(name):
			return nil
		}
	}
	return nil
}

// confirm makes a round trip through the leader that finds the claim as it is
// known here, and makes the mark of a lock-delay. A semaphore's claim is
// written, to tell the one behind it that it was granted.
func (c *conn) confirm(p *place) error {
	for range maxRounds {
		ops, err := c.confirmation(p)
		if err != nil {
			return err
		}
		replies, err := c.client.Multi(ops...)
		switch failed := failedAt(replies); {
		case err == nil:
			c.mu.Lock()
			if replies[0].Stat != nil {
				p.version = replies[0].Stat.Version
			}
			p.delayed = p.rec.Delay > 0
			c.mu.Unlock()
			return nil
		case failed == 0 && errors.Is(err, zk.ErrNoNode):
			return errGone
		case failed == 0 && errors.Is(err, zk.ErrBadVersion):
			if err := c.reread(p); err != nil {
				return err
			}
		case failed == 1 && errors.Is(err, zk.ErrNodeExists):
			c.mu.Lock()
			p.delayed = true
			c.mu.Unlock()
		default:
			return err
		}
	}
	return fmt.Errorf("%w: the claim changes all the time", lease.ErrUnavailable)
}

func (c *conn) confirmation(p *place) ([]any, error) {
	ops := []any{&zk.CheckVersionRequest{Path: p.path, Version: p.version}}
	if p.kind != kindExclusive && p.kind != kindShared && !p.granted {
		data, err := encode(&p.rec)
		if err != nil {
			return nil, err
		}
		ops[0] = &zk.SetDataRequest{Path: p.path, Data: data, Version: p.version}
	}
	if p.rec.Delay > 0 && !p.delayed {
		data, err := encode(delayRecord{Delay: p.rec.Delay})
		if err != nil {
			return nil, err
		}
		ops = append(ops, &zk.CreateRequest{Path: c.delayPath(p), Data: data, Acl: c.acl, Flags: zk.FlagPersistent})
	}
	return ops, nil
}

// failedAt returns which part of a transaction failed, -1 if none did.
func failedAt(replies []zk.MultiResponse) int {
	for i := range replies {
		if replies[i].Error != nil {
			return i
		}
	}
	return -1
}

// write replaces the data of a place's claim, and the container's, so that
// those who watch the name see it.
func (c *conn) write(p *place, rec record) error {
	for range maxRounds {
		data, err := encode(&rec)
		if err != nil {
			return err
		}
		replies, err := c.client.Multi(
			&zk.SetDataRequest{Path: p.path, Data: data, Version: p.version},
			&zk.SetDataRequest{Path: c.namePath(p.key.name), Version: -1})
		switch {
		case err == nil:
			c.mu.Lock()
			p.rec, p.version = rec, replies[0].Stat.Version
			c.mu.Unlock()
			return nil
		case errors.Is(err, zk.ErrNoNode):
			return errGone
		case errors.Is(err, zk.ErrBadVersion):
			if err := c.take(p, p.path); err != nil {
				return err
			}
			if p.path == "" {
				return errGone
			}
			rec.Revoked = p.rec.Revoked
		default:
			return err
		}
	}
	return fmt.Errorf("%w: the claim changes all the time", lease.ErrUnavailable)
}

// lookup returns the claim of a holder, nil if it has none, and what else
// there is of the name, as the leader knows it.
func (c *conn) lookup(name, holder string) (*found, *view, error) {
	if err := c.sync(); err != nil {
		return nil, nil, err
	}
	v, err := c.look(name)
	if err != nil {
		return nil, nil, err
	}
	d := digest(holder)
	for i := range v.claims {
		if v.claims[i].holder != d {
			continue
		}
		f, err := c.read(name, v, i)
		if err != nil {
			return nil, nil, err
		}
		if f != nil && f.rec.Holder == holder {
			return f, v, nil
		}
	}
	return nil, v, nil
}

// read reads one claim, nil if it is gone.
func (c *conn) read(name string, v *view, at int) (*found, error) {
	f := &found{claim: v.claims[at], path: c.namePath(name) + "/" + v.claims[at].node, place: at}
	data, stat, err := c.client.Get(f.path)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil //nolint:nilnil // it is no error
	}
	if err != nil {
		return nil, err
	}
	f.stat = *stat
	return f, decode(f.path, data, &f.rec)
}

// adopt makes a claim that was found the place's, with what rec says. One of
// another session moves to this one in one transaction: it keeps its token and
// its place, and there is no moment without it. The place is left without a
// claim if that was too late.
func (c *conn) adopt(p *place, f *found, rec record) error {
	c.reset(p)
	c.mu.Lock()
	p.id, p.kind, p.request, p.checked = f.claim.id, f.claim.kind, rec.Request, true
	p.delayed = false // whether the mark is there is seen when it is to be made
	c.mu.Unlock()
	session := c.client.SessionID()
	if f.stat.EphemeralOwner == session && session != 0 {
		changed := rec.Request != f.rec.Request || rec.TTL != f.rec.TTL
		c.own(p, f)
		if !changed {
			return nil
		}
		return gone(c, p, c.write(p, rec))
	}
	rec.Zxid, rec.Since = f.zxid(), f.since().UnixMilli()
	data, err := encode(&rec)
	if err != nil {
		return err
	}
	parent := c.namePath(p.key.name)
	path := parent + "/" + nodeName(f.claim.kind, f.claim.holder, f.claim.id) + f.claim.node[strings.LastIndexByte(f.claim.node, '.')+1:]
	_, err = c.client.Multi(
		&zk.DeleteRequest{Path: f.path, Version: f.stat.Version},
		&zk.CreateRequest{Path: path, Data: data, Acl: c.acl, Flags: zk.FlagEphemeral},
		&zk.SetDataRequest{Path: parent, Version: -1})
	switch {
	case errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrBadVersion):
		c.reset(p)
		return nil
	case err != nil:
		c.reset(p)
		return err
	}
	return c.take(p, path)
}

// erase removes a claim of whatever session, with its lock-delay; it reports
// whether it was there.
func (c *conn) erase(name string, f *found) (bool, error) {
	mark := c.namePath(name) + "/" + markDelay + "." + f.claim.id
	var err error
	if f.rec.Delay > 0 {
		_, err = c.client.Multi(&zk.DeleteRequest{Path: f.path, Version: -1}, &zk.DeleteRequest{Path: mark, Version: -1})
	}
	if f.rec.Delay == 0 || errors.Is(err, zk.ErrNoNode) {
		err = c.client.Delete(f.path, -1)
	}
	if errors.Is(err, zk.ErrNoNode) {
		return false, nil
	}
	return err == nil, err
}

// checkRef checks what names a lease.
func checkRef(name, holder string) error {
	if err := driver.ValidateName("name", name); err != nil {
		return err
	}
	return driver.ValidateHolder("holder", holder)
}
