package zookeeper

import (
	"errors"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// placeKey is whose a place is: a holder has one on a name.
type placeKey struct{ name, holder string }

// place is what this client knows of a claim of its own: a waiter's or a
// holder's. Who has its turn may do I/O for it; the fields are under conn.mu
// besides.
type place struct {
	key  placeKey
	turn chan struct{} // holds one while somebody has it

	request string // the request's ID
	kind    string
	id      string // of the claim; drawn before it is made
	unknown bool   // whether the claim was made is not known
	path    string // "": there is no claim
	version int32
	rec     record
	zxid    int64
	session int64
	made    time.Time // when it was known that the claim is there
	ctime   int64     // when that was by the servers' clock

	checked bool // no other claim of the holder is ahead
	granted bool
	resumed bool      // the next grant is an older one, taken up
	delayed bool      // its lock-delay's mark is there
	watch   *watch    // what it waits for; nil: nothing
	recheck time.Time // when to look without an event; zero: never
	waits   int       // Waits under way

	dead   bool        // not in conn.places any more
	ending bool        // its time was over: it is being removed
	until  time.Time   // when the client ends it by itself
	timer  *time.Timer // fires then
}

// enter returns the place of a key, made if it is missing, with its turn
// taken. leave gives the turn back.
func (c *conn) enter(k placeKey, r *driver.Request) *place {
	for {
		c.mu.Lock()
		p := c.places[k]
		if p == nil {
			p = &place{key: k, turn: make(chan struct{}, 1), request: r.ID}
			p.timer = time.AfterFunc(time.Hour, func() { c.ripen(p) })
			p.timer.Stop()
			c.places[k] = p
		}
		c.mu.Unlock()
		p.turn <- struct{}{}
		if !p.dead {
			return p
		}
		<-p.turn
	}
}

// existing is enter for a place that is there, nil otherwise.
func (c *conn) existing(k placeKey) *place {
	c.mu.Lock()
	p := c.places[k]
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	p.turn <- struct{}{}
	if p.dead {
		<-p.turn
		return nil
	}
	return p
}

// exit gives the turn back, and forgets a place without a claim.
func (c *conn) exit(p *place) {
	c.mu.Lock()
	if p.path == "" && !p.unknown {
		p.dead = true
		p.timer.Stop()
		if c.places[p.key] == p {
			delete(c.places, p.key)
		}
	}
	c.mu.Unlock()
	<-p.turn
}

// reset forgets the claim: it is gone, or its session is.
func (c *conn) reset(p *place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.path, p.id, p.unknown, p.checked, p.granted, p.delayed, p.watch, p.ending = "", "", false, false, false, false, nil, false
	p.timer.Stop()
}

// last sets when the client ends the place by itself.
func (c *conn) last(p *place, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.until, p.ending = time.Now().Add(d), false
	p.timer.Reset(d)
}

// current reports whether the claim is of the session that the client has.
func (c *conn) current(p *place) bool { return p.session == c.client.SessionID() }

// ripen ends a place whose time is over: a lease that was not renewed, or a
// waiter that nobody asks for any more.
func (c *conn) ripen(p *place) {
	c.work.Start(func() {
		p.turn <- struct{}{}
		defer c.exit(p)
		c.mu.Lock()
		left, waits := time.Until(p.until), p.waits
		if !p.granted && (p.watch != nil || !p.recheck.IsZero()) {
			left = max(left, c.patience())
		}
		p.ending = left <= 0 && waits == 0 // from here on a renewal does not find it
		c.mu.Unlock()
		switch {
		case p.dead || p.path == "" && !p.unknown:
			return
		case waits > 0:
			c.last(p, c.session)
			return
		case left > 0:
			c.last(p, left)
			return
		}
		if p.unknown {
			if err := c.resolve(p); err != nil {
				c.last(p, retryEvery)
				return
			}
		}
		if p.path == "" {
			return
		}
		if !p.granted && !c.reached() { // nobody could ask for it
			c.last(p, c.session)
			return
		}
		if err := c.remove(p, !p.granted); err != nil && !errors.Is(err, errGone) {
			c.last(p, retryEvery) // until it is gone
		}
	})
}

// patience is what is left of the time that a waiter has to be asked for again
// after the servers were away, as those who could ask were cut off as well.
func (c *conn) patience() time.Duration {
	if c.link == nil {
		return 0
	}
	return c.session - c.link.up()
}

// reached reports whether the servers answer, and at once.
func (c *conn) reached() bool {
	began := time.Now()
	return c.sync() == nil && time.Since(began) < connectTime
}

// retryEvery is how often what is to be removed is tried again.
const retryEvery = 200 * time.Millisecond

// remove ends a claim of this client's. clean: its lock-delay does not begin.
// It is gone afterwards, or there is an error; errGone: it was before.
func (c *conn) remove(p *place, clean bool) error {
	if !c.current(p) {
		c.reset(p)
		return errGone
	}
	var err error
	switch {
	case !p.delayed:
		err = c.client.Delete(p.path, -1)
	case clean:
		_, err = c.client.Multi(&zk.DeleteRequest{Path: p.path, Version: -1}, &zk.DeleteRequest{Path: c.delayPath(p), Version: -1})
	default:
		var data []byte
		if data, err = encode(delayRecord{Delay: p.rec.Delay, Began: true}); err == nil {
			_, err = c.client.Multi(&zk.DeleteRequest{Path: p.path, Version: -1}, &zk.SetDataRequest{Path: c.delayPath(p), Data: data, Version: -1})
		}
	}
	if errors.Is(err, zk.ErrNoNode) && p.delayed {
		err = c.client.Delete(p.path, -1) // somebody has removed the mark
	}
	if err == nil {
		c.reset(p)
	}
	if errors.Is(err, zk.ErrNoNode) {
		c.reset(p)
		return errGone
	}
	return err
}

// drop removes the claim of a request that is refused, in the background if it
// cannot be done now.
func (c *conn) drop(p *place) {
	if err := c.remove(p, true); err != nil && !errors.Is(err, errGone) {
		c.mu.Lock()
		p.watch, p.recheck = nil, time.Time{}
		c.mu.Unlock()
		c.last(p, retryEvery)
	}
}

// resolve finds out whether the claim of a place was made.
func (c *conn) resolve(p *place) error {
	if err := c.sync(); err != nil {
		return err
	}
	v, err := c.look(p.key.name)
	if err != nil {
		return err
	}
	for _, cl := range v.claims {
		if cl.id == p.id && cl.holder == digest(p.key.holder) {
			return c.take(p, c.namePath(p.key.name)+"/"+cl.node)
		}
	}
	c.reset(p)
	return nil
}

// take makes a node that is there the claim of a place, if it is of this
// session; one of a session before is on its way out.
func (c *conn) take(p *place, path string) error {
	data, stat, err := c.client.Get(path)
	if errors.Is(err, zk.ErrNoNode) || err == nil && stat.EphemeralOwner != c.client.SessionID() {
		c.reset(p)
		return nil
	}
	if err != nil {
		return err
	}
	f := found{path: path, stat: *stat}
	if err := decode(path, data, &f.rec); err != nil {
		return err
	}
	c.own(p, &f)
	return nil
}

// own notes a claim that was read.
func (c *conn) own(p *place, f *found) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.path, p.unknown, p.rec, p.version = f.path, false, f.rec, f.stat.Version
	p.zxid, p.session = f.zxid(), f.stat.EphemeralOwner
	p.made, p.ctime = time.Now(), f.stat.Mtime
}

// errGone says that a claim is not there any more.
var errGone = errors.New("the claim is gone")

// reread reads the claim of a place anew, after its version was another.
func (c *conn) reread(p *place) error {
	err := c.take(p, p.path)
	if err == nil && p.path == "" {
		err = errGone
	}
	if err == nil && p.rec.Revoked {
		err = lease.ErrRevoked
	}
	return err
}
