package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
)

func TestOpenTwice(t *testing.T) {
	parent := t.TempDir()
	d := filepath.Join(parent, "s")
	s, err := Open(Options{Dir: d})
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(parent, "link")
	if err := os.Symlink(d, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{d, d + "/.", link} {
		if _, err := Open(Options{Dir: name}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), d) {
			t.Errorf("the second Open of %s: %v", name, err)
		}
	}
	commit(t, s, newScribbler(1).fill)
	closeStore(t, s)
	if err := s.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	s, err = Open(Options{Dir: d})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
}

func TestOpenForeign(t *testing.T) {
	d := storetest.NewDisk()
	d.Put(dir+"/notes.txt", []byte("mine"))
	before := len(d.Files("/"))
	if _, err := Open(diskOptions(d)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "notes.txt") {
		t.Errorf("Open of a foreign directory: %v", err)
	}
	if after := len(d.Files("/")); after != before {
		t.Errorf("%d files were made", after-before)
	}
}

func TestOpenFormat(t *testing.T) {
	d := storetest.NewDisk()
	closeStore(t, openDisk(t, d))
	next := identity{Format: Format + 1, State: stateClosed}
	d.Put(dir+"/"+identityName, []byte(next.text()))
	if _, err := Open(diskOptions(d)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("Open of the next format: %v", err)
	}
	d.Put(dir+"/"+identityName, []byte("something else\n"))
	if _, err := Open(diskOptions(d)); !errors.Is(err, ErrFormat) {
		t.Errorf("Open with a strange file: %v", err)
	}
}

// TestOpenLost takes files away from a store: it must not begin anew.
func TestOpenLost(t *testing.T) {
	d := storetest.NewDisk()
	s := openDisk(t, d)
	commit(t, s, newScribbler(1).fill)
	closeStore(t, s)
	for _, lost := range []string{"/data", "/data/MANIFEST-000001", "/" + identityName} {
		c := d.Crash(0, 1)
		if err := c.RemoveAll(dir + lost); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(diskOptions(c)); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Errorf("without %s: %v", lost, err)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	good := identity{Format: Format, State: stateOpen, Round: 7}
	f.Add(good.text())
	body := "lockkeeper store\nformat 1\n"
	f.Add(fmt.Sprintf("%schecksum %016x\n", body, xxhash.Sum64String(body)))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseIdentity(s)
		if err == nil && id.text() != s {
			t.Errorf("%q is read as %+v", s, id)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Errorf("%q: an error without a class: %v", s, err)
		}
	})
}
