package drivertest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// Wrong is a URL that cannot work.
type Wrong struct {
	URL  string
	Want error
	Says string // in the error
}

// Refused opens URLs that cannot work, and wants for each a clear error that
// does not show the password ("wrong"), within most.
func Refused[C io.Closer](t *testing.T, open func(ctx context.Context, url string) (C, error), most time.Duration, wrong ...Wrong) {
	t.Helper()
	for _, w := range wrong {
		start := time.Now()
		conn, err := open(context.Background(), w.URL)
		switch {
		case err == nil:
			t.Errorf("%s: opened", w.URL)
			conn.Close()
		case !errors.Is(err, w.Want) || !strings.Contains(err.Error(), w.Says):
			t.Errorf("%s: %v; want %v that says %q", w.URL, err, w.Want, w.Says)
		case strings.Contains(err.Error(), ":wrong"):
			t.Errorf("%s: the error has the password: %v", w.URL, err)
		}
		if took := time.Since(start); took > most {
			t.Errorf("%s: it took %v", w.URL, took)
		}
	}
}
