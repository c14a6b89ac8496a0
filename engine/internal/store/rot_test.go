package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
)

// kindOf is what a file of a store is, as far as its name tells.
func kindOf(file string) string {
	base := path.Base(file)
	switch {
	case strings.HasPrefix(base, "MANIFEST"), strings.HasPrefix(base, "OPTIONS"), strings.HasPrefix(base, "marker"):
		return base[:6]
	case path.Ext(base) != "":
		return path.Ext(base)
	}
	return base
}

// TestRot flips bits in every file of a closed store, then opens it and reads
// everything: the flip must be harmless or an error, never a difference.
func TestRot(t *testing.T) {
	disk := storetest.NewDisk()
	s := openDisk(t, disk)
	g := newScribbler(5)
	for range 30 {
		commit(t, s, g.fill)
	}
	want, err := dump(s)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	detected, harmless := map[string]int{}, map[string]int{}
	for _, file := range disk.Files(dir) {
		info, err := disk.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(uint64(int64(len(file))), 0))
		end := info.Size()
		if kindOf(file) == ".log" { // behind it are the zeros that it was to grow into
			end = int64(len(bytes.TrimRight(content(t, disk, file), "\x00")))
		}
		n := min(int(end), 24)
		if kindOf(file) != ".log" { // most of a log is behind a flush, and not read
			n = min(n, 24/thinning)
		}
		for i := range n {
			at := rng.Int64N(end)
			switch {
			case i < 4:
				at = end - 1 - int64(i) // ends are where a flip looks like a crash
			case i < 6 && end < info.Size():
				at = end + rng.Int64N(info.Size()-end)
			}
			copied := disk.Crash(0, 1)
			copied.Flip(file, at, uint(rng.IntN(8)))
			if err := compare(t, copied, want); err == nil {
				harmless[kindOf(file)]++
			} else if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Errorf("%s, byte %d: an error without a class: %v", file, at, err)
			} else {
				detected[kindOf(file)]++
			}
			if t.Failed() {
				t.Fatalf("%s, byte %d of %d", file, at, info.Size())
			}
		}
	}
	t.Logf("detected %v, harmless %v", detected, harmless)
	for _, kind := range []string{".sst", ".log", "MANIFE", identityName} {
		if detected[kind] == 0 {
			t.Errorf("nothing was detected in %s files", kind)
		}
	}
}

// compare opens the store and reports a difference to t, an error to the caller.
func compare(t *testing.T, d *storetest.Disk, want state) error {
	t.Helper()
	s, err := Open(diskOptions(d))
	if err != nil {
		return err
	}
	defer s.Close()
	got, err := dump(s)
	if err != nil {
		return err
	}
	if d := diff(want, got); d != "" {
		t.Errorf("a flipped bit changed what is read: %s", d)
	}
	return nil
}

// TestManifestRotAfterCrash flips bits of the manifest of a store that was not
// closed: records behind the damage show that it is no crash's doing.
func TestManifestRotAfterCrash(t *testing.T) {
	disk := storetest.NewDisk()
	s := openDisk(t, disk)
	g := newScribbler(6)
	for s.Stats().Flushes < 4 {
		commit(t, s, g.fill)
	}
	crashed := disk.Crash(0, 1)
	closeStore(t, s)
	for _, file := range crashed.Files(dir) {
		if kindOf(file) != "MANIFE" {
			continue
		}
		for _, at := range []int64{0, 3, 4, 6, 7, 20} {
			copied := crashed.Crash(0, 1)
			copied.Flip(file, at, 3)
			if s, err := Open(diskOptions(copied)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("byte %d: %v, %v", at, s, err)
			}
		}
	}
}
