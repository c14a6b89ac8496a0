package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tourMark stands on a line of its own in README.md before each fenced sh
// block that belongs to the tour. The blocks are run as one script, as if they
// were pasted one after another into a shell in the repository, with a server
// running.
const tourMark = "<!-- tour -->\n```sh\n"

// tour returns the blocks of the README's tour.
func tour(t *testing.T, readme string) []string {
	t.Helper()
	var blocks []string
	parts := strings.Split(readme, tourMark)
	for _, part := range parts[1:] {
		block, _, closed := strings.Cut(part, "```\n")
		if !closed {
			t.Fatalf("a block is not closed: %.80q", part)
		}
		blocks = append(blocks, block)
	}
	if strings.Count(readme, "<!-- tour") != len(blocks) {
		t.Fatalf("%d marks and %d blocks: a mark stands right before ```sh", strings.Count(readme, "<!-- tour"), len(blocks))
	}
	return blocks
}

// The tour runs in a directory with links to the repository's files, so that
// what it writes does not land among them, and against a daemon on a free
// port instead of the default one.
func TestREADMETour(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := tour(t, string(readme))
	if len(blocks) < 3 {
		t.Fatalf("the tour has %d blocks", len(blocks))
	}
	dir := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "bin" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := os.Symlink(filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	d := startDaemon(t)
	script := strings.ReplaceAll(strings.Join(blocks, "\n"), "http://127.0.0.1:7420", d.url)
	cmd := exec.Command("bash", "-eu", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+d.url, "GOFLAGS=-buildvcs=false")
	r := begin(t, cmd).waitFor(pagePatience)
	if r.status != 0 {
		t.Fatalf("status %d\n%s%s", r.status, r.out, r.err)
	}
	for _, want := range []string{
		"larger than the first", // a lock, waited for
		"nightly-report",        // the list of locks
		"+ queue payments",      // apply
		"was published before",  // the deduplicated retry
		`{"order":1}`,           // consume
		"moved 1 message",       // redrive
		`"order\":2}"`,          // consume --json
		`"token":"`,             // curl, a lock
		`hello`,                 // curl, a message
		"invariants: all hold",  // demo
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in what the tour prints:\n%s\n%s", want, r.out, r.err)
		}
	}
}
