package frame

import (
	"errors"
	"testing"
)

// pipe is what an Outbox writes to: each write waits for its turn.
type pipe struct {
	begun chan []byte
	turn  chan error
}

func newPipe() *pipe { return &pipe{begun: make(chan []byte, 1), turn: make(chan error)} }

func (p *pipe) write(_, batch []byte, _ int) error {
	p.begun <- append([]byte(nil), batch...)
	return <-p.turn
}

func ids(t *testing.T, batch []byte) (ids []uint64) {
	t.Helper()
	for len(batch) > 0 {
		f, rest, err := Next(batch)
		if err != nil {
			t.Fatal(err)
		}
		ids, batch = append(ids, f.ID), rest
	}
	return ids
}

func (p *pipe) expect(t *testing.T, want ...uint64) {
	t.Helper()
	got := ids(t, <-p.begun)
	if len(got) != len(want) {
		t.Fatalf("a batch of %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("a batch of %v, want %v", got, want)
		}
	}
}

// TestFlushBySender: a sender that finds the outbox idle writes its frame and
// those of others that come meanwhile; frames past its bound are written by
// somebody else, and it goes.
func TestFlushBySender(t *testing.T) {
	p := newPipe()
	o := NewOutbox(p.write, func(error) {})
	body := AppendPing(nil)
	first, idle, err := o.Add(1, body, 0, nil)
	if err != nil || !idle {
		t.Fatalf("idle %v, %v", idle, err)
	}
	left := make(chan struct{})
	go func() {
		o.Flush(3 * first)
		close(left)
	}()
	p.expect(t, 1)
	for id := uint64(2); id <= 3; id++ {
		if number, idle, err := o.Add(id, body, 0, nil); err != nil || idle || number != id*first {
			t.Fatalf("frame %d: number %d of %d, idle %v, %v", id, number, first, idle, err)
		}
	}
	if !o.Left(first) || o.Left(2*first) {
		t.Error("what has left is not known")
	}
	p.turn <- nil
	p.expect(t, 2, 3)
	if _, idle, err := o.Add(4, body, 0, nil); err != nil || idle {
		t.Fatalf("idle %v, %v", idle, err)
	}
	p.turn <- nil
	<-left // past its bound
	p.expect(t, 4)
	p.turn <- nil
	o.Idle()
	if n := o.Bytes(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	if _, idle, err := o.Add(5, body, 0, nil); err != nil || !idle {
		t.Fatalf("afterwards: idle %v, %v", idle, err)
	}
	o.Flush(0)
	p.expect(t, 5)
	o.Close()
	p.turn <- errors.New("broken")
	o.Idle()
	if _, _, err := o.Add(6, body, 0, nil); !errors.Is(err, ErrOutboxClosed) {
		t.Errorf("a frame after the end: %v", err)
	}
}

// TestFlushIsBounded: a sender does not write for others without end.
func TestFlushIsBounded(t *testing.T) {
	p := newPipe()
	o := NewOutbox(p.write, func(error) {})
	body := AppendPing(nil)
	if _, _, err := o.Add(1, body, 0, nil); err != nil {
		t.Fatal(err)
	}
	left := make(chan struct{})
	go func() {
		o.Flush(1 << 20)
		close(left)
	}()
	for id := uint64(1); id <= flushes; id++ {
		p.expect(t, id)
		if _, _, err := o.Add(id+1, body, 0, nil); err != nil {
			t.Fatal(err)
		}
		p.turn <- nil
	}
	<-left
	p.expect(t, flushes+1)
	p.turn <- nil
	o.Idle()
}
