// Package store keeps the engine's state on disk, in Pebble. Nothing but this
// package touches the directory; this comment is the on-disk format.
//
// # Directory
//
//	LOCK        held by the process that has the store open
//	LOCKKEEPER  what the directory is: format version, incarnation, and
//	            whether and with which round it was closed (see Identity)
//	data/       Pebble's own files
//
// LOCKKEEPER is replaced by rename, and synced, on creation, open and clean
// close. A directory that has other content and no LOCKKEEPER file is refused
// before anything is written.
//
// # Keys
//
// Numbers in keys are big-endian, so that byte order is number order. q is
// the number of a queue, p always 0 (priorities are the top byte of the
// sequence numbers), hash the first 16 bytes of a
// SHA-256. A due time has its sign bit flipped.
//
//	m 0                     record.Meta
//	m 1                     number of the last round (batch) applied
//	m 2                     of an older program, see below
//	m 3                     1: w and x have every delayed message with an id
//	l name                  record.Lock
//	t e name                an exchange
//	t q name                record.Queue
//	t b hash                a binding; the hash is of its record
//	b q4 p1 firstSeq8       a block of messages
//	i q4 p1 firstSeq8       record.IndexBlock of that block
//	a q4 p1 segment8        record.AckSet, merged by union
//	r q4 p1 seq8            record.Attempt
//	f q4 fetch8             record.Fetch
//	d q4 due8 seq8          record.Delayed
//	w q4 class1 bucket8 seq8  []record.Waiting: where delayed messages with an
//	                        id lie, from number seq on
//	x q4 hash due8 seq8     the same of one message: empty value; the hash is
//	                        of the id
//	u q4 bucket8 hash       a dedup id: empty value; the hash is of the id
//	c q4                    record.Counters
//	y class1 bucket8 hash   record.Result of a commit; the hash is of its id
//	p q4                    []record.Level, of a queue with priorities
//	s d name                a schedule
//	s t name                record.ScheduleState
//	o q4 consumer           the offset that a consumer of a stream reads next
//
// A batch notes its delayed messages in w, a record for each bucket and 1,024
// messages. Buckets of class n are 64 s times 4^n wide, by when the messages
// are due, and a message has the first class of which four buckets last as long
// as it has to wait. What is noted stays when its message is gone, so one that
// is not in d does not count; a bucket that is over is dropped as one range. A
// message gets a key in x instead when there is no room for its id in memory,
// see below; an older program had no other. A store that was made before there
// was either gets x at its first open: one pass over d. So does one with m 3
// and no m 2 in an older program, which knows no w.
//
// Results of commits lie in buckets by the time of the commit, whose width
// depends on the class: class n has buckets of 4^n minutes. A result has the
// class of which three buckets last as long as it is to be remembered, and a
// bucket that is over for that long is dropped as one range. Until when a
// result counts is in its record.
//
// A stream has b and i like any queue, and no a, r and f: its messages go by
// whole segments. Its blocks are stamped with times that never go back.
//
// Every value is a record sealed with a checksum over its key and itself
// (record.Seal), but for blocks, which have a checksum for each message
// (record.AppendBlock). A value that does not match is ErrCorrupt, with the
// key in the message.
//
// # What is durable
//
// A Batch is applied as a whole or not at all, in the order of the Apply
// calls, and is durable when its Pending.Wait returned nil. Before that it is
// visible to reads: replies must wait. After a crash the store has a prefix of
// the batches applied, which contains every batch whose Wait returned nil.
//
// A log may end in zeros, at most 256 KiB of them: space to which the next
// records can be synced without a change of the file's size.
//
// # Damage
//
// Pebble checks its tables and logs; a damaged log record that is followed by
// a synced one is corruption, one at the very end of the log is what a crash
// leaves behind and is cut off. So that damage to the end of a log or
// manifest of a store that was closed is not mistaken for a crash, every batch
// counts up a round number and a clean close writes it down: a store that
// opens with another round is ErrCorrupt. Pebble takes a manifest that ends in
// garbage as shorter; package store looks for valid records behind the
// garbage and refuses it then.
//
// # Failure
//
// After the first failed write or sync of a log or manifest nothing more
// reaches the disk, and every call returns ErrFailed for ever: what a file
// holds after a failed sync is not known. Opening the directory again recovers
// everything that was confirmed. Pebble itself would panic, deadlock or end
// the process; package store keeps the error from it instead (guard.go).
//
// A failed flush or compaction loses nothing and is retried; meanwhile Stalled
// says why. If an Apply waits for one longer than Options.StallLimit, the store
// fails too, instead of letting everybody hang.
//
// # Memory
//
// For a directory at most three memtables of 64 MiB and a block cache of
// 64 MiB; in a build without cgo both are Go heap, which GOMEMLIMIT must allow
// for. A memtable begins with 256 KiB and doubles as it fills; it may become
// that large so that most large bodies are gone before it is written to a
// table. In memory: two memtables of 8 MiB and a cache of 8 MiB besides
// the data itself. Opening replays at most the memtables' worth of log.
//
// The dedup ids are also in memory, as sets of hashes that spare a read for an
// id that is new: about 6.5 bytes for each id, 64 MiB at most for all of them.
// Ids past that are looked for in the store. After an open the sets are filled
// in the background, in about a second for 1,000,000 ids; until then ids are
// looked for in the store too.
//
// So are the ids of delayed messages, at most 64 MiB too, for each piece of w
// of up to 8,192 messages: who cancels one reads the pieces that may have it.
// After an open he waits until these sets are filled.
package store
