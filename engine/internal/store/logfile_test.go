package store

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
)

const logName = "/000001.log"

// logOn opens a log by itself, and returns it with what its size is.
func logOn(t *testing.T, d *storetest.Disk, open func(*guard) (vfs.File, error)) (write func(n int), size func() int64) {
	t.Helper()
	g := newGuard(d, newFailure(slog.New(slog.DiscardHandler)), 0)
	g.syncs = new(latency)
	f, err := open(g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	write = func(n int) {
		t.Helper()
		if _, err := f.Write(bytes.Repeat([]byte{1}, n)); err != nil {
			t.Fatal(err)
		}
		if err := f.SyncData(); err != nil {
			t.Fatal(err)
		}
	}
	return write, func() int64 {
		info, err := d.Stat(logName)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
}

func createLog(g *guard) (vfs.File, error) { return g.Create(logName, vfs.WriteCategoryUnspecified) }

// content returns the file's bytes.
func content(t *testing.T, d *storetest.Disk, name string) []byte {
	t.Helper()
	f, err := d.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A log grows in few of its syncs if these are small, by at most so much, and
// its records are what was written.
func TestLogGrowsAhead(t *testing.T) {
	d := storetest.NewDisk()
	write, size := logOn(t, d, createLog)
	const each, n = 1000, 2000
	grown, last := 0, int64(0)
	for i := range n {
		write(each)
		s := size()
		if s > last {
			grown++
		}
		if ahead := s - each*int64(i+1); ahead < 0 || ahead > maxAhead {
			t.Fatalf("%d bytes ahead after %d", ahead, each*(i+1))
		}
		last = s
	}
	if most := minAheadSyncs + 4 + n*each/(maxAhead-minAhead); grown > most {
		t.Errorf("the file grew in %d of %d syncs, at most %d are allowed", grown, n, most)
	}
	b := content(t, d, logName)
	if i := bytes.IndexByte(b, 0); i != n*each || bytes.ContainsRune(b[i:], 1) {
		t.Errorf("the records end at %d of %d bytes", i, n*each)
	}
}

// A log that is hardly written has nothing but its records.
func TestLogStaysShort(t *testing.T) {
	d := storetest.NewDisk()
	write, size := logOn(t, d, createLog)
	for i := range int64(minAheadSyncs) {
		if s := size(); s != i*10 {
			t.Errorf("%d bytes after %d syncs", s, i)
		}
		write(10)
	}
	if s := size(); s != minAhead {
		t.Errorf("%d bytes after %d syncs", s, minAheadSyncs)
	}
}

// Where syncs are large each byte is written once; and again when they become
// small.
func TestLogNotAheadOfLargeSyncs(t *testing.T) {
	d := storetest.NewDisk()
	write, size := logOn(t, d, createLog)
	at := int64(0)
	for range 20 {
		write(maxAheadSync + 1)
		if at += maxAheadSync + 1; size() != at {
			t.Fatalf("%d bytes for %d", size(), at)
		}
	}
	for range minAheadSyncs {
		write(maxAheadSync)
		at += maxAheadSync
	}
	if size() <= at {
		t.Error("nothing is ahead of syncs of the largest size")
	}
}

// A log that Pebble uses again grows when it is at the end of what it was.
func TestLogUsedAgain(t *testing.T) {
	d := storetest.NewDisk()
	const old = 100_000
	d.Put("/000000.log", bytes.Repeat([]byte{2}, old))
	write, size := logOn(t, d, func(g *guard) (vfs.File, error) {
		return g.ReuseForWrite("/000000.log", logName, vfs.WriteCategoryUnspecified)
	})
	for at := 1000; at < old; at += 1000 {
		write(1000)
		if s := size(); s != old {
			t.Fatalf("%d bytes after %d", s, at)
		}
	}
	write(1000)
	if b := content(t, d, logName); len(b) <= old || bytes.ContainsAny(b, "\x02") {
		t.Errorf("%d bytes at the end", len(b))
	}
}

// A disk that has no room for the zeros has it for the records.
func TestFullDiskAhead(t *testing.T) {
	d := storetest.NewDisk()
	write, size := logOn(t, d, createLog)
	d.SetQuota(30_000)
	for range 30 {
		write(1000)
	}
	if size() != 30_000 {
		t.Errorf("%d bytes", size())
	}
}

// ahead reports whether the op writes zeros behind the records of a log.
func ahead(op storetest.Op) bool { return op.At && isLog(op.Path) }

// A store whose disk refuses to take zeros goes on as if there were none.
func TestFailureAhead(t *testing.T) {
	const rounds = 30
	states := history(t, 7, rounds)
	d := storetest.NewDisk()
	s := openDisk(t, d)
	var refused atomic.Int64
	d.OnOp(func(op storetest.Op) error {
		if ahead(op) {
			refused.Add(1)
			return syscall.ENOSPC
		}
		return nil
	})
	g := newScribbler(7)
	for range rounds {
		commit(t, s, g.fill)
	}
	closeStore(t, s)
	d.OnOp(nil)
	if refused.Load() == 0 {
		t.Error("there was nothing to refuse")
	}
	recovered(t, d, states, rounds)
}

// TestCrashAhead crashes before zeros are written, before they are synced and
// behind them, and then anywhere in the opens that follow: a log that ends in
// zeros is not always the last one then.
func TestCrashAhead(t *testing.T) {
	const rounds = 12
	states := history(t, 8, rounds)
	d := storetest.NewDisk()
	var mu sync.Mutex
	confirmed, zeroed := 0, false
	type crash struct {
		disk  *storetest.Disk
		least int
	}
	var crashes []crash
	d.OnOp(func(op storetest.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if isLog(op.Path) && (ahead(op) || zeroed) {
			crashes = append(crashes, crash{d.Crash(0, 1), confirmed}, crash{d.Crash(50, int64(len(crashes))), confirmed})
			zeroed = ahead(op) // then the sync, too
		}
		return nil
	})
	s := openDisk(t, d)
	g := newScribbler(8)
	for range rounds {
		commit(t, s, g.fill)
		mu.Lock()
		confirmed++
		mu.Unlock()
	}
	d.OnOp(nil)
	crashes = append(crashes, crash{d.Crash(0, 1), rounds}, crash{d.Crash(100, 1), rounds})
	closeStore(t, s)
	if len(crashes) < 6 {
		t.Fatalf("%d crashes: nothing was written ahead", len(crashes))
	}
	again := 0
	for i, c := range crashes {
		var inOpen []*storetest.Disk
		var mu sync.Mutex
		c.disk.OnOp(func(storetest.Op) error {
			mu.Lock()
			defer mu.Unlock()
			inOpen = append(inOpen, c.disk.Crash(50*(i%3), int64(len(inOpen))))
			return nil
		})
		recovered(t, c.disk, states, c.least)
		c.disk.OnOp(nil)
		for j, disk := range inOpen {
			if (i+j)%(4*thinning) == 0 { // the opens are much alike
				recovered(t, disk, states, c.least)
				again++
			}
			if t.Failed() {
				t.Fatalf("crash %d, in the open after it at %d", i, j)
			}
		}
	}
	t.Logf("%d crashes, %d in the opens after them", len(crashes), again)
}

// TestOlderLogAhead opens a store of which several logs have to be read, each
// with zeros behind its end.
func TestOlderLogAhead(t *testing.T) {
	const rounds = 40
	states := history(t, 9, rounds)
	d := storetest.NewDisk()
	o := diskOptions(d)
	o.StallLimit = time.Minute
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	d.OnOp(func(op storetest.Op) error {
		if strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	})
	g := newScribbler(9)
	confirmed := 0
	for range rounds {
		if logs := zeroTails(t, d); logs == 2 {
			break
		}
		commit(t, s, g.fill)
		confirmed++
	}
	if n := zeroTails(t, d); n < 2 {
		t.Fatalf("%d logs end in zeros after %d rounds", n, confirmed)
	}
	crashed := d.Crash(0, 1)
	d.OnOp(nil)
	_ = s.Close() // a flush may have failed lately
	if n := recovered(t, crashed, states, confirmed); n != confirmed {
		t.Errorf("round %d of %d after a crash", n, confirmed)
	}
}

// zeroTails counts the logs that end in zeros.
func zeroTails(t *testing.T, d *storetest.Disk) (n int) {
	t.Helper()
	for _, file := range d.Files(dir) {
		if !isLog(file) {
			continue
		}
		if b := content(t, d, file); len(b) > 1000 && len(bytes.TrimRight(b, "\x00")) < len(b)-100 {
			n++
		}
	}
	return n
}
