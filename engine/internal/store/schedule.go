package store

import (
	"errors"
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// The parts of a schedule.
const (
	scheduleSpec  = 'd'
	scheduleState = 't'
)

var errNoState = errors.New("a schedule without its state")

func appendScheduleKey(b []byte, part byte, name string) []byte {
	return append(append(b, keySchedule, part), name...)
}

// PutSchedule implements machine.Changes.
func (b *Batch) PutSchedule(s *queuedriver.Schedule) {
	b.key = appendScheduleKey(b.key[:0], scheduleSpec, s.Name)
	b.value = record.AppendSchedule(b.value[:0], s)
	b.put()
}

// PutScheduleState implements machine.Changes.
func (b *Batch) PutScheduleState(name string, s *record.ScheduleState) {
	b.key = appendScheduleKey(b.key[:0], scheduleState, name)
	b.value = record.AppendScheduleState(b.value[:0], s)
	b.put()
}

// DeleteSchedule implements machine.Changes.
func (b *Batch) DeleteSchedule(name string) {
	for _, part := range [...]byte{scheduleSpec, scheduleState} {
		b.key = appendScheduleKey(b.key[:0], part, name)
		b.delete()
	}
}

// Schedules calls fn for every schedule, in byte order of the names.
func (s *Store) Schedules(fn func(*queuedriver.Schedule, *record.ScheduleState) error) error {
	states := make(map[string]*record.ScheduleState)
	err := each(s, appendScheduleKey(nil, scheduleState, ""), appendScheduleKey(nil, scheduleState+1, ""), record.DecodeScheduleState,
		func(key []byte, state *record.ScheduleState) error {
			states[string(key[2:])] = state
			return nil
		})
	if err != nil {
		return err
	}
	// Body and headers are part of the value: copy it.
	decode := func(b []byte) (*queuedriver.Schedule, error) { return record.DecodeSchedule(slices.Clone(b)) }
	return each(s, appendScheduleKey(nil, scheduleSpec, ""), appendScheduleKey(nil, scheduleSpec+1, ""), decode,
		func(key []byte, spec *queuedriver.Schedule) error {
			state := states[spec.Name]
			if state == nil {
				return corrupt(key, errNoState)
			}
			return fn(spec, state)
		})
}
