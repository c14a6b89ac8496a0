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
		o.Flush(3*first, true)
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
	o.Flush(0, false)
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
		o.Flush(1<<20, true)
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

// TestGivenBodies: large bodies are sent as they are, behind a head of their
// own, small ones with others; all in the order of the calls.
func TestGivenBodies(t *testing.T) {
	var batches [][]byte
	var heads []int
	turn, begun := make(chan struct{}), make(chan struct{}, 1)
	o := NewOutbox(func(head, batch []byte, _ int) error {
		begun <- struct{}{}
		<-turn
		heads = append(heads, len(head))
		batches = append(batches, append(append([]byte(nil), head...), batch...))
		return nil
	}, func(error) {})
	sizes := []int{1, Flush + 1, 2, 3, 1 << 20, 4}
	var total uint64
	for i, size := range sizes {
		b := BufferFor(size)
		*b = AppendReply(*b, &Answer{Body: make([]byte, size)})
		number, err := o.Give(uint64(i+1), b, 0, nil)
		if err != nil || number <= total {
			t.Fatalf("frame %d: number %d after %d, %v", i, number, total, err)
		}
		total = number
		if i == 0 {
			<-begun // alone
		}
	}
	if n := o.Bytes(); uint64(n) != total {
		t.Errorf("%d bytes wait, of %d", n, total)
	}
	go func() {
		for range begun {
			turn <- struct{}{}
		}
	}()
	turn <- struct{}{}
	o.Idle()
	close(begun)
	var got []uint64
	var bytes int
	for i, b := range batches {
		if n := Announced(b); heads[i] > 0 && n != len(b) {
			t.Errorf("batch %d of %d bytes announces %d", i, len(b), n)
		}
		got, bytes = append(got, ids(t, b)...), bytes+len(b)
	}
	for i := range sizes {
		if len(got) != len(sizes) || got[i] != uint64(i+1) {
			t.Fatalf("frames %v", got)
		}
	}
	if uint64(bytes) != total || len(batches) != 5 {
		t.Errorf("%d bytes in %d batches, want %d in 5", bytes, len(batches), total)
	}
	o.Close()
	if _, err := o.Give(9, BufferFor(1<<20), 0, nil); !errors.Is(err, ErrOutboxClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestAnnounced: it says the length once the length is there, and nothing of
// what is no frame or is larger than a batch may be.
func TestAnnounced(t *testing.T) {
	whole := AppendFrame(nil, 7, AppendReply(nil, &Answer{Body: make([]byte, 1000)}))
	for n := range whole {
		want := len(whole)
		if n < 3 { // tag, and a length of two bytes
			want = 0
		}
		if got := Announced(whole[:n]); got != want {
			t.Fatalf("%d of %d bytes announce %d", n, len(whole), got)
		}
	}
	for _, b := range [][]byte{{}, {0x12, 5}, {0x08, 5}, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f}} {
		if got := Announced(b); got != 0 {
			t.Errorf("%x announces %d", b, got)
		}
	}
}

// TestGrow: what is in a buffer stays, and buffers of the pools have the room
// that is asked for.
func TestGrow(t *testing.T) {
	b := Buffer()
	*b = append(*b, "abc"...)
	for _, size := range []int{8, keepBuffer, keepBuffer + 1, keepLarge + 1} {
		if b = Grow(b, size); string(*b) != "abc" || cap(*b) < size {
			t.Fatalf("grown to %d: %q of %d", size, *b, cap(*b))
		}
	}
	Free(b)
	for _, size := range []int{keepBuffer + 1, keepLarge} {
		if b := BufferFor(size); len(*b) != 0 || cap(*b) < size {
			t.Errorf("a buffer for %d has %d of %d", size, len(*b), cap(*b))
		}
	}
}
