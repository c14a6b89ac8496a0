package etcd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// grantRecord is the value of a grant's key. Its token is the revision that
// created the key, and its end that of the key's lease. The value is the
// holder, a zero byte, and the rest as JSON.
type grantRecord struct {
	Holder  string            `json:"-"`
	ID      string            `json:"id"`                // of the request
	TTL     time.Duration     `json:"ttl"`               // what was given, in ns
	Delay   time.Duration     `json:"delay,omitempty"`   // the lock-delay, in ns
	Seconds int64             `json:"seconds"`           // what the lease was asked for
	Since   int64             `json:"since"`             // ms, by the wall clock of the client that was granted
	Permits int               `json:"permits,omitempty"` // of a semaphore
	Resumed bool              `json:"resumed,omitempty"`
	Revoked bool              `json:"revoked,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Value   []byte            `json:"value,omitempty"` // of a leader
}

// A grant with a lock-delay is not released without a look at how much is left
// of its lease. So that a release can tell by a comparison of values, its JSON
// has delayMark before it, and plainMark lies between that and the brace that
// begins the others.
const (
	delayMark = "~"
	plainMark = "|"
)

func (g *grantRecord) encode() (string, error) {
	b, err := json.Marshal(g)
	if err != nil {
		return "", lease.Invalidf("meta", "cannot be stored: %v", err)
	}
	if g.Delay > 0 {
		return g.Holder + separator + delayMark + string(b), nil
	}
	return g.Holder + separator + string(b), nil
}

func decodeGrant(b []byte) (*grantRecord, error) {
	holder, text, _ := bytes.Cut(b, []byte(separator))
	g := grantRecord{Holder: string(holder)}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte(delayMark)), &g); err != nil {
		return nil, fmt.Errorf("the record of a grant cannot be read: %w: %q", err, b)
	}
	return &g, nil
}

// isOf reports whether a grant's value is that of a holder.
func isOf(value []byte, holder string) bool { return bytes.HasPrefix(value, []byte(holder+separator)) }

// permits returns how many grants the name admits.
func (g *grantRecord) permits() int { return max(1, g.Permits) }

// waiterRecord is the value of both keys of a place in the line.
type waiterRecord struct {
	ID      string      `json:"id"`
	Order   int64       `json:"order"` // the number of the place
	Mode    driver.Mode `json:"mode,omitempty"`
	Permits int         `json:"permits,omitempty"`
	Set     string      `json:"set,omitempty"` // which names it waits for together
	Since   int64       `json:"since"`         // ms, by the wall clock of the client
}

func (w *waiterRecord) permits() int { return max(1, w.Permits) }

func (w *waiterRecord) encode() string {
	b, _ := json.Marshal(w) // it has nothing that could fail
	return string(b)
}

func decodeWaiter(b []byte) (*waiterRecord, error) {
	var w waiterRecord
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("the record of a waiter cannot be read: %w: %q", err, b)
	}
	return &w, nil
}

// seconds rounds up to what etcd counts leases in.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// setOf tells the names that a request waits for together from other sets that
// have some of them; "" for one name.
func setOf(r *driver.Request) string {
	if len(r.More) == 0 {
		return ""
	}
	d := xxhash.New()
	for i := range r.Names() {
		_, _ = d.WriteString(r.NameAt(i))
		_, _ = d.WriteString("\n") // no name has one
	}
	return strconv.FormatUint(d.Sum64(), 36)
}

// A ticket is the number of the place.
func writeTicket(order int64) string { return strconv.FormatInt(order, 10) }

// readTicket returns the number of a ticket, 0 if there is none.
func readTicket(t *driver.Ticket) (int64, error) {
	if t == nil {
		return 0, nil
	}
	n, err := strconv.ParseInt(t.Opaque, 10, 64)
	if err != nil || n <= 0 || writeTicket(n) != t.Opaque {
		return 0, errTicket
	}
	return n, nil
}

// errTicket refuses a ticket: the portable layer then gets in line anew.
var errTicket = lease.Invalidf("ticket", "must be one that was returned by an acquire")

func checkRef(name, holder string) error {
	if err := driver.ValidateName("name", name); err != nil {
		return err
	}
	return driver.ValidateHolder("holder", holder)
}

func checkBatch(refs []driver.Ref) error {
	if len(refs) > driver.MaxBatch {
		return lease.Invalidf("leases", "must be at most %d, are %d", driver.MaxBatch, len(refs))
	}
	for i := range refs {
		if err := checkRef(refs[i].Name, refs[i].Holder); err != nil {
			return err
		}
	}
	return nil
}
