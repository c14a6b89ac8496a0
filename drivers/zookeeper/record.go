package zookeeper

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// record is the data of a claim.
type record struct {
	Holder  string            `json:"holder"`
	Request string            `json:"request,omitempty"` // its ID
	TTL     int64             `json:"ttl_ms"`            // what is given
	Delay   int64             `json:"lock_delay_ms,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Value   []byte            `json:"value,omitempty"`
	Revoked bool              `json:"revoked,omitempty"`

	// Of a claim that has moved from another session: what its node would say
	// otherwise.
	Zxid  int64 `json:"zxid,omitempty"`
	Since int64 `json:"since_ms,omitempty"`
}

// delayRecord is the data of a lock-delay's mark.
type delayRecord struct {
	Delay int64 `json:"delay_ms"`
	// Began: the claim ended unclean, and the delay counts from when this was
	// written.
	Began bool `json:"began,omitempty"`
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, lease.Invalidf("meta", "cannot be stored: %v", err)
	}
	return b, nil
}

func decode(path string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return nil
}

func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// newRecord is what a request writes.
func (c *conn) newRecord(r *driver.Request) *record {
	return &record{
		Holder: r.Holder, Request: r.ID, TTL: c.give(r.TTL).Milliseconds(), Delay: millis(r.LockDelay), Meta: r.Meta, Value: r.Value,
	}
}

// found is a claim that was read.
type found struct {
	claim claim
	path  string
	rec   record
	stat  zk.Stat
	place int // in the line
}

// zxid is the number from which the claim's token comes.
func (f *found) zxid() int64 {
	if f.rec.Zxid != 0 {
		return f.rec.Zxid
	}
	return f.stat.Czxid
}

// since is when the claim was made, by the servers' clock.
func (f *found) since() time.Time {
	if f.rec.Since != 0 {
		return time.UnixMilli(f.rec.Since)
	}
	return time.UnixMilli(f.stat.Ctime)
}
