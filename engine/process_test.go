package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// secondOpener makes the test binary a process that opens the directory which
// it names, and says what came of it.
const secondOpener = "LOCKKEEPER_TEST_OPEN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(secondOpener); dir != "" {
		e, err := Open(context.Background(), "file://"+dir, nil)
		if err == nil {
			err = e.Close()
		}
		fmt.Println("opened:", err)
		return
	}
	os.Exit(m.Run())
}

// TestSecondProcess keeps a second process out of a directory, at once and
// with a clear error, for as long as it is open.
func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	attempt := func() string {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), secondOpener+"="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	e := open(t, "file://"+dir, nil)
	if out := attempt(); !strings.Contains(out, "store is open already") || !strings.Contains(out, dir) {
		t.Errorf("a second process got: %s", out)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if out := attempt(); out != "opened: <nil>\n" {
		t.Errorf("after the close: %s", out)
	}
}
