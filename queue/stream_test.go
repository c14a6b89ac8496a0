package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// streamConn is a driver whose one stream has a number of messages.
type streamConn struct {
	*fakeConn
	fail   error // of the next read
	saves  []uint64
	saved  uint64
	length uint64
	grown  chan struct{}
}

func (c *streamConn) ReadStream(ctx context.Context, r *driver.StreamRequest) (*driver.StreamBatch, error) {
	if err := c.fail; err != nil {
		c.fail = nil
		return nil, err
	}
	from := r.Offset
	if r.From == driver.FromFirst {
		from = 1
	}
	if r.From == driver.FromNext {
		from = c.length + 1
	}
	if from > c.length {
		select {
		case <-c.grown:
		case <-time.After(r.Wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b := &driver.StreamBatch{Next: from}
	for ; b.Next <= c.length && len(b.Messages) < r.Max; b.Next++ {
		b.Messages = append(b.Messages, driver.StreamMessage{Offset: b.Next, Message: msg(fmt.Sprint(b.Next))})
	}
	return b, nil
}

func (c *streamConn) SaveOffset(_ context.Context, _, _ string, offset uint64) error {
	c.saved = offset
	c.saves = append(c.saves, offset)
	return nil
}

func (c *streamConn) Offsets(context.Context, string, string) ([]driver.Offset, error) {
	if c.saved == 0 {
		return nil, ErrNotFound
	}
	return []driver.Offset{{Consumer: "c", Offset: c.saved}}, nil
}

func newStream(length uint64) *streamConn {
	return &streamConn{fakeConn: newFake(), length: length, grown: make(chan struct{})}
}

func streamReader(t *testing.T, c *streamConn, o *StreamOptions) *StreamReader {
	t.Helper()
	b := New(c, &Config{Clock: lease.GoClock(), Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { b.Close() })
	r, err := b.Stream("s", o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantNext(t *testing.T, r *StreamReader, offset uint64) {
	t.Helper()
	m, err := r.Next(t.Context())
	if err != nil || m.Offset != offset {
		t.Fatalf("Next: %+v, %v, want offset %d", m, err, offset)
	}
}

// Only what is known to be handled is saved: the message that was given last
// is read again.
func TestStreamSavesWhatWasHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStream(5)
		r := streamReader(t, c, &StreamOptions{Consumer: "c", Batch: 2})
		for n := range uint64(4) {
			wantNext(t, r, n+1)
		}
		if len(c.saves) > 0 {
			t.Errorf("saved %v too soon", c.saves)
		}
		if err := r.Close(); err != nil || c.saved != 4 {
			t.Errorf("Close: %v, saved %d, want 4", err, c.saved)
		}
		_, err := r.Next(t.Context())
		wantIs(t, err, ErrClosed)
		wantNext(t, streamReader(t, c, &StreamOptions{Consumer: "c", From: FromNext}), 4)
	})
}

// A consumer that begins at the end has its place there at once: what comes
// while it is away is not passed over.
func TestStreamSavesWhereItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStream(5)
		r := streamReader(t, c, &StreamOptions{Consumer: "c", From: FromNext})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := r.Next(ctx)
			done <- err
		}()
		synctest.Wait()
		if c.saved != 6 {
			t.Errorf("saved %d while it waits, want 6", c.saved)
		}
		cancel()
		wantIs(t, <-done, context.Canceled)
		if err := r.Close(); err != nil || c.saved != 6 {
			t.Errorf("Close: %v, saved %d", err, c.saved)
		}
		c.length = 8
		wantNext(t, streamReader(t, c, &StreamOptions{Consumer: "c", From: FromNext}), 6)
	})
}

// An offset is saved after SaveEvery messages, and after SaveAfter, also while
// Next waits.
func TestStreamSavesNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStream(7)
		r := streamReader(t, c, &StreamOptions{Consumer: "c", SaveEvery: 3})
		for n := range uint64(7) {
			wantNext(t, r, n+1)
		}
		if fmt.Sprint(c.saves) != "[4 7]" {
			t.Errorf("saved %v, want 4 and 7", c.saves)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*DefaultSaveAfter)
		defer cancel()
		_, err := r.Next(ctx)
		wantIs(t, err, context.DeadlineExceeded)
		if c.saved != 8 {
			t.Errorf("saved %v, want 8 at last", c.saves)
		}
	})
}

func TestStreamGoesOnAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStream(1)
		r := streamReader(t, c, nil)
		wantNext(t, r, 1)
		c.fail, c.length = errors.New("gone for a moment"), 2
		wantNext(t, r, 2)
		c.fail = ErrNotFound
		_, err := r.Next(t.Context())
		wantIs(t, err, ErrNotFound)
	})
}

// Close ends a Next that waits.
func TestStreamCloseEndsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamReader(t, newStream(0), nil)
		done := make(chan error, 1)
		go func() {
			_, err := r.Next(context.Background())
			done <- err
		}()
		synctest.Wait()
		r.Close()
		wantIs(t, <-done, ErrClosed)
	})
}

// With ToEnd reading ends where there is nothing more.
func TestStreamToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamReader(t, newStream(3), &StreamOptions{ToEnd: true, Batch: 2})
		n := uint64(0)
		for m, err := range r.All(t.Context()) {
			if n++; err != nil || m.Offset != n {
				t.Fatalf("message %d: %+v, %v", n, m, err)
			}
		}
		if n != 3 {
			t.Errorf("read %d messages, want 3", n)
		}
		_, err := r.Next(t.Context())
		wantIs(t, err, io.EOF)
	})
}

func TestStreamOptions(t *testing.T) {
	b := New(newStream(0), nil)
	defer b.Close()
	for what, o := range map[string]*StreamOptions{
		"a batch past its limit": {Batch: driver.MaxReceive + 1},
		"an unknown start":       {From: "middle"},
		"two starts":             {From: FromLast, Offset: 1},
		"negative SaveEvery":     {SaveEvery: -1},
		"negative SaveAfter":     {SaveAfter: -1},
		"a bad consumer":         {Consumer: "\x00"},
	} {
		if _, err := b.Stream("s", o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := b.Stream("s", &StreamOptions{Batch: driver.MaxReceive, Offset: 1}); err != nil {
		t.Error(err)
	}
}
