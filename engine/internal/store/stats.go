package store

import (
	"sync"
	"time"
)

// SyncBounds are the upper bounds of the buckets of Stats.Syncs.
var SyncBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Syncs describes the syncs of the log since the store was opened.
type Syncs struct {
	Count   uint64
	Total   time.Duration
	Buckets [len(SyncBounds) + 1]uint64 // not cumulative; the last is beyond all bounds
}

// Stats describes the store at one moment. Counts are since it was opened.
type Stats struct {
	DiskBytes         uint64 // of all files, obsolete ones included
	LogBytes          uint64 // of the log that an open would replay
	MemTableBytes     uint64
	CacheBytes        int64
	Rounds            uint64 // ever applied to this store
	Flushes           int64
	Compactions       int64
	CompactionDebt    uint64 // bytes that wait for compaction, estimated
	FailedTableWrites int64  // since one last worked
	LogBytesWritten   uint64
	TableBytesWritten uint64
	ReadAmplification int
	Syncs             Syncs
}

// Stats costs some microseconds and takes Pebble's lock.
func (s *Store) Stats() Stats {
	if s.gate.enter() != nil {
		return Stats{}
	}
	defer s.gate.exit()
	m := s.db.Metrics()
	total := m.Total()
	s.applyMu.Lock()
	rounds := s.round
	s.applyMu.Unlock()
	return Stats{
		DiskBytes:         m.DiskSpaceUsage(),
		LogBytes:          m.WAL.Size,
		MemTableBytes:     m.MemTable.Size,
		CacheBytes:        m.BlockCache.Size,
		Rounds:            rounds,
		Flushes:           m.Flush.Count,
		Compactions:       m.Compact.Count,
		CompactionDebt:    m.Compact.EstimatedDebt,
		FailedTableWrites: s.guard.retries.Load(),
		LogBytesWritten:   m.WAL.BytesWritten,
		TableBytesWritten: total.TableBytesFlushed + total.TableBytesCompacted,
		ReadAmplification: m.ReadAmp(),
		Syncs:             s.syncs.get(),
	}
}

// latency counts syncs.
type latency struct {
	mu sync.Mutex
	s  Syncs
}

func (l *latency) add(d time.Duration) {
	i := 0
	for i < len(SyncBounds) && d > SyncBounds[i] {
		i++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.Count++
	l.s.Total += d
	l.s.Buckets[i]++
}

func (l *latency) get() Syncs {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s
}
