package wire

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// WatchHeartbeat is how often GET /v1/locks/watch sends a comment when there
// is nothing to tell. A client that gets nothing for several times as long
// has lost the daemon.
const WatchHeartbeat = 5 * time.Second

// MaxEventBytes bounds one event: the state of a name with all its grants.
const MaxEventBytes = 64 << 20

// EventProblem is the event that ends a watch which the daemon cannot go on
// with: its data is a Problem.
const EventProblem = "problem"

// ValueRequest replaces the value of a grant: POST /v1/locks/value.
type ValueRequest struct {
	LeaseRef
	Value []byte `json:"value" doc:"in base64, up to 4096 bytes; empty takes it away"`
}

// GoneName is the data of an event gone.
type GoneName struct {
	Name string `json:"name"`
}

// EncodeEvent returns the data of an event, without a line feed.
func EncodeEvent(e *lockdriver.Event) ([]byte, error) {
	switch e.Kind {
	case lockdriver.EventState:
		return json.Marshal(NewLockInfo(&e.Info))
	case lockdriver.EventGone:
		return json.Marshal(GoneName{Name: e.Info.Name})
	default:
		return []byte("{}"), nil
	}
}

// DecodeEvent is the inverse of EncodeEvent. An event of a kind that this
// program does not know is nil.
func DecodeEvent(kind string, data []byte) (*lockdriver.Event, error) {
	e := &lockdriver.Event{Kind: lockdriver.EventKind(kind)}
	switch e.Kind {
	case lockdriver.EventReset, lockdriver.EventSynced:
	case lockdriver.EventGone:
		var name GoneName
		if err := json.Unmarshal(data, &name); err != nil {
			return nil, fmt.Errorf("%w: an event cannot be read: %w", lease.ErrUnavailable, err)
		}
		e.Info.Name = name.Name
	case lockdriver.EventState:
		var info LockInfo
		err := json.Unmarshal(data, &info)
		if err == nil {
			e.Info, err = info.Driver()
		}
		if err != nil {
			return nil, fmt.Errorf("%w: an event cannot be read: %w", lease.ErrUnavailable, err)
		}
	default:
		return nil, nil
	}
	return e, nil
}
