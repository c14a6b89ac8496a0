package store

import "github.com/cockroachdb/pebble/v2/vfs"

// What a log writes ahead of its records, and when.
const (
	minAhead = 32 << 10  // bytes, of a log that is short
	maxAhead = 256 << 10 // bytes, of one that is longer than this

	// maxAheadSync is up to how many bytes a sync has on average where it pays
	// to write each byte twice.
	maxAheadSync = 32 << 10

	// minAheadSyncs is how many syncs are looked at: a log that is hardly
	// written stays as short as what is in it.
	minAheadSyncs = 4
)

// logFile is a log whose syncs mostly find nothing to write but its records. A
// sync of a file that has grown since the one before has the file system write
// a transaction too, which takes as long again as the records. So if the
// syncs are small, every once in a while one of them also writes zeros behind
// the records, and the next ones overwrite these. To preallocate would not do:
// what marks the space as written is a transaction as well.
//
// Zeros are what Pebble takes for the end of a log, as it does the records of an
// earlier log in one that it uses again: it reads on only to find out whether a
// record behind them was written when what is there now had been synced.
//
// It is for one goroutine at a time, as Pebble's writer of logs is.
type logFile struct {
	vfs.File
	at      int64 // where the next record goes
	written int64 // the end of the file
	since   int64 // where the next record went when syncs was 0
	syncs   int64
	full    bool // zeros could not be written
}

// newLogFile wraps what was just opened; a log that is used again keeps its length.
func newLogFile(f vfs.File) *logFile {
	l := &logFile{File: f}
	if info, err := f.Stat(); err == nil {
		l.written = info.Size()
	}
	return l
}

func (f *logFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.at += int64(n)
	f.written = max(f.written, f.at)
	return n, err
}

func (f *logFile) SyncData() error {
	f.writeAhead()
	return f.File.SyncData()
}

func (f *logFile) Sync() error {
	f.writeAhead()
	return f.File.Sync()
}

// writeAhead writes zeros if the sync that follows has a file that has grown,
// and the ones before it were small. If the disk has no room for them, that is
// no harm: then the log goes on without.
func (f *logFile) writeAhead() {
	f.syncs++
	if f.at < f.written || f.syncs < minAheadSyncs || f.full {
		return
	}
	small := f.at-f.since <= f.syncs*maxAheadSync
	f.since, f.syncs = f.at, 0
	if !small {
		return
	}
	end := (f.at + min(max(f.at, minAhead), maxAhead)) &^ (minAhead - 1)
	for f.written < end {
		n, err := f.File.WriteAt(zeros[:min(end-f.written, int64(len(zeros)))], f.written)
		f.written += int64(n)
		if err != nil {
			f.full = true
			return
		}
	}
}

var zeros [maxAhead]byte
