package machine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// lockDisk is what the Changes of locks leave behind. A change of any other
// kind panics.
type lockDisk struct {
	Changes
	reserve uint64
	records map[string][]byte
	writes  int
}

func newLockDisk() *lockDisk { return &lockDisk{records: make(map[string][]byte)} }

func (d *lockDisk) ReserveTokens(upTo uint64) { d.reserve = upTo }

func (d *lockDisk) PutLock(name string, l *record.Lock) {
	d.writes++
	d.records[name] = record.AppendLock(nil, l)
}

func (d *lockDisk) DeleteLock(name string) {
	assert(d.records[name] != nil, "only what was written is deleted")
	d.writes++
	delete(d.records, name)
}

// read returns the record of a name, nil if there is none.
func (d *lockDisk) read(name string) *record.Lock {
	b := d.records[name]
	if b == nil {
		return nil
	}
	l, err := record.DecodeLock(b)
	if err != nil {
		panic(err)
	}
	return l
}

// open returns the machine of a new process.
func (d *lockDisk) open(now Time) *Locks {
	l := NewLocks(NewTokens(d.reserve, 0), [16]byte{})
	for _, name := range slices.Sorted(maps.Keys(d.records)) {
		l.Restore(now, name, d.read(name))
	}
	return l
}

// clone returns a disk of its own with the same content.
func (d *lockDisk) clone() *lockDisk {
	return &lockDisk{reserve: d.reserve, records: maps.Clone(d.records)}
}

func (d *lockDisk) String() string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(d.records)) {
		l := d.read(name)
		var parts []string
		for _, g := range l.Grants {
			s := fmt.Sprintf("%s#%d ttl=%v", g.Holder, g.Token, g.TTL)
			if g.Revoked {
				s += " revoked"
			}
			parts = append(parts, s)
		}
		if l.ClosedFor > 0 {
			parts = append(parts, fmt.Sprintf("closed=%v", l.ClosedFor))
		}
		names = append(names, fmt.Sprintf("%s{%s}", name, strings.Join(parts, ", ")))
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, " ")
}
