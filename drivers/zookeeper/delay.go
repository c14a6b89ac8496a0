package zookeeper

import (
	"errors"
	"time"

	"github.com/go-zookeeper/zk"
)

func (c *conn) delayPath(p *place) string {
	return c.namePath(p.key.name) + "/" + markDelay + "." + p.id
}

// closedUntil returns until when the name is closed by lock-delays of claims
// that are gone; zero: it is open. A delay begins with the first who sees that
// its claim is gone, and its mark is removed by the first who sees that it is
// over. p tells how the servers' clock goes, if it has a claim.
func (c *conn) closedUntil(p *place, name string, v *view) (time.Time, error) {
	var until time.Time
	for _, id := range v.orphans() {
		left, err := c.delayLeft(p, c.namePath(name)+"/"+markDelay+"."+id)
		if err != nil {
			return until, err
		}
		if at := time.Now().Add(left); left > 0 && at.After(until) {
			until = at
		}
	}
	return until, nil
}

// delayLeft returns how long a lock-delay lasts on.
func (c *conn) delayLeft(p *place, mark string) (time.Duration, error) {
	for range maxRounds {
		data, stat, err := c.client.Get(mark)
		if errors.Is(err, zk.ErrNoNode) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		var d delayRecord
		if err := decode(mark, data, &d); err != nil {
			return 0, err
		}
		delay := time.Duration(d.Delay) * time.Millisecond
		if !d.Began {
			d.Began = true
			if data, err = encode(d); err == nil {
				_, err = c.client.Set(mark, data, stat.Version)
			}
			if err == nil {
				return delay, nil
			}
			if errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNoNode) {
				continue // another was faster
			}
			return 0, err
		}
		left := delay - c.elapsed(p, stat.Mtime)
		if left > 0 {
			return left, nil
		}
		err = c.client.Delete(mark, stat.Version)
		if err == nil || errors.Is(err, zk.ErrNoNode) {
			return 0, nil
		}
		return 0, err
	}
	return retryEvery, nil
}

// elapsed is how much time has passed since a moment of the servers' clock:
// by that clock until the claim was made, and by ours from then on. Without a
// claim it is by this machine's wall clock.
func (c *conn) elapsed(p *place, millis int64) time.Duration {
	if p != nil && p.path != "" {
		return time.Duration(p.ctime-millis)*time.Millisecond + time.Since(p.made)
	}
	return max(0, time.Since(time.UnixMilli(millis)))
}
